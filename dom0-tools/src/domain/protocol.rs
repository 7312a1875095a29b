//! What `ox` and `oxd` say to each other over [`SOCKET`].
//!
//! A connection carries one [`Request`] at a time: `ox` sends it, `oxd` answers with any
//! number of [`Answer::Event`] and exactly one [`Answer::End`]. Then the next request may
//! follow. Closing the connection while a request runs does not undo it, except
//! [`Request::Events`], which ends only so.
//!
//! Each message is a frame: [`HEAD_BYTES`] of head (`b"oxen"`, version as `u16`, two zero
//! bytes, length as `u32`, little endian), then the message in postcard. The head does not
//! change between versions, so that either side can say which version it met.
//!
//! Configurations travel as TOML text ([`crate::config`]), not as postcard: that form is
//! the persistent one and names its own keys.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the messages. Changes whenever any of the types below does.
pub const VERSION: u16 = 2;

/// Unix socket on which `oxd` listens; reachable by root alone.
pub const SOCKET: &str = "/run/oxen/oxd.sock";

/// Length of a frame's head, bytes.
pub const HEAD_BYTES: usize = 12;

/// Longest message, bytes. A configuration is a few KiB.
pub const MOST_BYTES: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"oxen";

/// What `ox` asks. Domains are ids: `ox` has resolved the name that was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who is there? Answered by [`Response::Hello`].
    Hello,
    /// A new domain. Answered by [`Response::Created`].
    Create {
        /// [`crate::config::DomainConfig`] as TOML.
        config: String,
        /// Leave it paused, as `xl create -p`.
        paused: bool,
    },
    /// Ends a domain at once. Answered by [`Response::Done`] when it is gone.
    Destroy {
        /// Whom.
        domain: u16,
    },
    /// Asks a domain to end by itself (`control/shutdown`).
    Shutdown {
        /// Whom.
        domain: u16,
        /// To end or to start anew.
        how: ShutdownHow,
        /// Answer only when it has ended.
        wait: bool,
    },
    /// Writes a running domain into a file. Progress in bytes.
    Save {
        /// Whom.
        domain: u16,
        /// Absolute path.
        file: String,
        /// What becomes of the domain.
        then: AfterSave,
    },
    /// Writes a domain's memory and registers into a file for debuggers; it goes on meanwhile.
    /// Progress in bytes.
    DumpCore {
        /// Whom.
        domain: u16,
        /// Absolute path.
        file: String,
    },
    /// A domain out of a file. Answered by [`Response::Created`]. Progress in bytes.
    Restore {
        /// Absolute path.
        file: String,
        /// TOML that takes the place of the configuration in the file.
        config: Option<String>,
        /// Leave it paused.
        paused: bool,
    },
    /// Another name.
    Rename {
        /// Whom.
        domain: u16,
        /// Checked by `oxd` again ([`crate::config::DomainName`]).
        name: String,
    },
    /// How many vCPUs the guest should use (`cpu/N/availability`).
    VcpuSet {
        /// Whom.
        domain: u16,
        /// From 1 to the most it was created with.
        online: u32,
    },
    /// What the balloon driver should aim at (`memory/target`).
    MemSet {
        /// Whom.
        domain: u16,
        /// KiB.
        kib: u64,
    },
    /// Most memory the domain may have, in the hypervisor and in `memory/static-max`.
    MemMax {
        /// Whom.
        domain: u16,
        /// KiB.
        kib: u64,
    },
    /// One more disk. Answered by [`Response::Attached`].
    BlockAttach {
        /// To whom.
        domain: u16,
        /// [`crate::config::Disk`] as TOML.
        disk: String,
    },
    /// One disk less.
    BlockDetach {
        /// From whom.
        domain: u16,
        /// Device number as in xenstore (51712 for `xvda`).
        device: u32,
        /// Do not wait for the guest.
        force: bool,
    },
    /// One more network card. Answered by [`Response::Attached`].
    NetworkAttach {
        /// To whom.
        domain: u16,
        /// [`crate::config::Vif`] as TOML.
        vif: String,
    },
    /// One network card less.
    NetworkDetach {
        /// From whom.
        domain: u16,
        /// Device number as in xenstore, from 0.
        device: u32,
        /// Do not wait for the guest.
        force: bool,
    },
    /// The configuration a domain has now, as TOML. Answered by [`Response::Config`].
    Config {
        /// Whose.
        domain: u16,
    },
    /// What happens to domains: each as [`Event::Domain`].
    Events {
        /// This one only.
        domain: Option<u16>,
        /// Those of the past that `oxd` remembers, first.
        past: bool,
        /// Wait for more; otherwise it ends with the last of the past.
        follow: bool,
    },
    /// Memory and disks of a domain under a name.
    SnapshotCreate {
        /// Of whom.
        domain: u16,
        /// Under which name.
        name: String,
    },
    /// Answered by [`Response::Snapshots`].
    SnapshotList {
        /// Name of a domain, running or not; all of them if absent.
        domain: Option<String>,
    },
    /// Back to a snapshot; the domain, if it runs, is destroyed first.
    /// Answered by [`Response::Created`].
    SnapshotRevert {
        /// Name of the domain, running or not.
        domain: String,
        /// Name of the snapshot.
        name: String,
    },
    /// Forgets a snapshot.
    SnapshotDelete {
        /// Name of the domain, running or not.
        domain: String,
        /// Name of the snapshot.
        name: String,
    },
}

