//! The binary interface of Xen 4.17 for 64-bit PV guests, as plain types.
//!
//! One module per public header. A struct here has the layout of its C counterpart, checked at
//! compile time: size and the offset of every field. There is no logic and no `unsafe`; every
//! struct can be read from and written to bytes (`zerocopy`).
//!
//! Numbers that come from the other side are integers with named constants, never Rust enums.
//! Where C has a union, one field holds its bits and the field's documentation says which.
//! Structs that both sides write at the same time describe a layout only: their users build
//! atomic views from `core::mem::offset_of!`.
#![no_std]

/// Checks size and field offsets of a struct at compile time, in bytes.
macro_rules! layout {
    ($name:ident : $size:literal { $($field:ident : $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };
    };
}

pub mod arch_x86;
pub mod blkif;
pub mod callback;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod io;
pub mod mca;
pub mod memory;
pub mod netif;
pub mod nmi;
pub mod oxen;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;
