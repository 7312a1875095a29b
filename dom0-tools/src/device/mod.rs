//! Disks, network cards and consoles of a domain.
