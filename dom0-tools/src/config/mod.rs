//! Configuration files (`xl.cfg` and TOML) into typed values, offline.
//!
//! Two forms, one meaning: [`parse`] lowers both to a [`DomainConfig`]. Everything that is
//! wrong is told at once, each with file, line, column and key ([`Problems`]). Nothing here
//! opens the files that a configuration names or asks the hypervisor.

mod check;

mod model;
mod problem;
mod toml_form;
mod value;

pub mod libxl;
pub mod xl;

use std::io::{self, Read};
use std::path::Path;

pub use check::{CMDLINE_BYTES, MOST_VCPUS};
pub use model::{
    Access, BackendType, Channel, ChannelConnection, Disk, DiskFormat, DomainConfig, IoMem,
    IoPorts, Vif,
};
pub use problem::{Place, Problem, Problems};
pub use value::{
    Action, Affinity, BadValue, CpuSet, DomainName, InterfaceName, Mac, Memory, NAME_BYTES,
    PATH_BYTES, Rate, ScriptName, SnapshotName, TscMode, Uuid, Vdev, check_path,
};

/// A configuration that is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: DomainConfig,
    /// What in it has no effect, or not the one that may be expected.
    pub warnings: Vec<Problem>,
}

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `xl.cfg(5)`.
    Xl,
    /// TOML.
    Toml,
}

impl Form {
    /// By the file's name: TOML is what ends in `.toml`.
    pub fn of(file: &Path) -> Self {
        match file.extension() {
            Some(end) if end.eq_ignore_ascii_case("toml") => Self::Toml,
            _ => Self::Xl,
        }
    }
}

/// Why a configuration file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is missing, unreadable or no file of text.
    #[error("{file}: {error}")]
    File {
        /// As it was named.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Most bytes of a configuration file; a longer one is no configuration.
pub const FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration file; the form is told by its name. `more` are settings in
/// `xl.cfg`'s form that count after those of the file, as on `xl create`'s command line.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it.
pub fn load(file: &Path, more: &[String]) -> Result<Loaded, LoadError> {
    let name = file.display().to_string();
    let text = match read_file(file) {
        Ok(text) => text,
        Err(error) => return Err(LoadError::File { file: name, error }),
    };
    let form = Form::of(file);
    let loaded = if more.is_empty() {
        parse(&text, &name, form)
    } else if form == Form::Toml {
        Err(Problems(vec![Problem {
            file: name,
            line: 0,
            column: 0,
            key: String::new(),
            text: "settings on the command line are for files in xl.cfg's form".into(),
        }]))
    } else {
        parse(&format!("{text}\n{}\n", more.join("\n")), &name, form)
    };
    Ok(loaded?)
}

fn read_file(file: &Path) -> io::Result<String> {
    let opened = std::fs::File::open(file)?;
    if opened.metadata()?.is_dir() {
        return Err(io::Error::other("a folder, not a configuration file"));
    }
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!(
            "more than {FILE_BYTES} bytes: not a configuration file"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        io::Error::other(format!(
            "line {line} is not UTF-8 text: is this a configuration file?"
        ))
    })
}

/// Reads a configuration; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str, form: Form) -> Result<Loaded, Problems> {
    match form {
        Form::Xl => xl::parse(text, file),
        Form::Toml => toml_form::parse(text, file),
    }
}

/// Whether a device that names this backend is dom0's.
#[must_use]
pub fn is_dom0(backend: &str) -> bool {
    backend == "0" || backend == "Domain-0"
}

impl DomainConfig {
    /// Makes paths absolute that are relative to `base`, for `oxd`, which runs elsewhere.
    #[must_use]
    pub fn with_paths_from(mut self, base: &Path) -> Self {
        let absolute = |path: &mut String| {
            if !path.starts_with('/') {
                *path = base.join(&*path).to_string_lossy().into_owned();
            }
        };
        for path in [&mut self.kernel, &mut self.ramdisk].into_iter().flatten() {
            absolute(path);
        }
        for disk in &mut self.disk {
            // A script's target is in the script's own language, another domain's in that domain.
            if disk.script.is_none()
                && disk.backend.as_deref().is_none_or(is_dom0)
                && let Some(target) = &mut disk.target
            {
                disk_path(target, base);
            }
        }
        self
    }
}

/// Block devices may be named without `/dev/` (as `phy:vg/lv`), as for `xl`.
fn disk_path(target: &mut String, base: &Path) {
    if target.starts_with('/') {
        return;
    }
    let device = Path::new("/dev").join(&*target);
    let here = base.join(&*target);
    let chosen = if !here.exists() && device.exists() {
        device
    } else {
        here
    };
    *target = chosen.to_string_lossy().into_owned();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_domain_only_are_made_absolute() {
        let text = "name = 'x'\nkernel = 'k'\nmemory = 1\n\
                    disk = ['vdev=xvda, backend=Domain-0, target=a.img', 'vdev=xvdb, backend=driver, target=ram8']\n";
        let Loaded { config, .. } = parse(text, "x.cfg", Form::Xl).unwrap();
        let config = config.with_paths_from(Path::new("/home"));
        assert_eq!(config.kernel.as_deref(), Some("/home/k"));
        let targets = config.disk.iter().map(|disk| disk.target.as_deref());
        let wanted = [Some("/home/a.img"), Some("ram8")];
        assert!(targets.eq(wanted));
    }
}
