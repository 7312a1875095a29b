//! `gdb`: GDB with the hypervisor's symbols, attached to a machine that `run --gdb` started.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::setup::{self, Need};
use crate::{paths, process};

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Gdb])?;
    let symbols = paths::cache()?.join("oxen.debug");
    ensure!(
        symbols.exists(),
        "no hypervisor yet: start `cargo xtask run --gdb` in another terminal first"
    );
    let attach = ["-ex", "target remote localhost:1234"];
    process::run(Command::new("gdb").arg(&symbols).args(attach))?;
    Ok(ExitCode::SUCCESS)
}
