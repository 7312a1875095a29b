//! What of the machine a domain gets: CPUs, memory, time.

use clap::Args;

use crate::config::{CpuSet, Memory};

/// `vcpu-pin`
#[derive(Debug, Args)]
pub struct VcpuPin {
    /// Name or id
    pub domain: String,
    /// Number of the vCPU, or `all`
    #[arg(value_parser = which_vcpu)]
    pub vcpu: WhichVcpu,
    /// CPUs on which it may run: `all`, `0-3,^2`, or `-` to leave them
    #[arg(value_name = "HARD", value_parser = cpus, allow_hyphen_values = true)]
    pub hard: Cpus,
    /// CPUs on which it better run
    #[arg(value_name = "SOFT", value_parser = cpus, default_value = "-", allow_hyphen_values = true)]
    pub soft: Cpus,
    /// Override a temporary affinity (no effect: there is none here)
    #[arg(short, long, hide = true)]
    pub force: bool,
}

/// One vCPU or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichVcpu {
    /// Every one.
    All,
    /// This one.
    One(u32),
}

fn which_vcpu(text: &str) -> Result<WhichVcpu, String> {
    match text {
        "all" => Ok(WhichVcpu::All),
        _ => text
            .parse()
            .map(WhichVcpu::One)
            .map_err(|_| "a number or `all`".into()),
    }
}

/// CPUs, or what they were before.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpus(pub Option<CpuSet>);

fn cpus(text: &str) -> Result<Cpus, String> {
    match text {
        "-" => Ok(Cpus(None)),
        _ => text
            .parse()
            .map(|set| Cpus(Some(set)))
            .map_err(|bad: crate::config::BadValue| bad.0),
    }
}

/// `vcpu-set`
#[derive(Debug, Args)]
pub struct VcpuSet {
    /// Name or id
    pub domain: String,
    /// How many, from 1 to the domain's maxvcpus
    pub vcpus: u32,
    /// More than the host has CPUs is fine
    #[arg(short, long)]
    pub ignore_host: bool,
}

/// `mem-set`, `mem-max`
#[derive(Debug, Args)]
pub struct MemSet {
    /// Name or id
    pub domain: String,
    /// How much: MiB, or a number with `K`, `M`, `G` or `T`
    pub memory: Memory,
}

/// `sched-credit`
#[derive(Debug, Args)]
pub struct SchedCredit {
    /// Name or id of the domain to show or to change
    #[arg(short, long)]
    pub domain: Option<String>,
    /// Share of CPU time, 1 to 65535 (usual: 256)
    #[arg(short, long, requires = "domain", value_parser = clap::value_parser!(u16).range(1..))]
    pub weight: Option<u16>,
    /// Most CPU time in per cent of one CPU, 0 for no limit
    #[arg(short, long, requires = "domain")]
    pub cap: Option<u16>,
    /// Show or set what holds for the whole scheduler
    #[arg(short, long, conflicts_with = "domain")]
    pub schedparam: bool,
    /// Timeslice in milliseconds, 1 to 1000
    #[arg(short, long, requires = "schedparam", value_name = "MS")]
    pub tslice_ms: Option<u16>,
    /// Least time before a vCPU is preempted, in microseconds
    #[arg(short, long, requires = "schedparam", value_name = "US")]
    pub ratelimit_us: Option<u32>,
}
