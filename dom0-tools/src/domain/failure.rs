//! Which kind of failure an error is, for the one who asked.

use super::create::CreateError;
use super::machine::StepError;
use super::protocol::{Failure, FailureCode};
use super::snapshot::SnapshotError;
use crate::build;
use crate::ctl;
use crate::device::backend::BackendError;
use crate::device::handshake::HandshakeError;
use crate::device::nodes::StoreFailure;
use crate::device::vbd::VbdError;
use crate::device::vbd::backing::BackingError;
use crate::device::vif::VifError;
use crate::stream;

/// The kind of a hypervisor's error.
fn of_xen(error: &ctl::Error) -> FailureCode {
    match error.errno() {
        Some(libc::ESRCH) => FailureCode::NotFound,
        Some(libc::ENOMEM) => FailureCode::NoMemory,
        Some(libc::EPERM) => FailureCode::Denied,
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => FailureCode::Unsupported,
        _ => FailureCode::Failed,
    }
}

const fn of_handshake(error: &HandshakeError) -> FailureCode {
    match error {
        HandshakeError::Store(_) => FailureCode::Failed,
        HandshakeError::NoBackend { .. } | HandshakeError::NotServed { .. } => {
            FailureCode::Unsupported
        }
        HandshakeError::Ended { .. } => FailureCode::NotFound,
        HandshakeError::Kept { .. } => FailureCode::TimedOut,
    }
}

const fn of_backend(error: &BackendError) -> FailureCode {
    match error {
        BackendError::Store(_) => FailureCode::Failed,
        BackendError::Absent(_) => FailureCode::NotFound,
        BackendError::Itself(_) => FailureCode::BadConfig,
    }
}

const fn of_disk(error: &VbdError) -> FailureCode {
    match error {
        VbdError::Backing(
            BackingError::Target { .. }
            | BackingError::NoDisk { .. }
            | BackingError::NoTarget(_)
            | BackingError::Image { .. },
        ) => FailureCode::BadFile,
        VbdError::Backing(BackingError::InUse { .. }) | VbdError::Exists(_) => FailureCode::InUse,
        VbdError::Backing(BackingError::Format { .. } | BackingError::Nbd { .. }) => {
            FailureCode::Unsupported
        }
        VbdError::Backend { error, .. } => of_backend(error),
        VbdError::Handshake(error) => of_handshake(error),
        VbdError::Backing(BackingError::Loop { .. })
        | VbdError::Store(_)
        | VbdError::Script(_)
        | VbdError::Flush { .. } => FailureCode::Failed,
    }
}

const fn of_vif(error: &VifError) -> FailureCode {
    match error {
        VifError::Exists(_) => FailureCode::InUse,
        VifError::Backend { error, .. } => of_backend(error),
        VifError::Handshake(error) => of_handshake(error),
        VifError::Wiring(_) => FailureCode::BadConfig,
        VifError::Store(_) | VifError::Script(_) => FailureCode::Failed,
    }
}

fn of_stream(error: &stream::Error) -> FailureCode {
    match error {
        stream::Error::Hypervisor(error)
        | stream::Error::Build(build::Error::Hypervisor(error)) => of_xen(error),
        stream::Error::Build(build::Error::Memory { .. }) => FailureCode::NoMemory,
        stream::Error::Domain(_) => FailureCode::Unsupported,
        stream::Error::At(_, error) => of_stream(error),
        stream::Error::Io(_)
        | stream::Error::Truncated
        | stream::Error::Damaged(_)
        | stream::Error::Format(_)
        | stream::Error::Build(_) => FailureCode::BadFile,
    }
}

impl Failure {
    /// Of a saved domain's file.
    pub(super) fn of_file(path: &std::path::Path, error: &stream::Error) -> Self {
        Self::new(of_stream(error), format!("{}: {error}", path.display()))
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let code = match &error {
            StepError::Xen(error) | StepError::Build(build::Error::Hypervisor(error)) => {
                of_xen(error)
            }
            StepError::Build(build::Error::Memory { .. }) => FailureCode::NoMemory,
            StepError::Stream(error) => of_stream(error),
            StepError::Build(_) | StepError::File { .. } => FailureCode::BadFile,
            StepError::Disk(error) => of_disk(error),
            StepError::Vif(error) => of_vif(error),
            StepError::Store(_)
            | StepError::Console(_)
            | StepError::NoRing(_)
            | StepError::Thread { .. } => FailureCode::Failed,
            StepError::Unsupported { .. } => FailureCode::BadConfig,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CreateError<StepError>> for Failure {
    fn from(error: CreateError<StepError>) -> Self {
        match error {
            CreateError::Step(error) => error.into(),
            CreateError::Store(error) => error.into(),
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let code = match &error {
            SnapshotError::Absent { .. } => FailureCode::NotFound,
            SnapshotError::Exists { .. } => FailureCode::InUse,
            SnapshotError::File { .. } | SnapshotError::Manifest { .. } => FailureCode::BadFile,
            SnapshotError::Disk { .. } => FailureCode::Unsupported,
        };
        Self::new(code, error.to_string())
    }
}

impl From<VbdError> for Failure {
    fn from(error: VbdError) -> Self {
        Self::new(of_disk(&error), error.to_string())
    }
}

impl From<StoreFailure> for Failure {
    fn from(error: StoreFailure) -> Self {
        Self::new(FailureCode::Failed, error.to_string())
    }
}

impl From<ctl::Error> for Failure {
    fn from(error: ctl::Error) -> Self {
        Self::new(of_xen(&error), error.to_string())
    }
}
