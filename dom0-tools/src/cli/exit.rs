//! How `ox` ends: exit codes, and errors with the code they end in.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::{LoadError, Problems};
use crate::domain::protocol::{Failure, FailureCode};

/// Exit codes of `ox`, as documented in `docs/ox.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Ok = 0,
    /// Any failure that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No such domain, device, snapshot or vCPU.
    NotFound = 3,
    /// The name, device or file is in use.
    InUse = 4,
    /// The configuration is wrong.
    Config = 5,
    /// A file is missing, unreadable or damaged.
    File = 6,
    /// Not enough memory.
    Memory = 7,
    /// Not permitted.
    Denied = 8,
    /// The guest did not answer in time.
    TimedOut = 9,
    /// This hypervisor or version cannot do it.
    Unsupported = 10,
    /// The hypervisor, xenstore or `oxd` cannot be reached.
    Unreachable = 11,
}

impl Exit {
    /// All of them, with the word in JSON and the meaning.
    pub const ALL: &[(Self, &str, &str)] = &[
        (Self::Ok, "ok", "done"),
        (Self::Failed, "failed", "any other failure"),
        (Self::Usage, "usage", "the command line is wrong"),
        (
            Self::NotFound,
            "not-found",
            "no such domain, device, snapshot or vCPU",
        ),
        (Self::InUse, "in-use", "the name, device or file is in use"),
        (Self::Config, "config", "the configuration is wrong"),
        (
            Self::File,
            "file",
            "a file is missing, unreadable or damaged",
        ),
        (Self::Memory, "memory", "not enough memory"),
        (Self::Denied, "denied", "not permitted"),
        (
            Self::TimedOut,
            "timed-out",
            "the guest did not answer in time",
        ),
        (
            Self::Unsupported,
            "unsupported",
            "this hypervisor or version cannot do it",
        ),
        (
            Self::Unreachable,
            "unreachable",
            "the hypervisor, xenstore or oxd cannot be reached",
        ),
    ];

    /// The word in JSON.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(exit, ..)| *exit == self)
            .map_or("failed", |(_, word, _)| word)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// How `ox` ends.
    pub exit: Exit,
    /// One line (or one a problem) that names the thing and the way out.
    pub text: String,
}

impl Fail {
    /// A failure.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
        }
    }

    /// A file that cannot be used for this.
    pub fn file(what: &str, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::File,
        };
        Self::new(exit, format!("{what}: {error}"))
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fail {}

impl From<Problems> for Fail {
    fn from(problems: Problems) -> Self {
        Self::new(Exit::Config, problems.to_string())
    }
}

impl From<LoadError> for Fail {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File { file, error } => Self::file(&file, &error),
            LoadError::Wrong(problems) => problems.into(),
        }
    }
}

impl From<Failure> for Fail {
    fn from(failure: Failure) -> Self {
        let exit = match failure.code {
            FailureCode::Failed => Exit::Failed,
            FailureCode::NotFound => Exit::NotFound,
            FailureCode::InUse => Exit::InUse,
            FailureCode::BadConfig => Exit::Config,
            FailureCode::BadFile => Exit::File,
            FailureCode::NoMemory => Exit::Memory,
            FailureCode::Denied => Exit::Denied,
            FailureCode::TimedOut => Exit::TimedOut,
            FailureCode::Unsupported => Exit::Unsupported,
        };
        Self::new(exit, failure.text)
    }
}

impl From<io::Error> for Fail {
    /// Of standard output and the terminal.
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot write: {error}"))
    }
}
