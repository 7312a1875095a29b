//! Images in QEMU's formats as block devices of dom0, by `qemu-nbd`.
//!
//! A server outlives this process, so the store names it: its device and its process. Whoever ends
//! it asks for both, because a device whose server died may have another one by then. A server that
//! the store does not name, because this process was killed too soon, is known by its arguments.

use std::fmt;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::config::DiskFormat;

/// Argument of every server of ours, and of no other.
const MARK: &str = "--description=oxd";

/// How long the kernel may take to show a server's device. `qemu-nbd` is content before that.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long a server may take to write down what it holds, and end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Between two looks: sysfs and procfs tell nobody of changes.
const PAUSE: Duration = Duration::from_millis(20);

/// Why an image has no device.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// What dom0 lacks.
    #[error("{0}")]
    Lacking(String),
    /// The image is not what it should be: `qemu-nbd`'s words.
    #[error("{0}")]
    Refused(String),
}

/// An image's device, and the process that serves it. Written as `/dev/nbd3 4711`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    device: PathBuf,
    process: u32,
}

impl Server {
    /// The device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Ends it, and waits until it has written down all it holds.
    pub fn end(&self) {
        Places::default().end(self, END_LIMIT);
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.device.display(), self.process)
    }
}

impl FromStr for Server {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (device, process) = text.rsplit_once(' ').ok_or(())?;
        Ok(Self {
            device: device.into(),
            process: process.parse().map_err(drop)?,
        })
    }
}

/// Has an image served at a free device.
///
/// # Errors
/// See [`NbdError`].
pub fn start(path: &Path, format: DiskFormat, writable: bool) -> Result<Server, NbdError> {
    Places::default().start(path, format, writable)
}

/// Ends all servers of ours but these.
pub fn end_others(known: &[Server]) {
    Places::default().end_others(known);
}

/// Where programs and devices are.
struct Places {
    program: PathBuf,
    /// The kernel's folders of block devices.
    blocks: PathBuf,
    /// Their nodes.
    nodes: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            program: "qemu-nbd".into(),
            blocks: "/sys/block".into(),
            nodes: "/dev".into(),
        }
    }
}

impl Places {
    fn start(&self, path: &Path, format: DiskFormat, writable: bool) -> Result<Server, NbdError> {
        if !self.blocks.join("nbd0").exists() {
            let text = "there is no /dev/nbd0 (modprobe nbd)";
            return Err(NbdError::Lacking(text.into()));
        }
        for number in 0.. {
            let block = self.blocks.join(format!("nbd{number}"));
            if !block.exists() {
                break;
            }
            if block.join("pid").exists() {
                continue;
            }
            let device = self.nodes.join(format!("nbd{number}"));
            let mut command = self.serve(path, format, writable, &device);
            if let Some(server) = connect(&mut command, path, &block, device)? {
                return Ok(server);
            }
        }
        let text = "all of /dev/nbd* are in use (more by `modprobe nbd nbds_max=64`)";
        Err(NbdError::Lacking(text.into()))
    }

    /// What serves an image at a device, and ends itself when it is disconnected.
    fn serve(&self, path: &Path, format: DiskFormat, writable: bool, device: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--fork", MARK, "--cache=none", "--aio=threads"])
            .arg(format!("--format={}", word(format)))
            .arg(format!("--connect={}", device.display()))
            .stdin(Stdio::null());
        if !writable {
            command.arg("--read-only");
        }
        // Nothing in a name is taken for an option.
        command.arg("--").arg(path);
        command
    }

    /// What disconnects a device from its server.
    fn disconnect(&self, device: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--disconnect").arg(device).stdin(Stdio::null());
        command
    }

    fn end(&self, server: &Server, limit: Duration) {
        let device = server.device.as_path();
        let block = device.file_name().map(|name| self.blocks.join(name));
        if block.and_then(|block| server_of(&block)) == Some(server.process) {
            match self.disconnect(device).output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let error = String::from_utf8_lossy(&output.stderr);
                    tracing::warn!(%server, error = error.trim(), "not disconnected");
                }
                Err(error) => tracing::warn!(%server, %error, "qemu-nbd cannot be run"),
            }
        }
        await_end(server.process, limit);
    }

    fn end_others(&self, known: &[Server]) {
        let name = self.program.file_name().unwrap_or_default();
        for process in processes() {
            let ours = || {
                let comm = read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
                comm.trim_end() == name && arguments(process).iter().any(|arg| arg == MARK)
            };
            if known.iter().any(|server| server.process == process) || !ours() {
                continue;
            }
            tracing::info!(process, "serves an image for nobody");
            let id = i32::try_from(process).ok().and_then(Pid::from_raw);
            // It writes down what it holds, and may have ended meanwhile.
            if let Some(id) = id
                && kill_process(id, Signal::TERM).is_ok()
            {
                await_end(process, END_LIMIT);
            }
        }
    }
}

