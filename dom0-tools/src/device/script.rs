//! Hot-plug scripts that a configuration names, run as Xen's toolstack runs them.
//!
//! A script finds the device in its environment (`XENBUS_PATH` and what goes with it), changes
//! dom0, and writes `hotplug-status` into the backend: `connected`, or `error` beside
//! `hotplug-error`.

use std::io;
use std::path::{Path, PathBuf};
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
    let mut command = command(&path, verb, device, interface);
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

/// The script's process, as it expects its arguments and its environment.
fn command(path: &Path, verb: &str, device: Device, interface: Option<&str>) -> Command {
    let mut command = Command::new(path);
    command
        .arg(verb)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("script", path)
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
    command
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeStore;
    use crate::device::nodes::Node;
    use crate::sys::DomId;

    const CARD: Device = Device {
        domain: DomId(4),
        kind: Kind::Vif,
        id: 1,
        served_by: DomId::DOM0,
    };
    const DISK: Device = Device {
        domain: DomId(4),
        kind: Kind::Vbd,
        id: 51712,
        served_by: DomId::DOM0,
    };

    fn shown(device: Device, interface: Option<&str>) -> (Vec<String>, Vec<String>) {
        let command = command(&path_of("x"), "online", device, interface);
        let args = command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned());
        let mut envs: Vec<String> = command
            .get_envs()
            .filter_map(|(key, value)| Some(format!("{}={}", key.display(), value?.display())))
            .filter(|text| !text.starts_with("PATH="))
            .collect();
        envs.sort();
        (args.collect(), envs)
    }

    #[test]
    fn a_script_is_told_of_its_device_as_xen_tells_it() {
        let (args, envs) = shown(CARD, Some("vif4.1"));
        assert_eq!(args, ["online", "type_if=vif"]);
        assert_eq!(
            envs,
            [
                "XENBUS_BASE_PATH=backend",
                "XENBUS_PATH=backend/vif/4/1",
                "XENBUS_TYPE=vif",
                "script=/etc/xen/scripts/x",
                "vif=vif4.1"
            ]
        );
        let (args, envs) = shown(DISK, None);
        assert_eq!(args, ["online"]);
        assert!(envs.contains(&"XENBUS_PATH=backend/vbd/4/51712".to_owned()));
    }

    #[test]
    fn how_a_script_ended_is_told() {
        let store = FakeStore::default();
        assert!(run(&store, "/bin/true", "online", CARD, None).is_ok());
        let text = |name| {
            let error = run(&store, name, "online", CARD, None).unwrap_err();
            error.to_string()
        };
        let failed = text("/bin/false");
        assert!(
            failed.contains("the script /bin/false failed for")
                && failed.contains("exit status: 1")
        );
        let missing = text("no-such-script");
        let wanted = "cannot run the script /etc/xen/scripts/no-such-script: No such file";
        assert!(missing.starts_with(wanted), "{missing}");
        // Its own words count more than how it ended.
        let path = format!("{}/hotplug-error", CARD.backend());
        store.write(&[Node::new(path, "no such bridge")]).unwrap();
        assert!(text("/bin/true").ends_with(": no such bridge"));
    }
}
