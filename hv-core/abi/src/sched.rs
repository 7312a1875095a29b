//! Scheduling.
//!
//! Source: Xen `include/public/sched.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Gives up the CPU.
pub const SCHEDOP_YIELD: u32 = 0;
/// Sleeps until an event.
pub const SCHEDOP_BLOCK: u32 = 1;
/// Stops the domain.
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// Sleeps until one of some ports.
pub const SCHEDOP_POLL: u32 = 3;
/// Marks another domain as stopped.
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// Sets the code for a later kill.
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// Arms a watchdog.
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// Pins the vCPU for a moment.
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;
/// Exited normally.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Restart.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Save.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Watchdog expired.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Restart in place.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// `struct sched_shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedShutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
layout! { SchedShutdown: 4 { reason: 0 } }

/// `struct sched_poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedPoll {
    /// Pointer to ports.
    pub ports: u64,
    /// Number of ports.
    pub nr_ports: u32,
    /// Padding.
    pub _pad: u32,
    /// System time, 0 for none.
    pub timeout: u64,
}
layout! { SchedPoll: 24 { ports: 0, nr_ports: 8, _pad: 12, timeout: 16 } }

/// `struct sched_remote_shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    /// Domain.
    pub domain_id: u16,
    /// Padding.
    pub _pad: u16,
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
layout! { SchedRemoteShutdown: 8 { domain_id: 0, _pad: 2, reason: 4 } }

/// `struct sched_watchdog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedWatchdog {
    /// Watchdog, 0 for a new one.
    pub id: u32,
    /// Seconds, 0 to disarm.
    pub timeout: u32,
}
layout! { SchedWatchdog: 8 { id: 0, timeout: 4 } }

/// `struct sched_pin_override`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedPinOverride {
    /// CPU, negative to release.
    pub pcpu: i32,
}
layout! { SchedPinOverride: 4 { pcpu: 0 } }