/// How a domain is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownHow {
    /// `poweroff`
    Poweroff,
    /// `reboot`
    Reboot,
    /// `halt`
    Halt,
}

impl ShutdownHow {
    /// The word in `control/shutdown`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        }
    }
}

/// What becomes of a domain that was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterSave {
    /// It ends.
    Destroy,
    /// It goes on, as `xl save -c`.
    Run,
    /// It stays, paused, as `xl save -p`.
    Pause,
}

/// What `oxd` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Something on the way.
    Event(Event),
    /// The last word.
    End(Result<Response, Failure>),
}

/// What happens while a request runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// How far it is.
    Progress {
        /// Of what: "saving memory".
        what: String,
        /// So much is done, in the unit of `of`.
        done: u64,
        /// All of it, bytes; 0 if that is not known.
        of: u64,
    },
    /// Worth telling, and not in the way.
    Warning(String),
    /// Something happened to a domain.
    Domain(DomainEvent),
}

/// Something happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// To whom.
    pub domain: u16,
    /// Its name then.
    pub name: String,
    /// What.
    pub what: DomainEventKind,
}

/// What can happen to a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainEventKind {
    /// It was created.
    Created,
    /// It came out of a file.
    Restored,
    /// It was found running when `oxd` started.
    Adopted,
    /// It was paused.
    Paused,
    /// It was let run.
    Unpaused,
    /// It ended by itself, or crashed, for this reason (`poweroff`, `reboot`, `crash`,
    /// `suspend`, `watchdog`, `soft_reset`).
    Shutdown(String),
    /// It was started anew; the id of its successor.
    Restarted(u16),
    /// It was written into this file.
    Saved(String),
    /// Its memory and registers were written into this file.
    Dumped(String),
    /// It has another name; the old one.
    Renamed(String),
    /// A device came (`vbd 51712`, `vif 0`).
    DeviceAttached(String),
    /// A device went.
    DeviceDetached(String),
    /// It is gone.
    Destroyed,
    /// `oxd` could not do for it what it should.
    Trouble(String),
}

/// How a request ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Nothing more to say.
    Done,
    /// Who answers.
    Hello {
        /// Version of the program.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// A domain was made.
    Created {
        /// Its id.
        domain: u16,
    },
    /// A device was added.
    Attached {
        /// Its number in xenstore.
        device: u32,
    },
    /// A configuration as TOML.
    Config(String),
    /// What snapshots there are.
    Snapshots(Vec<SnapshotInfo>),
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Name of the domain.
    pub domain: String,
    /// Name of the snapshot.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    pub at: u64,
    /// Memory of the domain, KiB.
    pub memory_kib: u64,
    /// Bytes on disk, memory and disks.
    pub bytes: u64,
}

