//! Boot order, one readable list of steps.

pub mod boot_info;
#[cfg(target_os = "none")]
pub mod ground;
pub mod options;
#[cfg(target_os = "none")]
pub mod panic;
pub mod power;

pub use boot_info::BootInfo;

/// Takes the machine over. Called once, on the boot CPU, interrupts off, on the
/// first page tables.
#[cfg(target_os = "none")]
pub fn main(info: &'static BootInfo) -> ! {
    let options = ground::prepare(info);
    log::debug!("{options:?}");
    loop {
        crate::arch::machine::relax();
    }
}
