//! Running other programs, with errors that name the command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command with our own output streams.
///
/// # Errors
/// When it cannot start or ends with a failure.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; its error output is shown only on failure.
///
/// # Errors
/// When it cannot start, ends with a failure or writes something that is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("{} ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

/// The command line, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every file called `name` in a folder of `PATH` or where administrators' tools are.
pub fn find_all(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .filter(|file| file.is_file())
        .collect();
    found.dedup();
    found
}

/// Whether a program of this name is installed.
pub fn has(name: &str) -> bool {
    !find_all(name).is_empty()
}

/// Cargo, as it called us, for a command in the repository's top folder.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::paths::root());
    command
}

/// Whether `file` exists and is at least as new as `input`.
pub fn is_fresh(file: &Path, input: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|m| m.modified());
    matches!((time(file), time(input)), (Ok(file), Ok(input)) if file >= input)
}
