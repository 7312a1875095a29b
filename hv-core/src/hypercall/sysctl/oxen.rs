//! What there is beyond Xen's interface: statistics of domains, the record of privileged
//! operations. See [`xen_abi::oxen`].

use super::{Call, Error, Request};
use crate::access::audit::AUDIT;
use crate::addr::{DomId, GuestVa, Nanos};
use crate::domain::notify::SCHEDULER;
use crate::domain::usage::Usage;
use crate::domain::{Domain, registry};
use crate::mm::account::DomainPages;
use crate::mm::host;
use crate::sched::RunState;
use crate::time;
use xen_abi::oxen as abi;
use zerocopy::IntoBytes;

/// Records copied at a time.
const PIECE: usize = 32;

/// # Errors
/// `EACCES`: another version of the interface.
fn check_version(version: u32) -> Result<(), Error> {
    if version == abi::OXEN_VERSION {
        Ok(())
    } else {
        Err(Error::Access)
    }
}

/// Statistics of domains.
///
/// `EACCES`: another version. `EFAULT`.
pub(super) fn stats(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::OxenStats = request.body();
    check_version(op.version)?;
    registry::reap(host::get());
    let first = DomId(op.first_domain);
    op.count = 0;
    for domain in registry::from(first) {
        if op.count == op.room {
            break;
        }
        let size = size_of::<abi::OxenDomainStats>() as u64;
        let at = GuestVa(op.buffer).add(u64::from(op.count) * size);
        call.guest().write(at, &describe(&domain, time::now()))?;
        op.count += 1;
    }
    request.set_body(&op);
    Ok(())
}

fn describe(domain: &Domain, now: Nanos) -> abi::OxenDomainStats {
    let vcpus = domain.vcpus();
    let mut time = [0_u64; 4];
    for vcpu in vcpus {
        let spent = SCHEDULER.run_times(vcpu.unit, now).time;
        for (sum, part) in time.iter_mut().zip(spent) {
            *sum = sum.saturating_add(part);
        }
    }
    let used = |what: fn(&Usage) -> u64| vcpus.iter().map(|v| what(&v.usage)).sum();
    let account = host::get().accounts.get(domain.id);
    abi::OxenDomainStats {
        domain: domain.id.0,
        roles: domain.roles.bits().into(),
        vcpus: u32::try_from(vcpus.len()).unwrap_or(u32::MAX),
        run_time: time[RunState::Running as usize],
        wait_time: time[RunState::Runnable as usize],
        blocked_time: time[RunState::Blocked as usize],
        hypercalls: used(|u| u.hypercalls.get()),
        events_sent: used(|u| u.events_sent.get()),
        grant_maps: used(|u| u.grant_maps.get()),
        grant_copies: used(|u| u.grant_copies.get()),
        foreign_maps: used(|u| u.foreign_maps.get()),
        denied: domain.denied.all(),
        grants_mapped: domain.grants.mappings().into(),
        grants_in_use: domain.grants.pins(),
        pages: account.map_or(0, DomainPages::total),
        max_pages: account.map_or(0, DomainPages::max),
    }
}

/// The record of privileged operations.
///
/// `EACCES`: another version. `EFAULT`.
pub(super) fn audit(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::OxenAudit = request.body();
    check_version(op.version)?;
    op.count = 0;
    op.forgotten = 0;
    let mut records = [abi::OxenAuditRecord::default(); PIECE];
    while op.count < op.room {
        let room = PIECE.min((op.room - op.count) as usize);
        let reading = AUDIT.read(op.next, &mut records[..room]);
        op.next = reading.next;
        op.forgotten = op.forgotten.saturating_add(reading.forgotten);
        if reading.count == 0 {
            break;
        }
        let size = size_of::<abi::OxenAuditRecord>() as u64;
        let at = GuestVa(op.buffer).add(u64::from(op.count) * size);
        call.guest()
            .write_bytes(at, records[..reading.count].as_bytes())?;
        op.count += reading.count as u32;
    }
    op.suppressed = AUDIT.suppressed();
    request.set_body(&op);
    Ok(())
}
