//! `ox`, the command line of Oxen's toolstack.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("ox: no verbs yet");
    ExitCode::from(2)
}
