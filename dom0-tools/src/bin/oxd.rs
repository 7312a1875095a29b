//! `oxd`, the daemon of Oxen's toolstack.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("oxd: serves nothing yet");
    ExitCode::from(2)
}
