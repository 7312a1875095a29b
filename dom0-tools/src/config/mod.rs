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
