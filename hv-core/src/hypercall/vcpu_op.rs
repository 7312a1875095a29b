//! `vcpu_op` (24): starting and stopping vCPUs, their timers and their areas.

use super::{Call, Error, HypercallResult, Reply, mmu, timer};
use crate::addr::{GuestVa, Mfn, Nanos, VcpuId};
use crate::arch::machine;
use crate::domain::context::{self, Refused};
use crate::domain::notify::SCHEDULER;
use crate::domain::{Vcpu, clock, shutdown};
use crate::event::vcpu_info;
use crate::fallible::Arc;
use crate::mm::shared_page::{InfoSlot, SharedPage};
use crate::time;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::vcpu::{
    VCPUOP_DOWN, VCPUOP_GET_PHYSID, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE, VCPUOP_IS_UP,
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_VCPU_INFO,
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, VCPUOP_SEND_NMI, VCPUOP_SET_PERIODIC_TIMER,
    VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER,
    VCPUOP_UP, VcpuRegisterRunstateMemoryArea, VcpuRegisterTimeMemoryArea, VcpuRegisterVcpuInfo,
    VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
};
use zerocopy::FromZeros;

/// Shortest period, in nanoseconds. Source: Xen's `VCPUOP_set_periodic_timer`.
const SHORTEST_PERIOD: u64 = 1_000_000;
/// Longest.
const LONGEST_PERIOD: u64 = u64::MAX >> 2;

/// Runs command `args[0]` on vCPU `args[1]` of the caller with the argument at `args[2]`.
///
/// # Errors
/// `ENOENT`: no such vCPU. `ENOSYS`: unknown command. `EFAULT`: argument unreadable or
/// result not writable. Others as for each command.
#[inline]
pub fn vcpu_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [cmd, id, arg, ..] = args;
    // Linux asks for 8192 of them when it starts.
    let id = u16::try_from(id as u32).map_err(|_| Error::NoEntry)?;
    let vcpu = call.domain.vcpu(VcpuId(id)).ok_or(Error::NoEntry)?;
    let at = GuestVa(arg);
    match cmd as u32 {
        VCPUOP_SET_SINGLESHOT_TIMER => {
            require_self(call, vcpu)?;
            let op: VcpuSetSingleshotTimer = call.guest().read(at)?;
            // Whether the time has passed, the caller is told by the interrupt.
            timer::set(call, Nanos(op.timeout_abs_ns), time::now())?;
        }
        VCPUOP_STOP_SINGLESHOT_TIMER => {
            require_self(call, vcpu)?;
            timer::stop(call);
        }
        VCPUOP_IS_UP => return Ok(Reply::Done(SCHEDULER.is_up(vcpu.unit).into())),
        VCPUOP_INITIALISE => return initialise(call, vcpu, args),
        VCPUOP_UP => up(vcpu)?,
        VCPUOP_DOWN => down(call, vcpu),
        VCPUOP_GET_RUNSTATE_INFO => {
            let times = SCHEDULER.run_times(vcpu.unit, time::now());
            call.guest().write(at, &times.info())?;
        }
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let op: VcpuRegisterRunstateMemoryArea = call.guest().read(at)?;
            register_runstate(call, vcpu, GuestVa(op.addr))?;
        }
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
            let op: VcpuRegisterTimeMemoryArea = call.guest().read(at)?;
            register_time(call, GuestVa(op.addr))?;
        }
        VCPUOP_REGISTER_VCPU_INFO => {
            let op: VcpuRegisterVcpuInfo = call.guest().read(at)?;
            register_info(call, vcpu, &op)?;
        }
        VCPUOP_SET_PERIODIC_TIMER => {
            let op: VcpuSetPeriodicTimer = call.guest().read(at)?;
            set_periodic(vcpu, op.period_ns)?;
        }
        VCPUOP_STOP_PERIODIC_TIMER => {
            vcpu.period.store(0, Relaxed);
            time::timers::cancel(&vcpu.periodic);
        }
        VCPUOP_SEND_NMI => {
            if arg != 0 {
                return Err(Error::Invalid);
            }
            if !vcpu.nmi_pending.swap(true, SeqCst) {
                vcpu.notify();
            }
        }
        // The answer is for a dom0 whose vCPUs are pinned one to one: never ours.
        VCPUOP_GET_PHYSID => return Err(Error::Invalid),
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

/// # Errors
/// `EINVAL`: the timer of another vCPU.
#[inline]
fn require_self(call: &Call<'_>, vcpu: &Arc<Vcpu>) -> Result<(), Error> {
    if vcpu.id == call.vcpu.id {
        Ok(())
    } else {
        Err(Error::Invalid)
    }
}

