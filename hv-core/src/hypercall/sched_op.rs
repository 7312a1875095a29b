//! `sched_op` (29): giving up the CPU, and ending a domain.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{CpuId, DomId, GuestVa, Nanos};
use crate::arch::machine;
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, registry, shutdown};
use crate::sched::SchedError;
use crate::time;
use core::sync::atomic::Ordering::SeqCst;
use xen_abi::sched::{
    SCHEDOP_BLOCK, SCHEDOP_PIN_OVERRIDE, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN,
    SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SchedPinOverride, SchedPoll,
    SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};

/// Most ports of one poll. Source: Xen's `do_poll` refuses more.
const MAX_POLL_PORTS: usize = 128;
/// As many as a poll mostly has: Linux polls one, and larger an array takes time to clear.
const FEW_POLL_PORTS: usize = 4;

/// A parsed call.
#[derive(Clone, Copy, Debug)]
enum SchedOp {
    Yield,
    Block,
    Shutdown(u32),
    Poll(SchedPoll),
    RemoteShutdown(DomId, u32),
    ShutdownCode(u32),
    Watchdog { id: u32, seconds: u32 },
    PinOverride(i32),
}

impl SchedOp {
    /// Reads the argument; changes nothing.
    ///
    /// # Errors
    /// `EFAULT`: argument unreadable. `ENOSYS`: unknown command.
    #[inline]
    fn parse(call: &Call<'_>, cmd: u32, arg: GuestVa) -> Result<Self, Error> {
        Ok(match cmd {
            SCHEDOP_YIELD => Self::Yield,
            SCHEDOP_BLOCK => Self::Block,
            SCHEDOP_SHUTDOWN => Self::Shutdown(call.guest().read::<SchedShutdown>(arg)?.reason),
            SCHEDOP_POLL => Self::Poll(call.guest().read(arg)?),
            SCHEDOP_REMOTE_SHUTDOWN => {
                let op: SchedRemoteShutdown = call.guest().read(arg)?;
                Self::RemoteShutdown(DomId(op.domain_id), op.reason)
            }
            SCHEDOP_SHUTDOWN_CODE => {
                Self::ShutdownCode(call.guest().read::<SchedShutdown>(arg)?.reason)
            }
            SCHEDOP_WATCHDOG => {
                let op: SchedWatchdog = call.guest().read(arg)?;
                Self::Watchdog {
                    id: op.id,
                    seconds: op.timeout,
                }
            }
            SCHEDOP_PIN_OVERRIDE => {
                Self::PinOverride(call.guest().read::<SchedPinOverride>(arg)?.pcpu)
            }
            _ => return Err(Error::NotImplemented),
        })
    }
}

/// Runs command `args[0]` with the argument at `args[1]`.
///
/// # Errors
/// `EFAULT`, `ENOSYS`: as for parsing. `EINVAL`: a port, watchdog or CPU that is not.
/// `ENOSPC`: no watchdog left. `EPERM`, `ESRCH`: another domain's shutdown, or a pin, by
/// one who may not; no such domain.
pub fn sched_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [cmd, arg, ..] = args;
    match SchedOp::parse(call, cmd as u32, GuestVa(arg))? {
        SchedOp::Yield => {
            SCHEDULER.yield_(call.vcpu.unit);
            leave_cpu();
        }
        SchedOp::Block => block(call),
        SchedOp::Shutdown(reason) => shut_down(call.domain, reason),
        SchedOp::Poll(op) => poll(call, &op)?,
        SchedOp::RemoteShutdown(id, reason) => remote_shutdown(call, id, reason)?,
        SchedOp::ShutdownCode(reason) => call.domain.set_shutdown_code(reason as u8),
        SchedOp::Watchdog { id, seconds } => {
            let id = call.domain.watchdogs.arm(id, seconds, time::now())?;
            return Ok(Reply::Done(id.into()));
        }
        SchedOp::PinOverride(cpu) => pin(call, cpu)?,
    }
    Ok(Reply::Done(0))
}

/// Has the scheduler look again before the guest goes on.
fn leave_cpu() {
    machine::raise(machine::cpu_id(), machine::WORK_RESCHEDULE);
}