/// Runs what serves an image at a device, and waits until the kernel shows its server and its size: a
/// backend that is told of the device before that finds a disk without sectors. None if somebody else
/// has just taken the device.
fn connect(
    command: &mut Command,
    path: &Path,
    block: &Path,
    device: PathBuf,
) -> Result<Option<Server>, NbdError> {
    let output = command
        .output()
        .map_err(|error| NbdError::Lacking(format!("qemu-nbd: {error} (package qemu-utils)")))?;
    if !output.status.success() {
        if block.join("pid").exists() {
            return Ok(None);
        }
        // At another device it would say the same.
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(NbdError::Refused(text.trim().to_owned()));
    }
    let end = Instant::now() + START_LIMIT;
    loop {
        let size = read_to_string(block.join("size")).unwrap_or_default();
        match server_of(block) {
            Some(process) if !serves(process, &device, path) => return Ok(None),
            Some(process) if !matches!(size.trim(), "" | "0") => {
                return Ok(Some(Server { device, process }));
            }
            _ => {}
        }
        if Instant::now() >= end {
            let text = format!("nothing is at {} after a while", device.display());
            return Err(NbdError::Refused(text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a process has ended.
fn await_end(process: u32, limit: Duration) {
    let end = Instant::now() + limit;
    while runs(process) {
        if Instant::now() >= end {
            tracing::warn!(process, "qemu-nbd does not end");
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// `qemu-nbd`'s word for a format.
const fn word(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Vhd => "vpc",
        other => other.word(),
    }
}

/// The process that serves a device; the kernel names the thread.
fn server_of(block: &Path) -> Option<u32> {
    let thread = read_to_string(block.join("pid")).ok()?;
    field(
        &read_to_string(format!("/proc/{}/status", thread.trim())).ok()?,
        "Tgid:",
    )
    .and_then(|process| process.parse().ok())
}

/// Whether a process was told to serve this image at this device.
fn serves(process: u32, device: &Path, image: &Path) -> bool {
    let arguments = arguments(process);
    let connect = format!("--connect={}", device.display());
    arguments.contains(&connect)
        && arguments
            .last()
            .is_some_and(|last| Path::new(last) == image)
}

/// All processes.
fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process's arguments.
fn arguments(process: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let arguments = text.split_terminator('\0');
    arguments.map(ToOwned::to_owned).collect()
}

/// Whether a process has not ended yet.
fn runs(process: u32) -> bool {
    let status = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    field(&status, "State:").is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// The first word behind a key in a process's status.
fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn qemu_nbd_is_told_format_device_and_file() {
        let args = |path: &str, format, writable| {
            let places = Places::default();
            let command = places.serve(Path::new(path), format, writable, Path::new("/dev/nbd3"));
            assert_eq!(command.get_program(), "qemu-nbd");
            let args = command.get_args().map(|arg| arg.to_string_lossy());
            args.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            args("/srv/a.qcow2", DiskFormat::Qcow2, true),
            "--fork --description=oxd --cache=none --aio=threads --format=qcow2 --connect=/dev/nbd3 -- /srv/a.qcow2"
        );
        // A virtual PC's image has another name there; a name is no option.
        assert_eq!(
            args("--help", DiskFormat::Vhd, false),
            "--fork --description=oxd --cache=none --aio=threads --format=vpc --connect=/dev/nbd3 --read-only \
             -- --help"
        );
    }

    #[test]
    fn the_store_names_device_and_process() {
        let server = Server {
            device: "/dev/nbd3".into(),
            process: 4711,
        };
        assert_eq!(server.to_string(), "/dev/nbd3 4711");
        assert_eq!("/dev/nbd3 4711".parse(), Ok(server));
        for bad in ["", "/dev/nbd3", "/dev/nbd3 ", "/dev/nbd3 x"] {
            assert_eq!(bad.parse::<Server>(), Err(()), "{bad}");
        }
    }

    /// A machine of two devices, and a program that takes its arguments as `qemu-nbd` does. Its
    /// server is a process that sleeps; device and size show late, as they do in Linux.
    struct Fake {
        folder: tempfile::TempDir,
        places: Places,
    }

    const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$*" in
serve*) sleep 60; : ;;
"--disconnect nbd"[01])
    echo "$*" >>log
    pid=$(cat "block/$2/pid")
    rm "block/$2/pid"
    (sleep 0.2; echo written >>log; kill "$pid") >/dev/null 2>&1 &
    ;;
--fork*" -- good")
    device=$(echo "$*" | sed 's/.*--connect=\(nbd[0-9]\) .*/\1/')
    "$0" serve "$@" >/dev/null 2>&1 &
    pid=$!
    (sleep 0.1; echo $pid >"block/$device/pid"
     sleep 0.1; echo 8 >"block/$device/size") >/dev/null 2>&1 &
    ;;
--fork*"--connect=nbd0 -- late") sleep 0.1 ;;
--fork*" -- late")
    "$0" serve "$@" >/dev/null 2>&1 &
    echo $! >block/nbd1/pid
    echo 8 >block/nbd1/size
    ;;
--fork*) echo try >>log; echo "qemu-nbd: Image is not in qcow2 format" >&2; exit 1 ;;
*) echo "qemu-nbd: option doesn't allow an argument" >&2; exit 1 ;;
esac
"#;

    fn fake() -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for block in ["block/nbd0", "block/nbd1"] {
            std::fs::create_dir_all(at(block)).unwrap();
            std::fs::write(at(block).join("size"), "0\n").unwrap();
        }
        let program = at("qemu-nbd");
        std::fs::write(&program, PROGRAM).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let places = Places {
            program,
            blocks: at("block"),
            nodes: "".into(),
        };
        Fake { folder, places }
    }

    impl Fake {
        fn start(&self, image: &str) -> Result<Server, NbdError> {
            self.places.start(Path::new(image), DiskFormat::Qcow2, true)
        }

        fn log(&self) -> String {
            read_to_string(self.folder.path().join("log")).unwrap_or_default()
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn a_server_is_there_with_its_sectors_and_is_gone_when_it_has_ended() {
        let fake = fake();
        let first = fake.start("good").unwrap();
        let second = fake.start("good").unwrap();
        for (server, name) in [(&first, "nbd0"), (&second, "nbd1")] {
            assert_eq!(server.device(), Path::new(name));
            assert!(runs(server.process));
            let size = fake.places.blocks.join(name).join("size");
            assert_eq!(read_to_string(size).unwrap(), "8\n");
        }
        let full = fake.start("good").unwrap_err();
        assert!(matches!(full, NbdError::Lacking(_)), "{full}");
        assert!(full.to_string().starts_with("all of /dev/nbd* are in use"));
        fake.places.end(&first, END_LIMIT);
        assert!(!runs(first.process) && runs(second.process));
        assert_eq!(fake.log(), "--disconnect nbd0\nwritten\n");
        fake.places.end(&second, END_LIMIT);
        assert!(!runs(second.process));
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn the_device_of_a_server_that_died_is_left_to_its_next_one() {
        let fake = fake();
        let server = fake.start("good").unwrap();
        let dead = Server {
            process: u32::MAX,
            ..server.clone()
        };
        fake.places.end(&dead, END_LIMIT);
        assert!(runs(server.process) && fake.log().is_empty());
        fake.places.end(&server, END_LIMIT);
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn a_device_that_somebody_else_takes_is_left_to_him() {
        let fake = fake();
        // His server comes to the device while ours begins.
        let his = fake.places.blocks.join("nbd0/pid");
        let taken = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(his, std::process::id().to_string())
        });
        let server = fake.start("late").unwrap();
        taken.join().unwrap().unwrap();
        assert_eq!(server.device(), Path::new("nbd1"));
        fake.places.end(&server, END_LIMIT);
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn servers_that_the_store_does_not_name_are_ended() {
        let mut fake = fake();
        // Not those of other tests.
        let program = fake.folder.path().join("strange-nbd");
        std::fs::copy(&fake.places.program, &program).unwrap();
        fake.places.program = program;
        let known = fake.start("good").unwrap();
        let stray = fake.start("good").unwrap();
        fake.places.end_others(std::slice::from_ref(&known));
        assert!(runs(known.process) && !runs(stray.process));
        fake.places.end(&known, END_LIMIT);
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn a_bad_image_is_tried_once_and_named_so() {
        let fake = fake();
        let error = fake.start("bad").unwrap_err();
        assert!(matches!(error, NbdError::Refused(_)), "{error}");
        assert_eq!(error.to_string(), "qemu-nbd: Image is not in qcow2 format");
        assert_eq!(fake.log(), "try\n");
    }

    #[test]
    #[cfg_attr(miri, ignore = "processes")]
    fn what_is_missing_is_named() {
        let mut fake = fake();
        fake.places.program = "/nonexistent/qemu-nbd".into();
        let text = fake.start("good").unwrap_err().to_string();
        assert!(text.contains("(package qemu-utils)"), "{text}");
        fake.places.blocks = "/nonexistent".into();
        let text = fake.start("good").unwrap_err().to_string();
        assert_eq!(text, "there is no /dev/nbd0 (modprobe nbd)");
    }
}
