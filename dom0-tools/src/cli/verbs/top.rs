//! `top`: what domains use, in `xentop`'s columns.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::console::RawTerminal;
use super::list::Domain;
use crate::cli::args::Top;
use crate::cli::exit::Fail;
use crate::cli::out::Out;
use crate::cli::world::World;

/// One look at the machine.
#[derive(Debug, Serialize)]
struct Look {
    /// Of the machine, KiB.
    memory_kib: u64,
    free_kib: u64,
    cpus: u32,
    cpu_mhz: f64,
    domains: Vec<Usage>,
}

/// What one domain uses.
#[derive(Debug, Serialize)]
struct Usage {
    #[serde(flatten)]
    domain: Domain,
    /// Of one CPU, since the last look; since the domain began at the first.
    cpu_percent: f64,
    nets: u32,
    /// Bytes the guest sent and received.
    net_tx_bytes: u64,
    net_rx_bytes: u64,
    vbds: u32,
    /// Requests.
    vbd_reads: u64,
    vbd_writes: u64,
    /// Sectors of 512 bytes.
    vbd_read_sectors: u64,
    vbd_write_sectors: u64,
}

/// `top`
///
/// # Errors
/// The hypervisor cannot be asked.
pub fn top(world: &dyn World, args: &Top, out: &mut Out<'_>) -> Result<(), Fail> {
    let count = if args.once { Some(1) } else { args.iterations };
    let screen = !args.once
        && !args.batch
        && !out.json()
        && count != Some(1)
        && io::stdout().is_terminal()
        && io::stdin().is_terminal();
    let delay = Duration::from_secs_f64(args.delay);
    let mut before = HashMap::new();
    let mut left = count;
    let terminal = screen.then(RawTerminal::of_stdin);
    while left != Some(0) {
        let look = look(world, &mut before)?;
        if screen {
            out.print("\x1b[H\x1b[J")?;
            let text = table(&look, true).replace('\n', "\r\n");
            out.raw(text.as_bytes())?;
            out.raw(b"\r\nq leaves")?;
        } else {
            out.show_line(&look, |look| table(look, false))?;
        }
        left = left.map(|left| left - 1);
        if left == Some(0) {
            break;
        }
        if screen {
            if typed_quit(delay)? {
                break;
            }
        } else {
            std::thread::sleep(delay);
        }
    }
    if terminal.is_some() {
        out.raw(b"\r\x1b[K")?;
    }
    Ok(())
}

/// Waits for the next look; was `q` (or Ctrl-C, which a raw terminal passes on) typed?
fn typed_quit(delay: Duration) -> Result<bool, Fail> {
    let end = Instant::now() + delay;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let stdin = io::stdin();
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        let limit = Timespec::try_from(left).ok();
        match poll(&mut waiting, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(io::Error::from)?,
        };
        if waiting[0].revents().is_empty() {
            return Ok(false);
        }
        let mut keys = [0; 64];
        let count = io::stdin().read(&mut keys)?;
        if count == 0
            || keys[..count]
                .iter()
                .any(|key| matches!(key, b'q' | b'Q' | 3))
        {
            return Ok(true);
        }
        // Any other key: look at once.
        return Ok(false);
    }
}

/// CPU time of each domain at a moment.
type Before = HashMap<u16, (Instant, u64)>;

fn look(world: &dyn World, before: &mut Before) -> Result<Look, Fail> {
    let xen = world.xen()?;
    let host = xen.host_info()?;
    let now = Instant::now();
    let infos = xen.domains()?;
    let mut domains = Vec::new();
    let mut seen = HashMap::new();
    for info in &infos {
        let id = info.domain.0;
        let cpu_percent = before.get(&id).map_or(0.0, |(then, time)| {
            let passed = now.duration_since(*then).as_nanos().max(1) as f64;
            info.cpu_time.saturating_sub(*time) as f64 * 100.0 / passed
        });
        seen.insert(id, (now, info.cpu_time));
        let mut usage = Usage {
            domain: Domain::of(world, info),
            cpu_percent,
            nets: 0,
            net_tx_bytes: 0,
            net_rx_bytes: 0,
            vbds: 0,
            vbd_reads: 0,
            vbd_writes: 0,
            vbd_read_sectors: 0,
            vbd_write_sectors: 0,
        };
        devices(&mut usage, id);
        domains.push(usage);
    }
    *before = seen;
    Ok(Look {
        memory_kib: host.total_pages * 4,
        free_kib: host.free_pages * 4,
        cpus: host.cpus,
        cpu_mhz: f64::from(host.cpu_khz) / 1000.0,
        domains,
    })
}

