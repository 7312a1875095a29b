//! `audit`: the hypervisor's record of privileged operations.

use std::fmt::Write;

use serde::Serialize;
use xen_abi::oxen::{OXEN_NOBODY, OxenAuditRecord};

use crate::cli::args::Audit;
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::{Out, note};
use crate::cli::world::World;

/// One record.
#[derive(Debug, Serialize)]
struct Line {
    number: u64,
    /// Since the hypervisor started.
    time_ns: u64,
    /// Who did it.
    subject: u16,
    /// To which domain; null: to the host.
    target: Option<u16>,
    /// `domctl`, …
    hypercall: String,
    /// Its command, `pausedomain`; the number if it has no name here.
    command: String,
    /// 0, or a negative errno.
    result: i32,
}

/// `audit`
///
/// # Errors
/// The hypervisor is not Oxen, or refuses.
pub fn audit(world: &dyn World, args: &Audit, out: &mut Out<'_>) -> Result<(), Fail> {
    let xen = world.xen()?;
    let mut records = Vec::new();
    let (mut next, mut lost) = (0, 0);
    loop {
        let Some(part) = xen.audit(next)? else {
            return Err(Fail::new(
                Exit::Unsupported,
                "this hypervisor keeps no record of privileged operations: only Oxen does",
            ));
        };
        lost = lost.max(part.suppressed);
        // Asking may itself be recorded, so that there is always one more.
        let end = part.records.len() <= 1 || records.len() > MOST;
        records.extend(part.records);
        next = part.next;
        if end {
            break;
        }
    }
    let skip = args
        .last
        .map_or(0, |count| records.len().saturating_sub(count));
    let lines: Vec<Line> = records[skip..].iter().map(line).collect();
    out.show(&lines, |lines| table(lines))?;
    if lost > 0 {
        note(&format!(
            "{lost} denied attempts were too many to be recorded"
        ));
    }
    Ok(())
}

/// Most records read at once.
const MOST: usize = 1 << 20;

fn line(record: &OxenAuditRecord) -> Line {
    Line {
        number: record.number,
        time_ns: record.time,
        subject: record.subject,
        target: (record.target != OXEN_NOBODY).then_some(record.target),
        hypercall: hypercall(record.hypercall),
        command: command(record.hypercall, record.command),
        result: record.result,
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:>8} {:>14} {:>5} {:>6} {:<16} {:<24} Result\n",
        "Number", "Time(s)", "From", "To", "Hypercall", "Command"
    );
    for l in lines {
        let target = l.target.map_or_else(|| "host".into(), |id| id.to_string());
        let result = match l.result {
            0 => "ok".to_owned(),
            errno => std::io::Error::from_raw_os_error(-errno).to_string(),
        };
        let _ = writeln!(
            text,
            "{:8} {:14.6} {:5} {target:>6} {:<16} {:<24} {result}",
            l.number,
            l.time_ns as f64 / 1e9,
            l.subject,
            l.hypercall,
            l.command
        );
    }
    text
}

/// Numbers of hypercalls: Xen `include/public/xen.h`.
fn hypercall(number: u32) -> String {
    let name = match number {
        1 => "mmu_update",
        7 => "platform_op",
        12 => "memory_op",
        14 => "update_va_mapping_otherdomain",
        17 => "xen_version",
        18 => "console_io",
        20 => "grant_table_op",
        26 => "mmuext_op",
        29 => "sched_op",
        32 => "event_channel_op",
        33 => "physdev_op",
        35 => "sysctl",
        36 => "domctl",
        other => return other.to_string(),
    };
    name.into()
}

/// Names of the commands that tools use: Xen `include/public/{domctl,sysctl}.h`.
fn command(hypercall: u32, command: u32) -> String {
    let name = match (hypercall, command) {
        (36, 1) => "createdomain",
        (36, 2) => "destroydomain",
        (36, 3) => "pausedomain",
        (36, 4) => "unpausedomain",
        (36, 5) => "getdomaininfo",
        (36, 9) => "setvcpuaffinity",
        (36, 10) => "shadow_op",
        (36, 11) => "max_mem",
        (36, 12) => "setvcpucontext",
        (36, 13) => "getvcpucontext",
        (36, 14) => "getvcpuinfo",
        (36, 15) => "max_vcpus",
        (36, 16) | (35, 19) => "scheduler_op",
        (36, 17) => "setdomainhandle",
        (36, 18) => "setdebugging",
        (36, 19) => "irq_permission",
        (36, 20) => "iomem_permission",
        (36, 21) => "ioport_permission",
        (36, 24) => "settimeoffset",
        (36, 25) => "getvcpuaffinity",
        (36, 27) => "resumedomain",
        (36, 28) => "sendtrigger",
        (36, 35) => "set_address_size",
        (36, 54) => "settscinfo",
        (35, 1) => "readconsole",
        (35, 2) => "tbuf_op",
        (35, 3) => "physinfo",
        (35, 4) => "sched_id",
        (35, 6) => "getdomaininfolist",
        (35, 7) => "debug_keys",
        (35, 18) => "cpupool_op",
        (29, 4) => "remote_shutdown",
        _ => return command.to_string(),
    };
    name.into()
}
