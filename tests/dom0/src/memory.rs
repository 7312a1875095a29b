//! Where the machine's memory is, asked of the hypervisor: `ram`, `dom0` and, where it says so,
//! `free`, each in KiB on a line of its own.

use std::os::fd::AsRawFd;

use crate::Failure;
use crate::sys;

pub fn run() -> Result<(), Failure> {
    let privcmd = std::fs::File::open("/dev/xen/privcmd").map_err(|e| format!("privcmd: {e}"))?;
    let file = privcmd.as_raw_fd();
    let ram = sys::machine_ram(file).ok_or("no machine memory map")?;
    let pages = sys::own_pages(file).ok_or("no reservation")?;
    println!("ram {}", ram / 1024);
    println!("dom0 {}", pages * 4);
    if let Some(free) = sys::free_pages(file) {
        println!("free {}", free * 4);
    }
    Ok(())
}
