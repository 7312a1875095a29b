//! The one error of hypercalls and its number on the wire.
//!
//! Rooms name what went wrong in enums of their own; `From` gathers them here.

/// Why a hypercall failed. Each case becomes exactly one errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The caller lacks the right.
    NotPermitted,
    /// The object named does not exist.
    NoEntry,
    /// What was handed in is damaged.
    Damaged,
    /// No such domain.
    NoDomain,
    /// There is no such place.
    NoPlace,
    /// An argument list is too long.
    TooBig,
    /// Try again later.
    Again,
    /// Out of memory.
    NoMemory,
    /// Access to a resource refused (wrong interface version, say).
    Access,
    /// A guest address could not be read or written.
    Fault,
    /// In use.
    Busy,
    /// It exists already.
    Exists,
    /// No such device.
    NoDevice,
    /// An argument is outside what the interface allows.
    Invalid,
    /// No space left in a table.
    NoSpace,
    /// No such hypercall or sub-operation.
    NotImplemented,
    /// Result does not fit the caller's buffer.
    NoBuffer,
    /// Known, and not supported here.
    NotSupported,
    /// Value out of range.
    Range,
    /// There is nothing to answer.
    NoData,
}

impl Error {
    /// Xen's errno (Linux numbering), positive.
    ///
    /// Source: Xen `include/public/errno.h`.
    #[must_use]
    pub const fn errno(self) -> u64 {
        match self {
            Self::NotPermitted => 1,
            Self::NoEntry => 2,
            Self::NoDomain => 3,
            Self::Damaged => 5,
            Self::NoPlace => 6,
            Self::TooBig => 7,
            Self::Again => 11,
            Self::NoMemory => 12,
            Self::Access => 13,
            Self::Fault => 14,
            Self::Busy => 16,
            Self::Exists => 17,
            Self::NoDevice => 19,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Range => 34,
            Self::NotImplemented => 38,
            Self::NoData => 61,
            Self::NotSupported => 95,
            Self::NoBuffer => 105,
        }
    }

    /// What the guest sees in `rax`.
    #[must_use]
    pub const fn as_rax(self) -> u64 {
        self.errno().wrapping_neg()
    }
}

impl From<crate::event::EventError> for Error {
    /// Source: what Xen 4.17 answers in each case.
    fn from(error: crate::event::EventError) -> Self {
        use crate::event::EventError as E;
        match error {
            E::BadVcpu => Self::NoEntry,
            E::Bound => Self::Exists,
            E::NoPort | E::ArrayFull => Self::NoSpace,
            E::NoMemory => Self::NoMemory,
            E::NotFifo => Self::NotSupported,
            E::NoPriorities => Self::NotImplemented,
            E::BadPort
            | E::BadVirq
            | E::BadPirq
            | E::NotForCaller
            | E::FixedVcpu
            | E::Dying
            | E::BadPriority
            | E::BadControl => Self::Invalid,
        }
    }
}

impl From<crate::arch::fpu::BadArea> for Error {
    /// Source: Xen 4.17, `validate_xstate` and `setvcpuextstate`.
    fn from(error: crate::arch::fpu::BadArea) -> Self {
        use crate::arch::fpu::BadArea as E;
        match error {
            E::Size | E::Components => Self::Invalid,
            E::Compressed => Self::NotSupported,
            E::Reserved => Self::Damaged,
        }
    }
}

impl From<crate::mm::guest_copy::Fault> for Error {
    fn from(_: crate::mm::guest_copy::Fault) -> Self {
        Self::Fault
    }
}

impl From<crate::pv_mm::PtError> for Error {
    /// Source: what Xen 4.17 answers in each case.
    fn from(error: crate::pv_mm::PtError) -> Self {
        use crate::pv_mm::PtError as E;
        match error {
            E::FrameBusy | E::Changed | E::Overflow => Self::Busy,
            E::NoIoAccess => Self::NotPermitted,
            E::CacheType => Self::Access,
            E::BadFlags
            | E::NamesMemory
            | E::NotOwned
            | E::InUseAs(_)
            | E::NotATable
            | E::ReservedSlot
            | E::PinState
            | E::BadDescriptor => Self::Invalid,
        }
    }
}

impl From<crate::mm::page_ref::RefError> for Error {
    fn from(error: crate::mm::page_ref::RefError) -> Self {
        crate::pv_mm::PtError::from(error).into()
    }
}

impl From<crate::mm::AllocError> for Error {
    fn from(error: crate::mm::AllocError) -> Self {
        use crate::mm::AllocError as E;
        match error {
            E::OverLimit | E::NoMemory => Self::NoMemory,
            E::NoDomain => Self::NoDomain,
        }
    }
}

impl From<crate::fallible::NoMemory> for Error {
    fn from(_: crate::fallible::NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<crate::mm::ranges::Full> for Error {
    fn from(_: crate::mm::ranges::Full) -> Self {
        Self::NoMemory
    }
}

impl From<crate::pv_emul::debug::DebugError> for Error {
    fn from(error: crate::pv_emul::debug::DebugError) -> Self {
        use crate::pv_emul::debug::DebugError as E;
        match error {
            E::NoRegister => Self::NoDevice,
            E::NotPermitted => Self::NotPermitted,
            E::Invalid => Self::Invalid,
        }
    }
}

impl From<crate::irq::Error> for Error {
    /// Source: what Xen 4.17 answers in each case.
    fn from(error: crate::irq::Error) -> Self {
        use crate::irq::Error as E;
        match error {
            E::NoSuchIrq | E::Invalid => Self::Invalid,
            E::Exists => Self::Exists,
            E::Busy => Self::Busy,
            E::NoSpace => Self::NoSpace,
            E::NoDevice => Self::NoDevice,
        }
    }
}

impl From<crate::domain::watchdog::WatchdogError> for Error {
    fn from(error: crate::domain::watchdog::WatchdogError) -> Self {
        use crate::domain::watchdog::WatchdogError as E;
        match error {
            E::Invalid => Self::Invalid,
            E::NoneFree => Self::NoSpace,
            E::NoMemory => Self::NoMemory,
        }
    }
}
