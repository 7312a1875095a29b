//! A headless machine: its serial console is read, kept, and watched for the marks of `/init`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process;

/// What [`watch`] tells its observer.
pub enum Event<'a> {
    /// A line outside the script's output.
    Console(&'a str),
    /// A line of the script's output.
    Script(&'a str),
}

/// How a headless machine ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The script's exit status; `None` when it never came.
    pub status: Option<i32>,
    /// From the emulator's start to the first line of dom0's `/init`.
    pub init_after: Option<Duration>,
    /// From the emulator's start to its end.
    pub took: Duration,
    /// Whether the machine powered itself off, as it should.
    pub powered_off: bool,
    /// Every line of the console.
    pub console: Vec<String>,
    /// The lines the script wrote.
    pub script: Vec<String>,
    /// The same console, in a file.
    pub log: PathBuf,
}

/// Time a machine has for powering off after its script.
const POWER_OFF: Duration = Duration::from_secs(30);

/// Time for the rest of the console of a machine that has stopped.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Runs a machine to its end, or to the timeout, and watches its console, which is the emulator's
/// standard output. `powered_off` says what the emulator's end means.
///
/// # Errors
/// When the emulator cannot start. A machine that fails is an [`Outcome`], not an error.
pub fn watch(
    mut emulator: Command,
    timeout: Duration,
    log: &Path,
    powered_off: impl FnOnce(ExitStatus) -> bool,
    mut observer: impl FnMut(Event<'_>),
) -> Result<Outcome> {
    let mut file =
        std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let start = Instant::now();
    let mut child = emulator
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", process::shown(&emulator)))?;
    filter_warnings(child.stderr.take());
    let lines = read_lines(child.stdout.take().context("no console")?);
    let mut outcome = Outcome {
        log: log.to_path_buf(),
        ..Outcome::default()
    };
    let mut deadline = start + timeout;
    let mut in_script = false;
    loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                outcome.powered_off = powered_off(child.wait()?);
                break;
            }
        };
        writeln!(file, "[{:8.3}] {line}", start.elapsed().as_secs_f64())?;
        match mark(&line) {
            Some("init") => outcome.init_after = outcome.init_after.or(Some(start.elapsed())),
            Some("begin") => in_script = true,
            Some(rest) if rest.starts_with("exit ") => {
                in_script = false;
                outcome.status = exit_status(rest);
                deadline = Instant::now() + POWER_OFF;
            }
            // Real Xen halts the machine for a kernel that cannot power it off.
            _ if line.contains("Hardware Dom0 halted") => deadline = Instant::now() + LAST_WORDS,
            _ if in_script => {
                observer(Event::Script(&line));
                outcome.script.push(line.clone());
            }
            _ => observer(Event::Console(&line)),
        }
        outcome.console.push(line);
    }
    end(&mut child);
    outcome.took = start.elapsed();
    Ok(outcome)
}

/// What follows `@oxen ` on a line, if it is there.
fn mark(line: &str) -> Option<&str> {
    let at = line.find("@oxen ")?;
    Some(line[at + "@oxen ".len()..].trim_end())
}

/// Reads `exit 3.`, where the full stop shows that the number is complete.
fn exit_status(mark: &str) -> Option<i32> {
    mark.strip_prefix("exit ")?.split_once('.')?.0.parse().ok()
}

fn end(child: &mut Child) {
    // Both fail only when it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends each line of a stream, and what is left at its end.
fn read_lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            let line = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\r', '\n'])
                .to_owned();
            if sender.send(line).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}

/// Passes the emulator's messages on, but for those that only say that it lacks a CPU feature.
pub fn filter_warnings(stream: Option<ChildStderr>) {
    let Some(stream) = stream else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if !line.contains("TCG doesn't support requested feature") {
                eprintln!("{line}");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_behind_noise() {
        assert_eq!(mark("@oxen init"), Some("init"));
        assert_eq!(mark("\u{1b}[0m# @oxen exit 3.\r"), Some("exit 3."));
        assert_eq!(mark("oxen init"), None);
    }

    #[test]
    fn an_exit_status_is_complete_or_none() {
        assert_eq!(exit_status("exit 3."), Some(3));
        assert_eq!(exit_status("exit 127. and more"), Some(127));
        assert_eq!(exit_status("exit 12"), None);
        assert_eq!(exit_status("exit x."), None);
    }

    #[test]
    fn a_console_is_watched_to_its_end() {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "printf 'boot\\n@oxen init\\n@oxen begin\\nhi\\n\\n@oxen exit 7.\\n'",
        ]);
        let log = std::env::temp_dir().join(format!("oxen-serial-test-{}", std::process::id()));
        let outcome = watch(
            shell,
            Duration::from_secs(10),
            &log,
            |status| status.success(),
            |_| (),
        )
        .unwrap();
        std::fs::remove_file(log).unwrap();
        assert_eq!(outcome.status, Some(7));
        assert_eq!(outcome.script, ["hi", ""]);
        assert!(outcome.init_after.is_some() && outcome.powered_off);
    }

    #[test]
    fn a_machine_that_is_silent_is_ended_after_its_time() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo boot; exec sleep 600"]);
        let log = std::env::temp_dir().join(format!("oxen-silent-test-{}", std::process::id()));
        let outcome = watch(shell, Duration::from_secs(1), &log, |_| true, |_| ()).unwrap();
        std::fs::remove_file(log).unwrap();
        assert!(outcome.took < Duration::from_secs(300));
        assert_eq!(outcome.console, ["boot"]);
        assert!(!outcome.powered_off && outcome.status.is_none());
    }
}
