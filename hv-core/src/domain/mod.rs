//! Domains and their vCPUs: they own the tables of floor 3.

pub mod vcpu;

pub use vcpu::{Vcpu, VcpuState};
