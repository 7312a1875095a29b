//! Boot order, one readable list of steps.

pub mod boot_info;
#[cfg(target_os = "none")]
mod panic;

pub use boot_info::BootInfo;

/// Takes the machine over. Called once, on the boot CPU, interrupts off, on the
/// first page tables.
pub fn main(info: &'static BootInfo) -> ! {
    crate::console::init(Some(crate::console::uart::Config::COM1));
    log::info!("Oxen {}", env!("CARGO_PKG_VERSION"));
    log::info!("{info:x?}");
    loop {
        crate::arch::machine::relax();
    }
}
