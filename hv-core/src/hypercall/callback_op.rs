//! `callback_op` (30), and its older forms `set_callbacks` (4) and `nmi_op` (28).

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::GuestVa;
use crate::domain::VcpuState;
use crate::domain::vcpu::Callback;
use xen_abi::callback::{
    CALLBACKF_MASK_EVENTS, CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_EVENT,
    CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_NMI, CALLBACKTYPE_SYSCALL, CALLBACKTYPE_SYSCALL32,
    CALLBACKTYPE_SYSENTER, CallbackRegister, CallbackUnregister,
};
use xen_abi::nmi::XennmiCallback;

/// Registers or removes the calling vCPU's callback that `args[1]` describes, as
/// command `args[0]` says.
///
/// # Errors
/// `ENOSYS`: no such command or type. `EINVAL`: address not canonical, or a callback
/// that cannot be removed. `EFAULT`: argument unreadable.
///
/// Source: Xen `include/public/callback.h`.
pub fn callback_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let at = GuestVa(args[1]);
    match args[0] as u32 {
        CALLBACKOP_REGISTER => {
            let r: CallbackRegister = call.guest().read(at)?;
            let mask_events = r.flags & CALLBACKF_MASK_EVENTS != 0;
            register(call.state, r.r#type, r.address, mask_events)?;
        }
        CALLBACKOP_UNREGISTER => {
            let r: CallbackUnregister = call.guest().read(at)?;
            unregister(call.state, r.r#type)?;
        }
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

/// Registers event, failsafe and system-call callback at once: `args[0..3]`. The
/// first masks events, as always; the others do not.
///
/// # Errors
/// `EINVAL`: an address not canonical; nothing is registered then.
pub fn set_callbacks(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [event, failsafe, syscall, ..] = args;
    let all = [
        (CALLBACKTYPE_EVENT, event),
        (CALLBACKTYPE_FAILSAFE, failsafe),
        (CALLBACKTYPE_SYSCALL, syscall),
    ];
    if !all.iter().all(|(_, a)| GuestVa(*a).is_canonical()) {
        return Err(Error::Invalid);
    }
    for (kind, address) in all {
        register(call.state, kind, address, false)?;
    }
    Ok(Reply::Done(0))
}

/// Registers (`args[0]` 0) or removes (1) the NMI handler.
///
/// # Errors
/// `ENOSYS`: no such command. `EINVAL`: address not canonical. `EFAULT`: argument
/// unreadable.
///
/// Source: Xen `include/public/nmi.h`.
pub fn nmi_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    match args[0] as u32 {
        0 => {
            let c: XennmiCallback = call.guest().read(GuestVa(args[1]))?;
            register(call.state, CALLBACKTYPE_NMI, c.handler_address, true)?;
        }
        1 => unregister(call.state, CALLBACKTYPE_NMI)?,
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

fn register(
    state: &mut VcpuState,
    kind: u16,
    address: u64,
    mask_events: bool,
) -> Result<(), Error> {
    if !GuestVa(address).is_canonical() {
        return Err(Error::Invalid);
    }
    let mut callback = Callback {
        address,
        mask_events,
    };
    let slot = match kind {
        CALLBACKTYPE_EVENT | CALLBACKTYPE_NMI => {
            callback.mask_events = true;
            if kind == CALLBACKTYPE_EVENT {
                &mut state.event_callback
            } else {
                &mut state.nmi_callback
            }
        }
        CALLBACKTYPE_FAILSAFE => &mut state.failsafe_callback,
        CALLBACKTYPE_SYSCALL => &mut state.syscall_callback,
        CALLBACKTYPE_SYSCALL32 => &mut state.syscall32_callback,
        CALLBACKTYPE_SYSENTER => &mut state.sysenter_callback,
        _ => return Err(Error::NotImplemented),
    };
    *slot = callback;
    Ok(())
}

fn unregister(state: &mut VcpuState, kind: u16) -> Result<(), Error> {
    match kind {
        CALLBACKTYPE_NMI => {
            state.nmi_callback = Callback::default();
            Ok(())
        }
        CALLBACKTYPE_EVENT
        | CALLBACKTYPE_FAILSAFE
        | CALLBACKTYPE_SYSCALL
        | CALLBACKTYPE_SYSCALL32
        | CALLBACKTYPE_SYSENTER => Err(Error::Invalid),
        _ => Err(Error::NotImplemented),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_abi::callback::CALLBACKTYPE_SYSENTER_DEPRECATED;

    #[test]
    fn what_linux_registers() {
        let mut s = VcpuState::new().unwrap();
        let at = 0xffff_ffff_8180_0000;
        for kind in [0, 1, 2, 5, 7] {
            register(&mut s, kind, at + u64::from(kind), true).expect("accepted");
        }
        let addresses = [
            s.event_callback,
            s.failsafe_callback,
            s.syscall_callback,
            s.sysenter_callback,
            s.syscall32_callback,
        ]
        .map(|c| c.address - at);
        assert_eq!(addresses, [0, 1, 2, 5, 7]);
        assert!(s.syscall_callback.mask_events);
    }

    #[test]
    fn refusals() {
        let mut s = VcpuState::new().unwrap();
        assert_eq!(
            register(&mut s, CALLBACKTYPE_EVENT, 1 << 63, false),
            Err(Error::Invalid)
        );
        for kind in [CALLBACKTYPE_SYSENTER_DEPRECATED, 6, 8, u16::MAX] {
            assert_eq!(register(&mut s, kind, 0, false), Err(Error::NotImplemented));
            assert_eq!(unregister(&mut s, kind), Err(Error::NotImplemented));
        }
        assert_eq!(unregister(&mut s, CALLBACKTYPE_EVENT), Err(Error::Invalid));
        register(&mut s, CALLBACKTYPE_NMI, 0x1000, false).expect("accepted");
        assert!(s.nmi_callback.mask_events);
        unregister(&mut s, CALLBACKTYPE_NMI).expect("accepted");
        assert_eq!(s.nmi_callback.address, 0);
    }
}