/// Why a request was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kind, for the exit code.
    pub code: FailureCode,
    /// One line that names the thing and the way out.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: FailureCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// Kinds of failure; each has its own exit code of `ox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCode {
    /// Anything else.
    Failed,
    /// No domain, device or snapshot of that name or number.
    NotFound,
    /// The name, device or file is there already, or the domain is being changed.
    InUse,
    /// The configuration is wrong.
    BadConfig,
    /// A file is missing, unreadable or not what it should be.
    BadFile,
    /// Not enough memory.
    NoMemory,
    /// Not for this caller or this domain.
    Denied,
    /// The guest did not answer in time.
    TimedOut,
    /// This hypervisor or this version cannot do it.
    Unsupported,
}

/// Why a message could not be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection.
    #[error("connection to oxd: {0}")]
    Io(#[from] io::Error),
    /// Not our protocol.
    #[error("the other side does not speak oxd's protocol")]
    NotOurs,
    /// Another version of it.
    #[error(
        "the other side speaks version {0} of the protocol, this program version {VERSION}: restart oxd after an upgrade"
    )]
    Version(u16),
    /// More than [`MOST_BYTES`].
    #[error("message of {0} bytes, more than {MOST_BYTES}")]
    TooLong(usize),
    /// Does not decode.
    #[error("damaged message: {0}")]
    Damaged(#[from] postcard::Error),
}

/// Writes one message as a frame.
///
/// # Errors
/// Longer than [`MOST_BYTES`], or the connection.
pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), WireError> {
    let body = postcard::to_stdvec(message)?;
    if body.len() > MOST_BYTES {
        return Err(WireError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    to.write_all(&frame)?;
    Ok(to.flush()?)
}

/// Reads one message; `None` if the other side has closed between two messages.
///
/// # Errors
/// See [`WireError`]; after any of them the connection is of no more use.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, WireError> {
    let mut head = [0; HEAD_BYTES];
    let first = loop {
        match from.read(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[first..])?;
    let length = body_length(&head)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some(postcard::from_bytes(&body)?))
}

/// Length of the message behind this head, bytes; for a reader with its own buffer.
///
/// # Errors
/// Not our protocol, another version, or longer than [`MOST_BYTES`].
pub fn body_length(head: &[u8; HEAD_BYTES]) -> Result<usize, WireError> {
    let [m0, m1, m2, m3, v0, v1, _, _, l0, l1, l2, l3] = *head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(WireError::NotOurs);
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > MOST_BYTES {
        return Err(WireError::TooLong(length));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let mut wire = Vec::new();
        let request = Request::Save {
            domain: 7,
            file: "/tmp/x".into(),
            then: AfterSave::Run,
        };
        let answer = Answer::End(Err(Failure::new(FailureCode::InUse, "name taken")));
        send(&mut wire, &request).unwrap();
        send(&mut wire, &answer).unwrap();
        let mut from = &wire[..];
        assert_eq!(receive::<Request>(&mut from).unwrap(), Some(request));
        assert_eq!(receive::<Answer>(&mut from).unwrap(), Some(answer));
        assert_eq!(receive::<Answer>(&mut from).unwrap(), None);
    }

    #[test]
    fn another_version_is_named_and_not_decoded() {
        let mut wire = Vec::new();
        send(&mut wire, &Request::Hello).unwrap();
        wire[4] = 9;
        let error = receive::<Request>(&mut &wire[..]).unwrap_err();
        assert!(matches!(error, WireError::Version(9)), "{error}");
    }

    #[test]
    fn too_long_is_refused_before_it_is_allocated() {
        let mut wire = Vec::new();
        send(&mut wire, &Request::Hello).unwrap();
        wire[8..12].fill(0xff);
        let error = receive::<Request>(&mut &wire[..]).unwrap_err();
        assert!(matches!(error, WireError::TooLong(_)), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = receive::<Request>(&mut &bytes[..]);
            let mut framed = Vec::from(MAGIC);
            framed.extend_from_slice(&VERSION.to_le_bytes());
            framed.extend_from_slice(&[0, 0]);
            framed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            framed.extend_from_slice(&bytes);
            let _ = receive::<Request>(&mut &framed[..]);
            let _ = receive::<Answer>(&mut &framed[..]);
        }
    }
}
