//! `list`, `domid`, `domname`, `uptime`.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::cli::args::{List, Named, Numbered, Uptime};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{Found, World, find, name_of};
use crate::config::Uuid;
use crate::ctl::{DomainInfo, ShutdownReason};
use crate::sys::DomId;

/// One domain, as `list` shows it.
#[derive(Debug, Serialize)]
pub struct Domain {
    /// Name; null if xenstore has none.
    pub name: Option<String>,
    /// Id.
    pub domid: u16,
    /// UUID.
    pub uuid: String,
    /// Memory it has, KiB.
    pub memory_kib: u64,
    /// Most it may have, KiB.
    pub max_memory_kib: u64,
    /// vCPUs online.
    pub vcpus: u32,
    /// vCPUs it has.
    pub max_vcpus: u32,
    /// `running`, `blocked`, `paused`, `shutdown`, `crashed`, `dying`, those that hold.
    pub state: Vec<&'static str>,
    /// Why it stopped, if it did.
    pub shutdown_reason: Option<String>,
    /// The number of that reason.
    #[serde(skip)]
    pub shutdown: Option<ShutdownReason>,
    /// CPU time, nanoseconds.
    pub cpu_time_ns: u64,
    /// CPU pool.
    pub cpupool: u32,
}

impl Domain {
    /// From what the hypervisor and xenstore say.
    pub fn of(world: &dyn World, info: &DomainInfo) -> Self {
        let crashed = info.shutdown == Some(ShutdownReason::CRASH);
        let states = [
            (info.running, "running"),
            (info.blocked, "blocked"),
            (info.paused, "paused"),
            (info.shutdown.is_some(), "shutdown"),
            (crashed, "crashed"),
            (info.dying, "dying"),
        ];
        Self {
            name: name_of(world, info.domain),
            domid: info.domain.0,
            uuid: Uuid(info.handle).to_string(),
            memory_kib: (info.pages + info.outstanding_pages) * 4,
            max_memory_kib: info.max_pages.saturating_mul(4),
            vcpus: info.vcpus_online,
            max_vcpus: info.vcpus,
            state: states.iter().filter(|s| s.0).map(|s| s.1).collect(),
            shutdown_reason: info.shutdown.map(|reason| reason.to_string()),
            shutdown: info.shutdown,
            cpu_time_ns: info.cpu_time,
            cpupool: info.cpupool,
        }
    }

    /// `r-----`
    pub fn letters(&self) -> String {
        [
            "running", "blocked", "paused", "shutdown", "crashed", "dying",
        ]
        .iter()
        .map(|state| match self.state.contains(state) {
            true => state.chars().next().unwrap_or('?'),
            false => '-',
        })
        .collect()
    }

    /// The name, or `(null)` as `xl` prints it.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or("(null)")
    }
}

/// Those named, in that order; all if none is.
///
/// # Errors
/// One is not there.
pub fn chosen(world: &dyn World, named: &[String]) -> Result<Vec<DomainInfo>, Fail> {
    let all = world.xen()?.domains()?;
    if named.is_empty() {
        return Ok(all);
    }
    let one = |text: &String| {
        let Found { id, .. } = find(world, text)?;
        let info = all.iter().find(|info| info.domain == id);
        info.cloned()
            .ok_or_else(|| Fail::new(Exit::NotFound, format!("domain {id} ended just now")))
    };
    named.iter().map(one).collect()
}

/// `list`
///
/// # Errors
/// As [`chosen`].
pub fn list(world: &dyn World, args: &List, out: &mut Out<'_>) -> Result<(), Fail> {
    let infos = chosen(world, &args.domains)?;
    let domains: Vec<Domain> = infos.iter().map(|info| Domain::of(world, info)).collect();
    if args.long {
        return out.print_json(&domains);
    }
    out.show(&domains, |domains| table(domains, args))
}

