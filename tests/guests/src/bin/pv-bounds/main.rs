//! Drives every hypercall to its worst case, and prints for how long the hypervisor kept interrupts off.
//!
//! Runs as dom0's kernel on the hypervisor that measures (`cargo xtask bench bounds`). Prints a line
//! `BOUND name: instructions` for each row and `DONE` at the end, and powers off.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code, reason = "a kernel: privileged instructions")]

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod domains;
#[cfg(target_os = "none")]
mod events;
#[cfg(target_os = "none")]
mod grants;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod row;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod traps;

#[cfg(target_os = "none")]
fn kernel_main() -> ! {
    use test_guests::{power, println, shared, trap};
    trap::init();
    shared::set_upcall_mask(1);
    row::check();
    calls::rows();
    traps::rows();
    grants::rows();
    memory::rows();
    let tree = tables::Tree::new();
    tables::rows(&tree);
    host::rows();
    domains::rows(&tree);
    // Last, because the ports are gone then.
    events::rows();
    println!("DONE");
    power::off()
}

#[cfg(target_os = "none")]
test_guests::entry!(raw kernel_main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
}
