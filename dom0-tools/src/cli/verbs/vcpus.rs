//! `vcpu-list`, `vcpu-pin`, `vcpu-set`.

use std::fmt::Write;

use serde::Serialize;

use super::list::chosen;
use crate::cli::args::{Some_, VcpuPin, VcpuSet, WhichVcpu};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{World, find, find_guest, name_of};
use crate::config::CpuSet;
use crate::ctl;
use crate::domain::protocol::Request;
use crate::sys::Vcpu;

/// One vCPU.
#[derive(Debug, Serialize)]
struct VcpuLine {
    name: String,
    domid: u16,
    vcpu: u32,
    online: bool,
    running: bool,
    blocked: bool,
    /// The CPU it is, or was last, on; null while it is offline.
    cpu: Option<u32>,
    cpu_time_ns: u64,
    /// `all` or `0-3,7`
    hard_affinity: String,
    soft_affinity: String,
}

/// `vcpu-list`
///
/// # Errors
/// There is no such domain.
pub fn list(world: &dyn World, args: &Some_, out: &mut Out<'_>) -> Result<(), Fail> {
    let xen = world.xen()?;
    let cpus = xen.host_info()?.max_cpu + 1;
    let mut lines = Vec::new();
    for domain in chosen(world, &args.domains)? {
        let name = name_of(world, domain.domain).unwrap_or_else(|| "(null)".into());
        for vcpu in (0..domain.vcpus).map(Vcpu) {
            // It, or its whole domain, may be gone since.
            let Ok(info) = xen.vcpu_info(domain.domain, vcpu) else {
                continue;
            };
            let affinity = xen.affinity(domain.domain, vcpu)?;
            lines.push(VcpuLine {
                name: name.clone(),
                domid: domain.domain.0,
                vcpu: vcpu.0,
                online: info.online,
                running: info.running,
                blocked: info.blocked,
                cpu: info.online.then_some(info.cpu),
                cpu_time_ns: info.cpu_time,
                hard_affinity: shown(&affinity.hard, cpus),
                soft_affinity: shown(&affinity.soft, cpus),
            });
        }
    }
    out.show(&lines, |lines| table(lines))
}

fn shown(set: &ctl::CpuSet, cpus: u32) -> String {
    if (0..cpus).all(|cpu| set.contains(cpu)) {
        "all".into()
    } else if set.is_empty() {
        "none".into()
    } else {
        set.to_string()
    }
}

fn table(lines: &[VcpuLine]) -> String {
    let mut text = format!(
        "{:<32} {:>5} {:>5} {:>5} {:>5} {:>9} Affinity (Hard / Soft)\n",
        "Name", "ID", "VCPU", "CPU", "State", "Time(s)"
    );
    for line in lines {
        let _ = write!(text, "{:<32} {:5} {:5} ", line.name, line.domid, line.vcpu);
        match line.cpu {
            Some(cpu) => {
                let running = if line.running { 'r' } else { '-' };
                let blocked = if line.blocked { 'b' } else { '-' };
                let _ = write!(text, "{cpu:5}   {running}{blocked}- ");
            }
            None => {
                let _ = write!(text, "{:>5}   --p ", '-');
            }
        }
        let _ = writeln!(
            text,
            "{:9.1}  {} / {}",
            line.cpu_time_ns as f64 / 1e9,
            line.hard_affinity,
            line.soft_affinity
        );
    }
    text
}

/// `vcpu-pin`
///
/// # Errors
/// There is no such domain or vCPU, or no CPU of the host is in the set.
pub fn pin(world: &dyn World, args: &VcpuPin) -> Result<(), Fail> {
    let xen = world.xen()?;
    let found = find(world, &args.domain)?;
    let info = chosen(world, std::slice::from_ref(&args.domain))?;
    let count = info.first().map_or(0, |info| info.vcpus);
    let cpus = xen.host_info()?.max_cpu + 1;
    let [hard, soft] = [&args.hard.0, &args.soft.0].map(|set| set.as_ref());
    let [hard, soft] = [on_host(hard, cpus)?, on_host(soft, cpus)?];
    if hard.is_none() && soft.is_none() {
        return Err(Fail::new(
            Exit::Usage,
            "nothing to do: give CPUs for HARD or SOFT, `-` leaves them as they are",
        ));
    }
    let vcpus = match args.vcpu {
        WhichVcpu::All => 0..count,
        WhichVcpu::One(vcpu) if vcpu < count => vcpu..vcpu + 1,
        WhichVcpu::One(vcpu) => {
            return Err(Fail::new(
                Exit::NotFound,
                format!("{} has no vCPU {vcpu}: it has {count}, from 0", found.name),
            ));
        }
    };
    for vcpu in vcpus.map(Vcpu) {
        xen.set_affinity(found.id, vcpu, hard.as_ref(), soft.as_ref(), args.force)?;
    }
    Ok(())
}

/// The set as the hypervisor takes it.
fn on_host(set: Option<&CpuSet>, cpus: u32) -> Result<Option<ctl::CpuSet>, Fail> {
    let Some(set) = set else { return Ok(None) };
    set.bits(cpus)
        .map_err(|bad| Fail::new(Exit::Usage, bad.0))?;
    // "All" stays so when CPUs are added.
    let cpus = if set.is_all() { 4096 } else { cpus };
    Ok(Some((0..cpus).filter(|cpu| set.contains(*cpu)).collect()))
}

/// `vcpu-set`
///
/// # Errors
/// There is no such domain, or it has fewer vCPUs.
pub fn set(world: &dyn World, args: &VcpuSet) -> Result<(), Fail> {
    let found = find_guest(world, &args.domain, "vcpu-set")?;
    let info = chosen(world, std::slice::from_ref(&args.domain))?;
    let most = info.first().map_or(0, |info| info.vcpus);
    if !(1..=most).contains(&args.vcpus) {
        return Err(Fail::new(
            Exit::Usage,
            format!(
                "{} can have 1 to {most} vCPUs, not {}: `maxvcpus` in its configuration sets the most",
                found.name, args.vcpus
            ),
        ));
    }
    let request = Request::VcpuSet {
        domain: found.id.0,
        online: args.vcpus,
    };
    super::life::ask(world, &request).map(drop)
}
