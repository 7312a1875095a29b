//! `sched-credit`.

use std::fmt::Write;

use serde::Serialize;

use super::list::chosen;
use crate::cli::args::SchedCredit;
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{World, find, name_of};
use crate::ctl::{CreditGlobals, CreditParams};

/// What `sched-credit` shows.
#[derive(Debug, Serialize)]
struct Shown {
    cpupool: u32,
    tslice_ms: Option<u32>,
    ratelimit_us: Option<u32>,
    migration_delay_us: Option<u32>,
    domains: Vec<Share>,
}

/// One domain's share.
#[derive(Debug, Serialize)]
struct Share {
    name: String,
    domid: u16,
    weight: u16,
    cap: u16,
}

/// The one CPU pool.
const POOL: u32 = 0;

/// `XEN_SCHEDULER_CREDIT`.
const CREDIT: u32 = 5;

/// `sched-credit`
///
/// # Errors
/// There is no such domain, or the scheduler refuses.
pub fn sched_credit(world: &dyn World, args: &SchedCredit, out: &mut Out<'_>) -> Result<(), Fail> {
    let xen = world.xen()?;
    if xen.scheduler()? != CREDIT {
        return Err(Fail::new(
            Exit::Unsupported,
            "the hypervisor runs another scheduler than credit: boot it with `sched=credit`",
        ));
    }
    if args.schedparam {
        let globals = xen.credit_globals(POOL)?;
        if args.tslice_ms.is_some() || args.ratelimit_us.is_some() {
            let tslice = args.tslice_ms.map(u32::from);
            let wanted = CreditGlobals {
                timeslice_ms: tslice.unwrap_or(globals.timeslice_ms),
                ratelimit_us: args.ratelimit_us.unwrap_or(globals.ratelimit_us),
                ..globals
            };
            return Ok(xen.set_credit_globals(POOL, wanted)?);
        }
        let shown = shown(Some(globals), Vec::new());
        return out.show(&shown, headline);
    }
    if let Some(domain) = &args.domain
        && (args.weight.is_some() || args.cap.is_some())
    {
        let found = find(world, domain)?;
        let now = xen.credit(found.id)?;
        let wanted = CreditParams {
            weight: args.weight.unwrap_or(now.weight),
            cap: args.cap.unwrap_or(now.cap),
        };
        return Ok(xen.set_credit(found.id, wanted)?);
    }
    let named: Vec<String> = args.domain.iter().cloned().collect();
    let mut domains = Vec::new();
    for info in chosen(world, &named)? {
        let params = xen.credit(info.domain)?;
        domains.push(Share {
            name: name_of(world, info.domain).unwrap_or_else(|| "(null)".into()),
            domid: info.domain.0,
            weight: params.weight,
            cap: params.cap,
        });
    }
    let globals = match named.is_empty() {
        true => Some(xen.credit_globals(POOL)?),
        false => None,
    };
    out.show(&shown(globals, domains), |shown| {
        let mut text = match shown.tslice_ms {
            Some(_) => headline(shown),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "{:<33} {:>4} {:>6} {:>4}",
            "Name", "ID", "Weight", "Cap"
        );
        for one in &shown.domains {
            let Share {
                name,
                domid,
                weight,
                cap,
            } = one;
            let _ = writeln!(text, "{name:<33} {domid:4} {weight:6} {cap:4}");
        }
        text
    })
}

fn shown(globals: Option<CreditGlobals>, domains: Vec<Share>) -> Shown {
    Shown {
        cpupool: POOL,
        tslice_ms: globals.map(|g| g.timeslice_ms),
        ratelimit_us: globals.map(|g| g.ratelimit_us),
        migration_delay_us: globals.map(|g| g.migration_delay_us),
        domains,
    }
}

fn headline(shown: &Shown) -> String {
    let number = |value: Option<u32>| value.unwrap_or(0);
    format!(
        "Cpupool Pool-{}: tslice={}ms ratelimit={}us migration-delay={}us\n",
        shown.cpupool,
        number(shown.tslice_ms),
        number(shown.ratelimit_us),
        number(shown.migration_delay_us)
    )
}
