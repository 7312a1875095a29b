//! States of vCPUs. The domain is held while one is read or changed.

use super::{After, Request, not_oneself, vcpu_of};
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::arch::speculation::bits::msr::SPEC_CTRL;
use crate::arch::xcr0::Xcr0;
use crate::domain::context::{self, Refused};
use crate::domain::notify::SCHEDULER;
use crate::domain::vcpu::Callback;
use crate::domain::{Domain, Vcpu, VcpuState, wallclock};
use crate::fallible::{self, Arc};
use crate::hypercall::{Call, Error, mmu};
use crate::time;
use core::sync::atomic::Ordering;
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl as abi;
use zerocopy::FromZeros;

/// Runs `f` on the state of a vCPU of `domain`, which is kept from running meanwhile.
fn with_state<R>(
    domain: &Domain,
    vcpu: &Vcpu,
    f: impl FnOnce(&mut VcpuState) -> Result<R, Error>,
) -> Result<R, Error> {
    let _held = domain.hold();
    loop {
        // Whoever has it looks at it only, and not for long.
        if let Some(mut state) = vcpu.state.try_lock() {
            // A domain that is taken apart has none to show. Asked with the lock: what the state
            // gets after that, its teardown finds.
            if domain.life.is_dying() {
                return Err(Error::NoDomain);
            }
            return f(&mut state);
        }
        machine::relax();
    }
}

/// A vCPU of a domain that is not the caller's.
///
/// # Errors
/// `EINVAL`: oneself, no such vCPU. `ESRCH`: it is not made yet.
fn others_vcpu<'a>(call: &Call<'_>, domain: &'a Domain, id: u32) -> Result<&'a Arc<Vcpu>, Error> {
    not_oneself(call, domain)?;
    vcpu_of(domain, id)
}

/// `setvcpucontext`.
///
/// It takes as long as there are page tables to check below the context's roots, so the caller may
/// have to repeat it.
///
/// `EINVAL`: oneself, no such vCPU, a context it cannot have. `EOPNOTSUPP`: other page tables or
/// descriptors than it has. `EFAULT`. `ENOMEM`.
pub(super) fn set_context(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpucontext = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    let mut wanted = VcpuGuestContext::new_box_zeroed().map_err(|_| Error::NoMemory)?;
    call.guest()
        .read_slice(GuestVa(op.ctxt), core::slice::from_mut(&mut *wanted))?;
    let set = with_state(domain, vcpu, |state| {
        let mm = crate::mm::host::get();
        Ok(context::set(mm, domain, vcpu, state, &wanted, &mmu::pause))
    })?;
    let online = match set {
        Ok(online) => online,
        Err(Refused::Interrupted) => return Ok(After::Again),
        Err(Refused::Bad) => return Err(Error::Invalid),
        Err(Refused::OtherTables) => return Err(Error::NotSupported),
    };
    if vcpu.id.0 == 0 {
        // Builders clear the shared page, the date in it too, before they come here.
        wallclock::publish(domain);
    }
    let now = time::now();
    let kick = if online {
        SCHEDULER.up(vcpu.unit, now)
    } else {
        SCHEDULER.down(vcpu.unit, now)
    };
    if let Some(cpu) = kick {
        machine::kick(cpu);
    }
    Ok(After::Done)
}

/// `getvcpucontext`.
///
/// `EINVAL`: oneself, no such vCPU. `ENODATA`: it was never given one. `EFAULT`. `ENOMEM`.
pub(super) fn get_context(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpucontext = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    if !vcpu.initialised.load(Ordering::Acquire) {
        return Err(Error::NoData);
    }
    let online = SCHEDULER.is_up(vcpu.unit);
    let context = with_state(domain, vcpu, |state| {
        context::get(domain, vcpu, state, online).ok_or(Error::NoMemory)
    })?;
    call.guest().write(GuestVa(op.ctxt), &*context)?;
    Ok(After::CopyBack)
}

