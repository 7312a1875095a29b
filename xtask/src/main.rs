//! Every command of this repository: `cargo xtask <verb>`.
//!
//! A verb is one file with a clap argument struct and one `run` function; what several verbs share
//! (processes, packages, the initramfs, the machine) has a file of its own below them.

mod bench;
mod build;
mod cpio;
mod display;
mod dom0;
mod gdb;
mod guest;
mod hypercalls;
mod image;
mod initramfs;
mod machine;
mod modules;
mod packages;
mod paths;
mod process;
mod programs;
mod run;
mod serial;
mod setup;
mod spectre;
mod symbols;
mod test;
mod tidy;
mod toolstack;
mod tutorial;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Every command of this repository",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Gets what the other verbs need: the bare-metal target, tools, kernels (they do it themselves)
    Setup(setup::Args),
    /// Compiles the hypervisor to target/oxen/oxen.elf
    Build(build::Args),
    /// Writes dom0's kernel and initramfs to target/oxen/
    Initramfs(initramfs::Args),
    /// Writes the bootable ISO (BIOS and UEFI, through GRUB)
    Image(image::Args),
    /// Boots the machine in an emulator: a dom0 shell on the serial console, or a script
    Run(run::Args),
    /// Every test: lints, host, Miri, tiny PV kernels, whole machines
    Test(test::Args),
    /// Oxen beside real Xen and bare Linux: size, memory, boot time, instructions
    Bench(bench::Args),
    /// The house's own rules: floors, file length, reasons for unsafe code
    Tidy(tidy::Args),
    /// Where a guest's branches could steer the hypervisor's
    Spectre(spectre::Args),
    /// How much of each hypercall there is
    Hypercalls(hypercalls::Args),
    /// GDB, attached to a machine started by `run --gdb`
    Gdb(gdb::Args),
}

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Initramfs(args) => initramfs::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Tidy(args) => tidy::run(&args),
        Verb::Spectre(args) => spectre::run(&args),
        Verb::Hypercalls(args) => hypercalls::run(&args),
        Verb::Gdb(args) => gdb::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
