//! The guest stands still to be saved, and goes on: where it was, or as another domain.
//!
//! What a toolstack wants of a guest that it saves (Xen `tools/libs/guest/xg_sr_save_x86_pv.c`): vCPU
//! 0 gives the frame of the start info with its call; the start info names the rings' pages by PFN;
//! the shared info says where the P2M list is ([`shared::init`]); and page tables map nothing but the
//! guest's own memory, so not the shared info, not the grant table, no page of a peer. Page tables,
//! P2M list, trap tables and registers, those of all vCPUs, the toolstack itself makes fit for the new
//! domain. Event channels, grants and watches it does not: they are gone.

use core::fmt;

use xen_abi::sched::{SCHEDOP_SHUTDOWN, SHUTDOWN_SUSPEND, SchedShutdown};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

use super::boot::{self, start_info_va};
use super::{clock, console, mmu, power, shared, store, vcpu, wait, window};
use crate::hypercall::{Errno, Native, raw};

/// Longest wait for other vCPUs to stand still, in nanoseconds. A toolstack waits a minute.
const PATIENCE: u64 = 20_000_000_000;

/// Where a guest goes on that was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// In the domain that it was: a copy may have been saved, or saving was given up. Nothing has
    /// changed, but time has passed.
    Here,
    /// In a new domain, maybe on another host, to which the guest's time goes on. Its number, its
    /// store and its peers are others.
    Elsewhere,
}

/// Why a guest cannot be suspended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Only vCPU 0 can suspend the guest.
    OtherVcpu,
    /// No toolstack made this domain.
    NoToolstack,
    /// So many pages of other domains are mapped, which cannot be taken along.
    Mapped(usize),
    /// Another vCPU works on without [resting](super::vcpu::rest).
    Working,
    /// The hypervisor refused.
    Refused(Errno),
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherVcpu => f.write_str("only vCPU 0 can suspend the guest"),
            Self::NoToolstack => f.write_str("nobody can save the initial domain"),
            Self::Mapped(count) => write!(f, "{count} pages of other domains are mapped"),
            Self::Working => f.write_str("a vCPU works on: it is to call vcpu::rest()"),
            Self::Refused(why) => write!(f, "the hypervisor: {why}"),
        }
    }
}

impl core::error::Error for Unready {}

impl From<Errno> for Unready {
    fn from(why: Errno) -> Self {
        Self::Refused(why)
    }
}

/// Suspends the guest, until the toolstack has it go on. Called on vCPU 0; the others stand still
/// where they wait or [`rest`](super::vcpu::rest). Afterwards disks and network cards connect again
/// when they are used; channels and grants of one's own are gone if it is
/// [`Elsewhere`](Resumed::Elsewhere).
///
/// # Errors
/// [`Unready`]: the guest goes on as it was.
///
/// # Panics
/// If the new domain lacks what the old one had: a grant table as large.
pub fn suspend() -> Result<Resumed, Unready> {
    if vcpu::current() != 0 {
        return Err(Unready::OtherVcpu);
    }
    if boot::is_initial_domain() {
        return Err(Unready::NoToolstack);
    }
    let halted = vcpu::halt(PATIENCE).ok_or(Unready::Working)?;
    match window::mapped() {
        0 => {}
        count => return Err(Unready::Mapped(count)),
    }
    console::drain();
    let left = clock::now();
    let resumed = leave();
    if resumed == Ok(Resumed::Elsewhere) {
        shared::renew();
        clock::go_on(left);
        wait::renew();
        console::renew();
        window::grants().renew();
        if let Err(why) = store::renew() {
            crate::println!("after a restore: {why}");
        }
        power::announce();
    }
    drop(halted);
    // Whoever waits looks what has become of its devices.
    wait::ring_all();
    Ok(resumed?)
}

/// Gives up what is not the guest's, suspends, and takes it again. In between there is no time, no
/// event and no console.
fn leave() -> Result<Resumed, Errno> {
    let links = boot::links();
    window::unmap_table()
        .and_then(|()| shared::unmap())
        .inspect_err(|_| come_back())?;
    boot::set_ring_pages(mmu::m2p(links.store.mfn), mmu::m2p(links.console.mfn));
    let argument = SchedShutdown {
        reason: SHUTDOWN_SUSPEND,
    };
    let arguments = [
        u64::from(SCHEDOP_SHUTDOWN),
        &raw const argument as u64,
        mmu::mfn(start_info_va()),
        0,
        0,
    ];
    // SAFETY: reads the struct. That memory goes on as it was is what suspending is.
    let resumed = match Errno::check(unsafe { raw(HYPERVISOR_SCHED_OP, arguments) }) {
        Ok(0) => {
            Native::restored();
            Ok(Resumed::Elsewhere)
        }
        // Of another domain the toolstack has written the rings' frames.
        here => {
            boot::set_ring_pages(links.store.mfn, links.console.mfn);
            here.map(|_| Resumed::Here)
        }
    };
    come_back();
    resumed
}

/// Maps again what [`leave`] gave up.
fn come_back() {
    shared::map_again();
    window::map_table();
}
