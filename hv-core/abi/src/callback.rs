//! Callback registration.
//!
//! Source: Xen `include/public/callback.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Event upcall.
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// Bad segment selector on return.
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// 64-bit `syscall`.
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// Never used on x86-64.
pub const CALLBACKTYPE_SYSENTER_DEPRECATED: u16 = 3;
/// NMI.
pub const CALLBACKTYPE_NMI: u16 = 4;
/// 32-bit `sysenter`.
pub const CALLBACKTYPE_SYSENTER: u16 = 5;
/// 32-bit `syscall`.
pub const CALLBACKTYPE_SYSCALL32: u16 = 7;
/// Mask events on entry.
pub const CALLBACKF_MASK_EVENTS: u16 = 1;
/// Registers a callback.
pub const CALLBACKOP_REGISTER: u32 = 0;
/// Removes a callback.
pub const CALLBACKOP_UNREGISTER: u32 = 1;

/// `struct callback_register`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_*`.
    pub r#type: u16,
    /// `CALLBACKF_*`.
    pub flags: u16,
    /// Padding.
    pub _pad: u32,
    /// Entry point.
    pub address: u64,
}
layout! { CallbackRegister: 16 { r#type: 0, flags: 2, _pad: 4, address: 8 } }

/// `struct callback_unregister`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CallbackUnregister {
    /// `CALLBACKTYPE_*`.
    pub r#type: u16,
    /// Padding.
    pub _unused: u16,
}
layout! { CallbackUnregister: 4 { r#type: 0, _unused: 2 } }