/// `set_ext_vcpucontext`: entries of 32-bit system calls.
///
/// `EINVAL`: oneself, another size, an address no code can be at. `ESRCH`: no such vCPU.
pub(super) fn set_extended(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlExtVcpucontext = request.body();
    not_oneself(call, domain)?;
    let vcpu = vcpu_of(domain, op.vcpu).map_err(|_| Error::NoDomain)?;
    let addresses = [op.sysenter_callback_eip, op.syscall32_callback_eip];
    // Machine-check capabilities follow these; a guest has none.
    const LEAST: u32 = 32;
    if op.size < LEAST || !addresses.map(GuestVa).iter().all(|a| a.is_canonical()) {
        return Err(Error::Invalid);
    }
    with_state(domain, vcpu, |state| {
        state.sysenter_callback = Callback {
            address: op.sysenter_callback_eip,
            mask_events: op.sysenter_disables_events != 0,
        };
        state.syscall32_callback = Callback {
            address: op.syscall32_callback_eip,
            mask_events: op.syscall32_disables_events != 0,
        };
        Ok(After::Done)
    })
}

/// `get_ext_vcpucontext`.
///
/// `EINVAL`: oneself. `ESRCH`: no such vCPU.
pub(super) fn get_extended(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let asked: abi::XenDomctlExtVcpucontext = request.body();
    not_oneself(call, domain)?;
    let vcpu = vcpu_of(domain, asked.vcpu).map_err(|_| Error::NoDomain)?;
    let (sysenter, syscall32) = with_state(domain, vcpu, |state| {
        Ok((state.sysenter_callback, state.syscall32_callback))
    })?;
    request.set_body(&abi::XenDomctlExtVcpucontext {
        vcpu: asked.vcpu,
        size: size_of::<abi::XenDomctlExtVcpucontext>() as u32,
        syscall32_callback_eip: syscall32.address,
        sysenter_callback_eip: sysenter.address,
        syscall32_disables_events: syscall32.mask_events.into(),
        sysenter_disables_events: sysenter.mask_events.into(),
        ..FromZeros::new_zeroed()
    });
    Ok(After::CopyBack)
}

/// XCR0 and all it ever was, before the save area. Source: Xen `PV_XSAVE_HDR_SIZE`.
const XSAVE_HEAD: usize = 16;

/// `getvcpuextstate`: without room, the components and how much room it takes.
///
/// `EINVAL`: oneself, no such vCPU, too little room. `EFAULT`. `ENOMEM`.
pub(super) fn get_xsave(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let mut op: abi::XenDomctlVcpuextstate = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    let size = (XSAVE_HEAD + machine::fpu_area_size()) as u64;
    if op.size == 0 && op.xfeature_mask == 0 {
        op.xfeature_mask = Xcr0::ALL.raw();
        op.size = size;
        request.set_body(&op);
        return Ok(After::CopyBack);
    }
    if op.size < size {
        return Err(Error::Invalid);
    }
    let blob = with_state(domain, vcpu, |state| {
        let head = state.xcr0.raw().to_le_bytes().into_iter().chain([0; 8]);
        let area = state.fpu.bytes().take(machine::fpu_area_size());
        let mut bytes = head.chain(area);
        let mut blob = fallible::boxed_slice(size as usize, |_| bytes.next().unwrap_or(0))?;
        let least = state.xcr0.max(Xcr0::X87_SSE);
        let ever =
            Xcr0::covering(in_use(&blob[XSAVE_HEAD..])).map_or(least, |used| used.max(least));
        blob[8..XSAVE_HEAD].copy_from_slice(&ever.raw().to_le_bytes());
        Ok(blob)
    })?;
    call.guest().write_bytes(GuestVa(op.buffer), &blob)?;
    op.size = size;
    op.xfeature_mask = Xcr0::ALL.raw();
    request.set_body(&op);
    Ok(After::CopyBack)
}

