//! What Oxen offers to tools beyond Xen's interface: statistics of domains and the record
//! of privileged operations.
//!
//! They are commands of `sysctl` with numbers far outside Xen's range, so on Xen they are
//! `-ENOSYS` and a tool goes without. The head is that of any `sysctl`
//! ([`XenSysctl`](crate::sysctl::XenSysctl), with Xen's interface version); each body begins
//! with [`OXEN_VERSION`], and another version is `-EACCES`. Padding is 0.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of what is in this module.
pub const OXEN_VERSION: u32 = 1;

/// `sysctl`: statistics of domains. Body: [`OxenStats`].
pub const OXEN_SYSCTL_STATS: u32 = 0x4f58_0001;
/// `sysctl`: the record of privileged operations. Body: [`OxenAudit`].
pub const OXEN_SYSCTL_AUDIT: u32 = 0x4f58_0002;

/// No domain. Source: Xen `include/public/xen.h`, `DOMID_INVALID`.
pub const OXEN_NOBODY: u16 = 0x7ff4;

/// Asks for statistics of domains numbered `first_domain` and more, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OxenStats {
    /// In: [`OXEN_VERSION`].
    pub version: u32,
    /// In: from this one on.
    pub first_domain: u16,
    /// Padding.
    pub _pad0: u16,
    /// In: room, in domains.
    pub room: u32,
    /// Out: how many there were.
    pub count: u32,
    /// In: where [`OxenDomainStats`] go.
    pub buffer: u64,
}
layout! { OxenStats: 24 { version: 0, first_domain: 4, _pad0: 6, room: 8, count: 12, buffer: 16 } }

/// What a domain has used since it was made, and has now. Times are nanoseconds, summed over
/// its vCPUs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct OxenDomainStats {
    /// Its number.
    pub domain: u16,
    /// Its roles: 1 hardware, 2 control, 4 xenstore, 8 driver.
    pub roles: u16,
    /// vCPUs it has.
    pub vcpus: u32,
    /// Time on a CPU.
    pub run_time: u64,
    /// Time in which a vCPU could have run and had no CPU.
    pub wait_time: u64,
    /// Time in which a vCPU waited for an event.
    pub blocked_time: u64,
    /// Hypercalls, entries of multicalls among them. (`iret` is not counted.)
    pub hypercalls: u64,
    /// Events sent through its ports.
    pub events_sent: u64,
    /// Grants of others it has mapped.
    pub grant_maps: u64,
    /// Copies from or to grants.
    pub grant_copies: u64,
    /// Frames of other domains it has put into page tables as their manager.
    pub foreign_maps: u64,
    /// Attempts at what it has no right to.
    pub denied: u64,
    /// Grants of others it has mapped now.
    pub grants_mapped: u64,
    /// Uses of its grants by others now.
    pub grants_in_use: u64,
    /// Frames it has now.
    pub pages: u64,
    /// Frames it may have.
    pub max_pages: u64,
}
layout! {
    OxenDomainStats: 112 {
        domain: 0, roles: 2, vcpus: 4, run_time: 8, wait_time: 16, blocked_time: 24,
        hypercalls: 32, events_sent: 40, grant_maps: 48, grant_copies: 56, foreign_maps: 64,
        denied: 72, grants_mapped: 80, grants_in_use: 88, pages: 96, max_pages: 104,
    }
}

/// Asks for records of privileged operations, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OxenAudit {
    /// In: [`OXEN_VERSION`].
    pub version: u32,
    /// In: room, in records.
    pub room: u32,
    /// Out: how many there were.
    pub count: u32,
    /// Padding.
    pub _pad: u32,
    /// In: number of the first record wanted (0: as old as there are). Out: what to ask for
    /// next time.
    pub next: u64,
    /// Out: records between the one asked for and the first one given, which are forgotten.
    pub forgotten: u64,
    /// Out: denied attempts that were never recorded, because a domain made too many.
    pub suppressed: u64,
    /// In: where [`OxenAuditRecord`]s go.
    pub buffer: u64,
}
layout! {
    OxenAudit: 48 {
        version: 0, room: 4, count: 8, _pad: 12, next: 16, forgotten: 24, suppressed: 32,
        buffer: 40,
    }
}

/// One privileged operation, or an attempt at one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct OxenAuditRecord {
    /// Its number, from 0 on.
    pub number: u64,
    /// System time, in nanoseconds.
    pub time: u64,
    /// Who did it.
    pub subject: u16,
    /// To whom; [`OXEN_NOBODY`]: the host, or it is not known.
    pub target: u16,
    /// Number of the hypercall.
    pub hypercall: u32,
    /// Its command (`XEN_DOMCTL_*`, ...); of hypercalls without commands, their first argument.
    pub command: u32,
    /// 0, or a negative errno.
    pub result: i32,
}
layout! {
    OxenAuditRecord: 32 {
        number: 0, time: 8, subject: 16, target: 18, hypercall: 20, command: 24, result: 28,
    }
}