/// Gives a vCPU its context. It takes as long as there are page tables to check below the
/// context's roots, so it may take several calls.
///
/// # Errors
/// `EINVAL`: it has no `vcpu_info`, or the context is not acceptable. `EEXIST`: it has a
/// context.
fn initialise(call: &Call<'_>, vcpu: &Arc<Vcpu>, args: [u64; 6]) -> HypercallResult {
    if vcpu.info.get().is_none() {
        return Err(Error::Invalid);
    }
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| Error::NoMemory)?;
    read_boxed(call, GuestVa(args[2]), &mut context)?;
    if vcpu.initialised.load(Acquire) {
        return Err(Error::Exists);
    }
    let Some(mut state) = vcpu.state.try_lock() else {
        // Another vCPU initialises the same one, or a tool looks at it.
        return Ok(Reply::Continue(args));
    };
    if vcpu.initialised.load(Acquire) {
        return Err(Error::Exists);
    }
    let mm = crate::mm::host::get();
    match context::set(mm, call.domain, vcpu, &mut state, &context, &mmu::pause) {
        Ok(_) => Ok(Reply::Done(0)),
        Err(Refused::Interrupted) => Ok(Reply::Continue(args)),
        Err(Refused::Bad | Refused::OtherTables) => Err(Error::Invalid),
    }
}

fn read_boxed(
    call: &Call<'_>,
    at: GuestVa,
    context: &mut Box<VcpuGuestContext>,
) -> Result<(), Error> {
    call.guest()
        .read_slice(at, core::slice::from_mut(&mut **context))?;
    Ok(())
}

/// # Errors
/// `EINVAL`: it has no context.
fn up(vcpu: &Vcpu) -> Result<(), Error> {
    if !vcpu.initialised.load(Acquire) {
        return Err(Error::Invalid);
    }
    if let Some(cpu) = SCHEDULER.up(vcpu.unit, time::now()) {
        machine::kick(cpu);
    }
    Ok(())
}

/// Takes a vCPU down; with the last one the domain powers off.
fn down(call: &Call<'_>, vcpu: &Vcpu) {
    let others = call.domain.vcpus();
    let last = others
        .iter()
        .all(|v| v.id == vcpu.id || !SCHEDULER.is_up(v.unit));
    if last {
        shutdown::domain(call.domain, SHUTDOWN_POWEROFF);
    } else if let Some(cpu) = SCHEDULER.down(vcpu.unit, time::now()) {
        machine::kick(cpu);
    }
}

/// # Errors
/// `EFAULT`: not an address of the guest's.
fn register_runstate(call: &Call<'_>, vcpu: &Vcpu, area: GuestVa) -> Result<(), Error> {
    if !area.is_guest() {
        return Err(Error::Fault);
    }
    vcpu.runstate_area.store(area.0, Relaxed);
    clock::write_runstate(call.domain, vcpu, call.state.kernel_root, time::now());
    Ok(())
}

/// Writes the second copy of the clock. The relation of TSC and system time never
/// changes here, so it is written once.
///
/// # Errors
/// `EFAULT`: not writable.
fn register_time(call: &Call<'_>, area: GuestVa) -> Result<(), Error> {
    if !area.is_guest() {
        return Err(Error::Fault);
    }
    let image = clock::time_info().image(2);
    call.guest().write_bytes(area, &image)?;
    Ok(())
}

/// # Errors
/// `ENXIO`: a bad offset. `EINVAL`: not the caller and not down, moved before, or not
/// the domain's ordinary memory.
fn register_info(
    call: &Call<'_>,
    vcpu: &Arc<Vcpu>,
    op: &VcpuRegisterVcpuInfo,
) -> Result<(), Error> {
    if !InfoSlot::fits(op.offset as usize) {
        return Err(Error::NoPlace);
    }
    if vcpu.id != call.vcpu.id && SCHEDULER.is_up(vcpu.unit) {
        return Err(Error::Invalid);
    }
    let mfn = Mfn::from_guest(op.mfn).ok_or(Error::Invalid)?;
    let mm = crate::mm::host::get();
    mm.get_writable(mfn, call.domain.id)
        .map_err(|_| Error::Invalid)?;
    // Claimed after what may fail, and given back if the rest does.
    let first = vcpu
        .info_moved
        .compare_exchange(false, true, AcqRel, Relaxed)
        .is_ok();
    let page = SharedPage::new(&mm.mem, mfn);
    let moved = first && vcpu_info::register(&vcpu.info, page, op.offset as usize);
    if !moved {
        if first {
            vcpu.info_moved.store(false, SeqCst);
        }
        mm.put_writable(mfn);
        return Err(Error::Invalid);
    }
    vcpu.set_info_frame(mfn);
    if let Some(info) = vcpu.info.get() {
        clock::time_info().publish(info.time());
    }
    Ok(())
}

/// # Errors
/// `EINVAL`: too short or too long. `ENOMEM`.
fn set_periodic(vcpu: &Vcpu, period: u64) -> Result<(), Error> {
    if !(SHORTEST_PERIOD..=LONGEST_PERIOD).contains(&period) {
        return Err(Error::Invalid);
    }
    vcpu.period.store(period, Relaxed);
    let next = Nanos(time::now().0.saturating_add(period));
    time::timers::set(&vcpu.periodic, next).map_err(|_| Error::NoMemory)
}
