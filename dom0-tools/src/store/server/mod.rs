//! Sockets, rings and event channels around [`core`](super::core).
//!
//! One thread, in rounds: wait; take what came; answer a few messages of each connection; write
//! what happened to the journal; only then let anybody know. A connection that is slow, or does
//! not take its replies, waits for itself alone.

mod devices;
mod ring;
mod rings;
mod round;
mod sockets;
mod start;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};

use super::core::Store;
use super::journal::Journal;
use super::quota::Quota;
use rings::Rings;
use sockets::Sockets;

pub use devices::{Devices, Hypervisor, Living};

/// Where a server listens, and where it keeps what must survive it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the sockets `socket` and `socket_ro`.
    pub sockets: PathBuf,
    /// The journal; on a file system that a reboot empties.
    pub journal: PathBuf,
    /// What one guest may have.
    pub quota: Quota,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sockets: "/run/xenstored".into(),
            journal: "/run/oxen/store".into(),
            quota: Quota::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is one.
    #[error("xenstore is served at {0} already; stop that daemon first")]
    Served(PathBuf),
    /// A file or device.
    #[error("{what}: {source}")]
    System {
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A server that runs in its own thread until this is dropped. What it served can be served on by
/// the next one.
#[derive(Debug)]
pub struct Server {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve; the sockets are there when this returns. Without devices there are only
    /// sockets, for tests on any Linux.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: &Options, devices: Option<Devices>) -> Result<Self, StartError> {
        let system = |what: &str| {
            let what = what.to_owned();
            move |e: rustix::io::Errno| StartError::System {
                what,
                source: e.into(),
            }
        };
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(system("eventfd"))?;
        let stop = Arc::new(stop);
        let mut worker = Worker::start(options, devices, stop.clone())?;
        let thread = thread::Builder::new()
            .name("xenstore".into())
            .spawn(move || worker.run())
            .map_err(|source| StartError::System {
                what: "thread".into(),
                source,
            })?;
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }

    /// Whether it still serves; if not, it has said why in the log.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The counter is far from full.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
#[derive(Debug)]
struct Worker {
    store: Store,
    sockets: Sockets,
    rings: Rings,
    journal: Option<Journal>,
    options: Options,
    stop: Arc<OwnedFd>,
}