fn table(domains: &[Domain], args: &List) -> String {
    let mut text =
        "Name                                        ID   Mem VCPUs\tState\tTime(s)".to_owned();
    if args.verbose {
        text += "   UUID                            Reason-Code\tSecurity Label";
    }
    if args.cpupool {
        text += "         Cpupool";
    }
    text.push('\n');
    for d in domains {
        let seconds = d.cpu_time_ns as f64 / 1e9;
        let _ = write!(
            text,
            "{:<40} {:5} {:5} {:5}     {}  {seconds:8.1}",
            d.shown_name(),
            d.domid,
            d.memory_kib / 1024,
            d.vcpus,
            d.letters()
        );
        if args.verbose {
            let reason = d.shutdown.map_or("-".into(), |r| format!("{:x}", r.0));
            let _ = write!(text, " {} {reason:>8} {:>16}", d.uuid, "-");
        }
        if args.cpupool {
            let _ = write!(text, " {:>16}", format!("Pool-{}", d.cpupool));
        }
        text.push('\n');
    }
    text
}

/// A domain's two names.
#[derive(Debug, Serialize)]
struct Names {
    name: String,
    domid: u16,
}

/// `domid`
///
/// # Errors
/// There is no such domain.
pub fn domid(world: &dyn World, args: &Named, out: &mut Out<'_>) -> Result<(), Fail> {
    let Found { id, name } = find(world, &args.domain)?;
    out.show(&Names { name, domid: id.0 }, |n| format!("{}\n", n.domid))
}

/// `domname`
///
/// # Errors
/// There is no such domain, or it has no name.
pub fn domname(world: &dyn World, args: &Numbered, out: &mut Out<'_>) -> Result<(), Fail> {
    find(world, &args.id.to_string())?;
    let name = name_of(world, DomId(args.id)).ok_or_else(|| {
        Fail::new(
            Exit::NotFound,
            format!("domain {} has no name in xenstore", args.id),
        )
    })?;
    out.show(
        &Names {
            name,
            domid: args.id,
        },
        |n| format!("{}\n", n.name),
    )
}

/// How long one domain has been running.
#[derive(Debug, Serialize)]
struct Running {
    name: String,
    domid: u16,
    /// Seconds; null if nobody wrote down when it began.
    uptime_s: Option<u64>,
}

/// `uptime`
///
/// # Errors
/// There is no such domain.
pub fn uptime(world: &dyn World, args: &Uptime, out: &mut Out<'_>) -> Result<(), Fail> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_secs());
    let mut all = Vec::new();
    for info in chosen(world, &args.domains)? {
        let name = name_of(world, info.domain).unwrap_or_else(|| "(null)".into());
        let uptime_s = match info.domain {
            DomId::DOM0 => dom0_uptime(),
            id => started(world, id)?.map(|start| now.saturating_sub(start)),
        };
        all.push(Running {
            name,
            domid: info.domain.0,
            uptime_s,
        });
    }
    out.show(&all, |all| {
        let mut text = String::new();
        if !args.short {
            let _ = writeln!(text, "{:<33} {:>4} Uptime", "Name", "ID");
        }
        for one in all {
            let uptime = one.uptime_s.map_or_else(|| "-".into(), clock);
            let _ = writeln!(text, "{:<33} {:4} {uptime}", one.name, one.domid);
        }
        text
    })
}

/// When a domain began, in seconds since 1970, as its creator wrote it down.
fn started(world: &dyn World, id: DomId) -> Result<Option<u64>, Fail> {
    let Some(vm) = world.read(&format!("/local/domain/{id}/vm"))? else {
        return Ok(None);
    };
    let start = world.read(&format!("{vm}/start_time"))?;
    Ok(start.and_then(|text| text.split('.').next()?.parse().ok()))
}

fn dom0_uptime() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}

/// `1 day, 02:03:04`
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let time = format!("{:2}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => time,
        1 => format!("1 day, {time}"),
        _ => format!("{days} days, {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        assert_eq!(clock(59), " 0:00:59");
        assert_eq!(clock(86400 + 3661), "1 day,  1:01:01");
        assert_eq!(clock(10 * 86400), "10 days,  0:00:00");
    }
}
