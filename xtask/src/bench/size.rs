//! Size of the hypervisor's file, without debug information.

use anyhow::Result;

use super::table;
use crate::{build, dom0};

pub fn run() -> Result<()> {
    let xen = dom0::xen()?.elf.metadata()?.len();
    let oxen = build::hypervisor(build::Build::Released)?.metadata()?.len();
    println!("Hypervisor's file, stripped, in bytes");
    let row = vec![
        "size".to_owned(),
        table::grouped(xen),
        table::grouped(oxen),
        format!("{:.2}", oxen as f64 / xen as f64),
        table::behind(oxen as f64, xen as f64),
    ];
    table::print(&["", "Xen", "Oxen", "Oxen/Xen", ""], &[row]);
    Ok(())
}
