//! Device nodes, ioctls and mappings of dom0's kernel, each behind a trait with a fake.
//!
//! | trait | device | what for |
//! |---|---|---|
//! | [`Privcmd`] | `/dev/xen/privcmd` | hypercalls, mappings of other domains' frames |
//! | [`Evtchn`] | `/dev/xen/evtchn` | event channels |
//! | [`GntDev`] | `/dev/xen/gntdev` | mappings of granted pages |
//! | [`XenbusBackend`] | `/dev/xen/xenbus_backend` | the kernel's own xenstore ring |
//!
//! Beside them, without a fake: [`LoopDevice`] and [`NetControl`], ordinary parts of Linux.
//!
//! This room holds all `unsafe` of the toolstack. Memory that another domain can write is never a
//! reference: [`SharedPages`] copies it in and out. What a hypercall reads and writes lies in one
//! [`Buffer`], lent to the call.

mod buffer;
mod evtchn;
pub mod fake;
mod gntdev;
mod ids;
mod loop_device;
mod memory;
mod net_device;
mod privcmd;
mod shared;
mod xenbus;

pub use buffer::{Buffer, Slot};
pub use evtchn::{Evtchn, LinuxEvtchn};
pub use gntdev::{GntDev, LinuxGntDev};
pub use ids::{DomId, GrantRef, Mfn, Pfn, Port, Vcpu};
pub use loop_device::LoopDevice;
pub use net_device::NetControl;
pub use privcmd::{Foreign, LinuxPrivcmd, Privcmd, Resource};
pub use shared::{Access, SharedPages};
pub use xenbus::{LinuxXenbusBackend, XenbusBackend};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// `_IOC(_IOC_NONE, kind, number, size)`: the form of all ioctls of Xen's devices.
///
/// Source: Linux `include/uapi/asm-generic/ioctl.h`.
const fn ioctl_number(kind: u8, number: u8, size: usize) -> libc::c_ulong {
    (size as libc::c_ulong) << 16 | (kind as libc::c_ulong) << 8 | number as libc::c_ulong
}
