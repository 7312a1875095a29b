//! The hypervisor's binary: from the boot loader to `hv_core::start::main`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare;
#[cfg(target_os = "none")]
mod entry;

/// Hosts can build the binary but it has nothing to do there.
#[cfg(not(target_os = "none"))]
fn main() {
    println!("Oxen is booted by GRUB, not run: try `cargo xtask run`.");
}