/// Adds what dom0's backends count, from sysfs.
fn devices(usage: &mut Usage, id: u16) {
    let number = |path: String| -> u64 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let Ok(entries) = std::fs::read_dir("/sys/bus/xen-backend/devices") else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
    {
        if name.starts_with(&format!("vbd-{id}-")) {
            let folder = format!("/sys/bus/xen-backend/devices/{name}/statistics");
            usage.vbds += 1;
            usage.vbd_reads += number(format!("{folder}/rd_req"));
            usage.vbd_writes += number(format!("{folder}/wr_req"));
            usage.vbd_read_sectors += number(format!("{folder}/rd_sect"));
            usage.vbd_write_sectors += number(format!("{folder}/wr_sect"));
        } else if let Some(device) = name.strip_prefix(&format!("vif-{id}-")) {
            // dom0 receives what the guest sends.
            let folder = format!("/sys/class/net/vif{id}.{device}/statistics");
            usage.nets += 1;
            usage.net_tx_bytes += number(format!("{folder}/rx_bytes"));
            usage.net_rx_bytes += number(format!("{folder}/tx_bytes"));
        }
    }
}

fn table(look: &Look, headline: bool) -> String {
    let mut text = String::new();
    if headline {
        let _ = writeln!(
            text,
            "{} domains\nMem: {}k total, {}k used, {}k free    CPUs: {} @ {:.0}MHz",
            look.domains.len(),
            look.memory_kib,
            look.memory_kib.saturating_sub(look.free_kib),
            look.free_kib,
            look.cpus,
            look.cpu_mhz
        );
    }
    let _ = writeln!(
        text,
        "{:>10} {:>6} {:>10} {:>6} {:>10} {:>6} {:>10} {:>9} {:>5} {:>4} {:>8} {:>8} {:>4} {:>8} {:>8} {:>10} {:>10}",
        "NAME",
        "STATE",
        "CPU(sec)",
        "CPU(%)",
        "MEM(k)",
        "MEM(%)",
        "MAXMEM(k)",
        "MAXMEM(%)",
        "VCPUS",
        "NETS",
        "NETTX(k)",
        "NETRX(k)",
        "VBDS",
        "VBD_RD",
        "VBD_WR",
        "VBD_RSECT",
        "VBD_WSECT"
    );
    let percent = |kib: u64| kib as f64 * 100.0 / look.memory_kib.max(1) as f64;
    for usage in &look.domains {
        let d = &usage.domain;
        // Dom0's limit is usually none.
        let (most, most_percent) = match d.max_memory_kib > look.memory_kib {
            true => ("no limit".into(), "n/a".into()),
            false => (
                d.max_memory_kib.to_string(),
                format!("{:.1}", percent(d.max_memory_kib)),
            ),
        };
        let _ = writeln!(
            text,
            "{:>10} {:>6} {:>10} {:>6.1} {:>10} {:>6.1} {:>10} {:>9} {:>5} {:>4} {:>8} {:>8} {:>4} {:>8} {:>8} {:>10} {:>10}",
            d.shown_name(),
            d.letters(),
            d.cpu_time_ns / 1_000_000_000,
            usage.cpu_percent,
            d.memory_kib,
            percent(d.memory_kib),
            most,
            most_percent,
            d.vcpus,
            usage.nets,
            usage.net_tx_bytes / 1024,
            usage.net_rx_bytes / 1024,
            usage.vbds,
            usage.vbd_reads,
            usage.vbd_writes,
            usage.vbd_read_sectors,
            usage.vbd_write_sectors
        );
    }
    text
}
