//! Values of single keys, each a type that can hold only what is allowed.
//!
//! All of them read from the text that people write (`FromStr`), print themselves in the
//! same form (`Display`), and are that text in TOML.

mod action;
mod cpus;
mod mac;
mod memory;
mod name;
mod rate;
mod uuid;
mod vdev;

pub use action::{Action, TscMode};
pub use cpus::{Affinity, CpuSet};
pub use mac::Mac;
pub use memory::Memory;
pub use name::{
    DomainName, InterfaceName, NAME_BYTES, PATH_BYTES, ScriptName, SnapshotName, check_path,
};
pub use rate::Rate;
pub use uuid::Uuid;
pub use vdev::Vdev;

/// Why a text is not a value of its type: one clause, to stand behind the key's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

impl BadValue {
    /// This reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// `Serialize` as `Display`, `Deserialize` as `FromStr`.
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(in crate::config) use action::words;
pub(in crate::config) use serde_as_text;
