//! What each verb does: one file a theme.

pub mod audit;
pub mod config;
pub mod console;
pub mod create;
pub mod devices;
pub mod events;
pub mod generate;
pub mod info;
pub mod life;
pub mod list;
pub mod logs;
pub mod sched;
pub mod size;
pub mod snapshot;
pub mod top;
pub mod vcpus;
