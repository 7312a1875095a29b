//! `snapshot`.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::create::{made, unexpected};
use super::life::ask;
use crate::cli::args::{Snapshot, SnapshotOne, SnapshotVerb};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{World, find, find_guest};
use crate::config::SnapshotName;
use crate::domain::protocol::{Request, Response, SnapshotInfo};

/// One snapshot.
#[derive(Debug, Serialize)]
struct Line {
    domain: String,
    name: String,
    /// RFC 3339, UTC.
    taken: String,
    memory_kib: u64,
    bytes: u64,
}

/// `snapshot`
///
/// # Errors
/// There is no such domain or snapshot, or `oxd`'s.
pub fn snapshot(world: &dyn World, args: &Snapshot, out: &mut Out<'_>) -> Result<(), Fail> {
    match (&args.verb, &args.domain, &args.name) {
        (None, Some(domain), Some(name)) => create(world, domain, name),
        (Some(SnapshotVerb::Create(one)), ..) => create(world, &one.domain, &one.name),
        (Some(SnapshotVerb::List(which)), ..) => list(world, which.domain.as_deref(), out),
        (Some(SnapshotVerb::Revert(one)), ..) => revert(world, one, out),
        (Some(SnapshotVerb::Delete(one)), ..) => {
            let request = Request::SnapshotDelete {
                domain: name(world, &one.domain)?,
                name: one.name.to_string(),
            };
            ask(world, &request).map(drop)
        }
        _ => Err(Fail::new(
            Exit::Usage,
            "snapshot takes DOMAIN NAME, or create, list, revert or delete",
        )),
    }
}

/// The name behind an id; a name is taken as it is, for domains that do not run.
fn name(world: &dyn World, domain: &str) -> Result<String, Fail> {
    match domain.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(find(world, domain)?.name),
        false => Ok(domain.to_owned()),
    }
}

fn create(world: &dyn World, domain: &str, name: &SnapshotName) -> Result<(), Fail> {
    let request = Request::SnapshotCreate {
        domain: find_guest(world, domain, "snapshot")?.id.0,
        name: name.to_string(),
    };
    ask(world, &request).map(drop)
}

fn revert(world: &dyn World, one: &SnapshotOne, out: &mut Out<'_>) -> Result<(), Fail> {
    let domain = name(world, &one.domain)?;
    let request = Request::SnapshotRevert {
        domain: domain.clone(),
        name: one.name.to_string(),
    };
    let domid = made(&ask(world, &request)?)?;
    let shown = serde_json::json!({ "name": domain, "domid": domid });
    out.show(&shown, |_| format!("{domain}: domain {domid}\n"))
}

fn list(world: &dyn World, domain: Option<&str>, out: &mut Out<'_>) -> Result<(), Fail> {
    let domain = domain.map(|domain| name(world, domain)).transpose()?;
    let lines: Vec<Line> = match ask(world, &Request::SnapshotList { domain })? {
        Response::Snapshots(all) => all.into_iter().map(line).collect(),
        other => return Err(unexpected(&other)),
    };
    out.show(&lines, |lines| {
        let mut text = format!(
            "{:<24} {:<24} {:<20} {:>8} {:>10}\n",
            "Domain", "Snapshot", "Taken", "Mem(MiB)", "Disk(MiB)"
        );
        for l in lines {
            let _ = writeln!(
                text,
                "{:<24} {:<24} {:<20} {:8} {:10}",
                l.domain,
                l.name,
                l.taken,
                l.memory_kib / 1024,
                l.bytes.div_ceil(1 << 20)
            );
        }
        text
    })
}

fn line(info: SnapshotInfo) -> Line {
    let taken = UNIX_EPOCH
        .checked_add(Duration::from_secs(info.at))
        .unwrap_or(UNIX_EPOCH);
    Line {
        domain: info.domain,
        name: info.name,
        taken: humantime::format_rfc3339_seconds(taken).to_string(),
        memory_kib: info.memory_kib,
        bytes: info.bytes,
    }
}