/// The components an area holds, its word XSTATE_BV. `XSAVE` stores what the hypervisor asks for,
/// which may be more than XCR0 has now; Xen refuses an area with components XCR0 never had.
/// Source: Intel SDM volume 1, 13.4.2.
fn in_use(area: &[u8]) -> u64 {
    area.get(512..520)
        .and_then(|word| word.first_chunk::<8>())
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// `setvcpuextstate`.
///
/// `EINVAL`: oneself, no such vCPU, a state that no CPU could load. `EOPNOTSUPP`: in compacted
/// format. `EIO`: reserved bytes are set. `EFAULT`. `ENOMEM`.
pub(super) fn set_xsave(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpuextstate = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    let most = (XSAVE_HEAD + machine::fpu_area_size()) as u64;
    if op.size < XSAVE_HEAD as u64 || op.size > most {
        return Err(Error::Invalid);
    }
    let mut blob = fallible::boxed_slice(op.size as usize, |_| 0_u8)?;
    call.guest().read_slice(GuestVa(op.buffer), &mut blob)?;
    let (head, area) = blob.split_at(XSAVE_HEAD);
    let [now, ever] = [0, 8].map(|at| {
        let bytes = head.get(at..).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    });
    if area.is_empty() && now == 0 && ever == 0 {
        return Ok(After::Done);
    }
    let offered = domain.planned_cpu_policy().xcr0();
    let ever = Xcr0::new(ever, offered).ok_or(Error::Invalid)?;
    let now = Xcr0::new(now, ever.raw()).ok_or(Error::Invalid)?;
    with_state(domain, vcpu, |state| {
        state.fpu.set_xsave(area, ever, machine::mxcsr_mask())?;
        state.xcr0 = now;
        Ok(After::Done)
    })
}

/// Registers that are a vCPU's and that no context has.
/// Source: Intel SDM volume 4.
const TSC_AUX: u32 = 0xc000_0103;

/// `get_vcpu_msrs`: without a list, how many there are. Registers that are 0 are left out.
///
/// `EINVAL`: oneself, no such vCPU. `ENOBUFS`: too little room. `EFAULT`.
pub(super) fn get_msrs(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let mut op: abi::XenDomctlVcpuMsrs = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    let registers = with_state(domain, vcpu, |state| {
        Ok([
            (SPEC_CTRL, state.spec_ctrl),
            (TSC_AUX, u64::from(state.tsc_aux)),
        ])
    })?;
    if op.msrs == 0 {
        op.msr_count = registers.len() as u32;
    } else {
        let mut written = 0;
        for (index, value) in registers.into_iter().filter(|(_, value)| *value != 0) {
            if written == op.msr_count {
                return Err(Error::NoBuffer);
            }
            let entry = abi::XenDomctlVcpuMsr {
                index,
                reserved: 0,
                value,
            };
            let at = u64::from(written) * size_of::<abi::XenDomctlVcpuMsr>() as u64;
            call.guest().write(GuestVa(op.msrs).add(at), &entry)?;
            written += 1;
        }
        op.msr_count = written;
    }
    request.set_body(&op);
    Ok(After::CopyBack)
}

/// `set_vcpu_msrs`.
///
/// `EINVAL`: oneself, no such vCPU, a register that is none of its, or a value that it could not
/// have set. `EFAULT`.
pub(super) fn set_msrs(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpuMsrs = request.body();
    let vcpu = others_vcpu(call, domain, op.vcpu)?;
    let allowed = domain.planned_cpu_policy().spec_ctrl().unwrap_or(0);
    for n in 0..op.msr_count {
        let at = GuestVa(op.msrs).add(u64::from(n) * size_of::<abi::XenDomctlVcpuMsr>() as u64);
        let entry: abi::XenDomctlVcpuMsr = call.guest().read(at)?;
        match (entry.index, entry.value) {
            _ if entry.reserved != 0 => return Err(Error::Invalid),
            (TSC_AUX, value) if u32::try_from(value).is_ok() => {
                with_state(domain, vcpu, |state| {
                    state.tsc_aux = value as u32;
                    Ok(())
                })?;
            }
            (SPEC_CTRL, value) if value & !allowed == 0 => with_state(domain, vcpu, |state| {
                state.spec_ctrl = value;
                Ok(())
            })?,
            // A register in its initial state needs none.
            (_, 0) => {}
            _ => return Err(Error::Invalid),
        }
    }
    Ok(After::Done)
}

/// `sendtrigger`: an NMI; a PV guest has no buttons.
///
/// `EINVAL`: no such vCPU. `ENOSYS`: another trigger.
pub(super) fn trigger(domain: &Domain, request: &Request) -> Result<After, Error> {
    let op: abi::XenDomctlSendtrigger = request.body();
    if op.trigger != abi::XEN_DOMCTL_SENDTRIGGER_NMI {
        return Err(Error::NotImplemented);
    }
    let vcpu = vcpu_of(domain, op.vcpu)?;
    if !vcpu.nmi_pending.swap(true, Ordering::SeqCst) {
        vcpu.notify();
    }
    Ok(After::Done)
}
