//! `ox`, the command line of Oxen's toolstack.

use std::process::ExitCode;

fn main() -> ExitCode {
    dom0_tools::cli::run(std::env::args_os())
}
