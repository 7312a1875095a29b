//! Boot order, one readable list of steps.

pub mod boot_info;
#[cfg(target_os = "none")]
mod dom0;
#[cfg(target_os = "none")]
mod efi;
#[cfg(target_os = "none")]
pub mod ground;
#[cfg(target_os = "none")]
pub mod hardware;
pub mod options;
#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod screen;

pub use boot_info::BootInfo;
#[cfg(target_os = "none")]
pub use run::main;
