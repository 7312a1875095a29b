//! Hot-plug scripts that a configuration names, run as Xen's toolstack runs them.
//!
//! A script finds the device in its environment (`XENBUS_PATH` and what goes with it), changes
//! dom0, and writes `hotplug-status` into the backend: `connected`, or `error` beside
//! `hotplug-error`.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::nodes::{Device, Kind, Nodes, StoreFailure};

/// Where scripts without a path are.
pub const FOLDER: &str = "/etc/xen/scripts";

/// How long a script may run. Xen's toolstack waits as long.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Why a script did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// It cannot be run.
    #[error("cannot run the script {path}: {error}")]
    Start {
        /// Its file.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// It failed.
    #[error("the script {path} failed for {device}: {reason}")]
    Failed {
        /// Its file.
        path: PathBuf,
        /// For which device.
        device: Device,
        /// Its own words, or how it ended.
        reason: String,
    },
}

/// Path of a script named in a configuration.
pub fn path_of(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(name)
}

/// Runs a script and waits for it. `verb` is `add`, `remove`, `online` or `offline`;
/// `interface` is the name of a card's interface in dom0.
///
/// # Errors
/// See [`ScriptError`].
pub fn run(
    store: &impl Nodes,
    name: &str,
    verb: &str,
    device: Device,
    interface: Option<&str>,
) -> Result<(), ScriptError> {
    let path = path_of(name);
    let mut command = Command::new(&path);
    command
        .arg(verb)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("script", &path)
        .env("XENBUS_TYPE", device.kind.word())
        .env(
            "XENBUS_PATH",
            format!(
                "backend/{}/{}/{}",
                device.kind.word(),
                device.domain,
                device.id
            ),
        )
        .env("XENBUS_BASE_PATH", "backend")
        // Some scripts hang without one.
        .stdin(Stdio::null());
    if device.kind == Kind::Vif {
        command.arg("type_if=vif");
    }
    if let Some(interface) = interface {
        command.env("vif", interface);
    }
    let mut child = command.spawn().map_err(|error| ScriptError::Start {
        path: path.clone(),
        error,
    })?;
    let failed = |reason: String| ScriptError::Failed {
        path: path.clone(),
        device,
        reason,
    };
    let status = wait(&mut child).map_err(|error| failed(error.to_string()))?;
    let told = store.read(&format!("{}/hotplug-error", device.backend()))?;
    match told {
        Some(text) => Err(failed(text)),
        None if !status.success() => Err(failed(status.to_string())),
        None => Ok(()),
    }
}

/// Waits for a child, [`LIMIT`] at most; then it is killed.
fn wait(child: &mut std::process::Child) -> io::Result<std::process::ExitStatus> {
    let end = Instant::now() + LIMIT;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!(
                "no end after {} s",
                LIMIT.as_secs()
            )));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
