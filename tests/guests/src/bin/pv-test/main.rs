//! Asks a hypervisor one question per case and prints the verdicts.
//!
//! Words of the command line select cases by name or prefix; `all`, or none of them, runs every
//! case. Prints `PASS name` or `FAIL name: ...` per case, then `DONE n passed, m failed`, and
//! powers off. The expected answers are those of Xen 4.17.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(
    unsafe_code,
    reason = "a kernel's tests: privileged instructions, raw accesses"
)]

#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod test;

#[cfg(target_os = "none")]
fn kernel_main() -> ! {
    test::run(cases::ALL)
}

#[cfg(target_os = "none")]
test_guests::entry!(raw kernel_main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
}
