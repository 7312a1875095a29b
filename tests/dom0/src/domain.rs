//! What a domain has spent, and a process that spends nothing.

use std::io::Write;
use std::os::fd::AsRawFd;

use crate::{Failure, sys};

/// Prints the time that a domain's vCPUs have run, in nanoseconds, as the hypervisor has counted it.
pub fn spent(domain: u64) -> Result<(), Failure> {
    let domain = u16::try_from(domain).map_err(|_| format!("{domain} is no domain"))?;
    let privcmd = std::fs::File::open("/dev/xen/privcmd").map_err(|e| format!("privcmd: {e}"))?;
    let time = sys::cpu_time(privcmd.as_raw_fd(), domain);
    println!("{}", time.ok_or("no such domain")?);
    Ok(())
}

/// Says that it is there, and sleeps for ever: the least init there is.
pub fn sit() -> Result<(), Failure> {
    println!("@guest init");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    loop {
        std::thread::park();
    }
}
