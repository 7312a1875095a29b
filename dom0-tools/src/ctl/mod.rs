//! The hypervisor's control interface (domctl, sysctl, memory) as typed calls.
