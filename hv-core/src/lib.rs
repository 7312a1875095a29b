//! The hypervisor, as a library: everything but the boot loader's handshake.
//!
//! Floors, lowest first; a room uses lower floors only (see `docs/architecture.md`):
//!
//! 0. [`addr`]
//! 1. [`arch`], [`sync`], [`percpu`], [`fallible`]
//! 2. [`mm`], [`time`], [`irq`], [`console`], [`power`]
//! 3. [`event`], [`grant`], [`sched`], [`pv_mm`], [`pv_emul`]
//! 4. [`domain`], [`access`]
//! 5. [`trap`], [`hypercall`], [`pv_build`], [`inspect`]
//! 6. [`start`]
//!
//! Floors 0, 3 and 4 hold no CPU instruction and no `unsafe`.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_macros,
        clippy::disallowed_types,
        reason = "tests may run out of memory"
    )
)]

extern crate alloc;

pub mod access;
pub mod addr;
pub mod arch;
pub mod console;
pub mod domain;
pub mod event;
pub mod fallible;
pub mod grant;
pub mod hypercall;
pub mod inspect;
pub mod irq;
pub mod mm;
pub mod percpu;
pub mod power;
pub mod pv_build;
pub mod pv_emul;
pub mod pv_mm;
pub mod sched;
pub mod start;
pub mod sync;
pub mod time;
pub mod trap;