/// Unmasks events and sleeps until there is one.
///
/// The mask opens before the block is visible, and the block is visible before the look
/// at what is pending; a sender does the opposite. So one sees the other.
fn block(call: &Call<'_>) {
    let vcpu = call.vcpu;
    if let Some(info) = vcpu.info.get() {
        info.upcall_mask().store(0, SeqCst);
    }
    if SCHEDULER.block(vcpu.unit, || event_due(call)) {
        leave_cpu();
    }
}

/// Whether an event or NMI can be delivered to the calling vCPU.
fn event_due(call: &Call<'_>) -> bool {
    let upcall = call.vcpu.info.get().is_some_and(|info| {
        info.upcall_pending().load(SeqCst) != 0 && info.upcall_mask().load(SeqCst) == 0
    });
    upcall || call.vcpu.nmi_pending.load(SeqCst)
}

/// Sleeps until one of some ports is pending, masked or not, or an event can be
/// delivered, or a time has come.
fn poll(call: &mut Call<'_>, op: &SchedPoll) -> Result<(), Error> {
    match op.nr_ports as usize {
        count @ ..=FEW_POLL_PORTS => poll_in::<FEW_POLL_PORTS>(call, op, count),
        count @ ..=MAX_POLL_PORTS => poll_in::<MAX_POLL_PORTS>(call, op, count),
        _ => Err(Error::Invalid),
    }
}

/// Polls `count` ports, in an array that need not be larger.
#[inline(never)]
fn poll_in<const MOST: usize>(
    call: &mut Call<'_>,
    op: &SchedPoll,
    count: usize,
) -> Result<(), Error> {
    let mut ports = [0u32; MOST];
    let ports = ports.get_mut(..count).ok_or(Error::Invalid)?;
    call.guest().read_slice(GuestVa(op.ports), ports)?;
    let (domain, vcpu) = (call.domain, call.vcpu);
    // Counted before the block is visible: a sender looks at the count after it has
    // made its port pending.
    if !vcpu.polling.swap(true, SeqCst) {
        domain.pollers.fetch_add(1, SeqCst);
    }
    let mut bad = Ok(());
    let blocked = SCHEDULER.block_polling(vcpu.unit, || {
        if event_due(call) {
            return true;
        }
        for port in &*ports {
            match domain.events.is_pending(*port, &**domain) {
                Ok(false) => {}
                Ok(true) => return true,
                Err(why) => {
                    bad = Err(why.into());
                    return true;
                }
            }
        }
        false
    });
    if !blocked {
        vcpu.stop_polling(domain);
        return bad;
    }
    set_poll_timer(call, Nanos(op.timeout));
    leave_cpu();
    Ok(())
}

/// Ends the poll at `timeout` (0: never). The timer of an earlier poll may still run.
fn set_poll_timer(call: &Call<'_>, timeout: Nanos) {
    let vcpu = call.vcpu;
    if timeout == Nanos(0) {
        time::timers::cancel(&vcpu.poll);
    } else if time::timers::set(&vcpu.poll, timeout).is_err() {
        // Without a timer it must not sleep; a guest cannot count on sleeping.
        SCHEDULER.wake(vcpu.unit, time::now());
    }
}

fn shut_down(domain: &Domain, reason: u32) {
    // Xen keeps the low byte.
    shutdown::domain(domain, reason & 0xff);
}

fn remote_shutdown(call: &Call<'_>, id: DomId, reason: u32) -> Result<(), Error> {
    if id == DomId::SELF || id == call.domain.id {
        return Err(Error::NotPermitted);
    }
    let target = registry::get(id).ok_or(Error::NoDomain)?;
    if !access::may_control(&call.domain.subject(), id) {
        return Err(Error::NotPermitted);
    }
    shut_down(&target, reason);
    Ok(())
}

/// Pins the calling vCPU of dom0 to a CPU for a while, or (negative) ends that.
fn pin(call: &Call<'_>, cpu: i32) -> Result<(), Error> {
    if !access::may_hardware(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    let (unit, now) = (call.vcpu.unit, time::now());
    let moved = match u16::try_from(cpu) {
        Ok(cpu) => SCHEDULER.pin(unit, CpuId(cpu), now),
        Err(_) if cpu < 0 => SCHEDULER.unpin(unit, now),
        Err(_) => return Err(Error::Invalid),
    };
    let moved = moved.map_err(|why| match why {
        SchedError::Pinned => Error::Busy,
        _ => Error::Invalid,
    })?;
    if moved.is_some() {
        leave_cpu();
    }
    Ok(())
}
