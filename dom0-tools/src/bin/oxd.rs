//! `oxd`, the daemon of Oxen's toolstack.

use std::process::ExitCode;

use clap::Parser;
use dom0_tools::domain::oxd;

fn main() -> ExitCode {
    let arguments = oxd::Arguments::parse();
    match oxd::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oxd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
