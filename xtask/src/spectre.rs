//! `spectre`: where the hypervisor's code can be steered by a guest's branches.
//!
//! An indirect branch goes where the CPU guesses until its target is known, and the guess can come
//! from what a guest did (Spectre variant 2). Stable Rust cannot replace such branches by thunks, so
//! two things are checked in the linked image:
//!
//! - entry code, up to where `arch::speculation`'s work is done, has none, nor a return, but for
//!   those that are listed with a reason;
//! - elsewhere each function that has one belongs to a room that is listed with a reason. They run
//!   with IBRS on, where the CPU has it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::{build, paths};

#[derive(clap::Args)]
pub struct Args {
    /// Lists every indirect branch
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    build::hypervisor(build::Build::Released)?;
    let image = std::fs::read(paths::cache()?.join("oxen.debug"))?;
    let branches = branches(&image)?;
    if args.list {
        for branch in &branches {
            println!(
                "{:#x} {:?} in {}",
                branch.address, branch.kind, branch.function
            );
        }
    }
    for (kind, count) in count(&branches) {
        println!("{count:4} {}", kind.text());
    }
    judge(&branches)?;
    Ok(ExitCode::SUCCESS)
}

/// Compiles the hypervisor and checks it.
///
/// # Errors
/// With each branch that is not accounted for.
pub fn check() -> Result<()> {
    build::hypervisor(build::Build::Released)?;
    judge(&branches(&std::fs::read(
        paths::cache()?.join("oxen.debug"),
    )?)?)
}

/// How a branch finds its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A call through a register or through memory.
    Call,
    /// A jump through memory.
    JumpByMemory,
    /// A jump through a register: a table of cases, or a call at a function's end.
    JumpByRegister,
    /// A return.
    Return,
}

impl Kind {
    fn of(instruction: &Instruction) -> Option<Self> {
        use iced_x86::OpKind;
        Some(match instruction.code() {
            Code::Call_rm64 | Code::Call_m1664 | Code::Call_m1632 => Self::Call,
            Code::Jmp_rm64 if instruction.op0_kind() == OpKind::Register => Self::JumpByRegister,
            Code::Jmp_rm64 | Code::Jmp_m1664 | Code::Jmp_m1632 => Self::JumpByMemory,
            Code::Retnq | Code::Retnq_imm16 => Self::Return,
            _ => return None,
        })
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Call => "calls through a register or memory",
            Self::JumpByMemory => "jumps through memory",
            Self::JumpByRegister => "jumps through a register",
            Self::Return => "returns",
        }
    }
}

/// A branch whose target the CPU may guess.
struct Branch {
    address: u64,
    kind: Kind,
    function: String,
    /// It lies in entry code.
    entry: bool,
}

fn count(branches: &[Branch]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for branch in branches {
        *counts.entry(branch.kind).or_default() += 1;
    }
    counts
}

/// Every such branch of an image that still has its symbols.
fn branches(image: &[u8]) -> Result<Vec<Branch>> {
    let file = object::File::parse(image)?;
    let text = file.section_by_name(".text").context("no .text")?;
    let code = text.data()?;
    let mut names: Vec<(u64, String)> = file
        .symbols()
        .filter(|s| {
            !s.is_undefined() && !matches!(s.kind(), SymbolKind::Section | SymbolKind::File)
        })
        .filter_map(|s| Some((s.address(), readable(s.name().ok()?))))
        .filter(|(_, name)| !name.ends_with("_end") || name.starts_with("__"))
        .filter(|(address, _)| (text.address()..text.address() + text.size()).contains(address))
        .collect();
    names.sort();
    let mark = |name: &str| {
        let found = names.iter().find(|(_, n)| n == name);
        found
            .map(|(a, _)| *a)
            .with_context(|| format!("no symbol {name}"))
    };
    let entry = mark("__entry_text_start")?..mark("__entry_text_end")?;
    let mut found = Vec::new();
    // Each function is decoded from its own start, so that padding confuses nothing.
    let mut starts: Vec<u64> = names.iter().map(|(address, _)| *address).collect();
    starts.dedup();
    starts.push(text.address() + text.size());
    for pair in starts.windows(2) {
        let range = (pair[0] - text.address()) as usize..(pair[1] - text.address()) as usize;
        let mut decoder = Decoder::with_ip(64, &code[range], pair[0], DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if let Some(kind) = Kind::of(&instruction) {
                let at = names.partition_point(|(address, _)| *address <= instruction.ip());
                found.push(Branch {
                    address: instruction.ip(),
                    kind,
                    function: names[at - 1].1.clone(),
                    entry: entry.contains(&instruction.ip()),
                });
            }
        }
    }
    Ok(found)
}

fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// Branches of entry code that may be there.
const ENTRY: &[(&str, Kind, &str)] = &[
    (
        "oxen_stub_page",
        Kind::JumpByMemory,
        "used only where the plan has nothing to do on entry",
    ),
    (
        "oxen_stub32",
        Kind::JumpByMemory,
        "used only where the plan has nothing to do on entry",
    ),
    (
        "oxen_guarded_stub",
        Kind::JumpByMemory,
        "after the work on entry",
    ),
    (
        "oxen_guarded_stub32",
        Kind::JumpByMemory,
        "after the work on entry",
    ),
    (
        "oxen_guarded_",
        Kind::Return,
        "the sequence that overwrites the branch history: calls and returns match",
    ),
];

/// Rooms whose functions may have indirect branches, by the start of their names, and why. All run
/// after entry code has done its work, those marked "boot" before there are guests.
const ROOMS: &[(&str, &str)] = &[
    ("hv_core::addr::", "formatting"),
    ("hv_core::arch::", "exception fix-ups, device seams, hooks"),
    ("hv_core::console::", "formatting"),
    ("hv_core::domain::", "hooks, shared objects"),
    ("hv_core::event::", "whom an event is delivered to"),
    ("hv_core::fallible::", "what makes each element of a list"),
    ("hv_core::grant::", "what is done with each entry"),
    (
        "hv_core::hypercall::",
        "the table of handlers and of their commands",
    ),
    ("hv_core::inspect::", "debug keys"),
    ("hv_core::irq::", "interrupt controllers"),
    ("hv_core::mm::", "where frames come from"),
    ("hv_core::power::", "ways to stop"),
    ("hv_core::pv_build::", "boot"),
    ("hv_core::pv_emul::", "tables of instructions"),
    ("hv_core::pv_mm::", "tables of levels; who may map what"),
    ("hv_core::sched::", "the policy"),
    ("hv_core::start::", "boot"),
    ("hv_core::time::", "clock sources"),
    ("hv_core::trap::", "tables of exceptions"),
    ("core::", "formatting and tables of cases"),
    ("alloc::", "collections"),
    ("char as core::", "formatting"),
    ("char>::", "formatting"),
    (
        "oxen_efi_call",
        "firmware's own code, which branches as it likes",
    ),
    ("T as core::", "formatting"),
    ("log::", "the logger"),
    ("spin::", "what is made at its first use"),
    ("heapless::", "formatting"),
    ("__rustc::", "panics"),
    ("acpi::", "boot"),
    ("lzma_rust2::", "boot"),
    ("miniz_oxide::", "boot"),
    ("oxen::", "boot"),
    ("oxen_boot::", "boot"),
    ("oxen_start64", "boot"),
    ("pv_image::", "boot"),
    ("ruzstd::", "boot"),
    ("twox_hash::", "boot"),
];

/// The room of `ROOMS` that a function belongs to.
fn has_room(function: &str) -> bool {
    let mut name = function;
    while let Some(rest) = ["<", "&", "dyn ", "mut "]
        .iter()
        .find_map(|start| name.strip_prefix(start))
    {
        name = rest;
    }
    ROOMS.iter().any(|(room, _)| name.starts_with(room))
}

/// # Errors
/// With each branch that is not accounted for.
fn judge(branches: &[Branch]) -> Result<()> {
    let mut wrong = Vec::new();
    for branch in branches {
        let ok = if branch.entry {
            ENTRY
                .iter()
                .any(|(name, kind, _)| branch.function.starts_with(name) && branch.kind == *kind)
        } else {
            branch.kind == Kind::Return || has_room(&branch.function)
        };
        if !ok {
            wrong.push(format!(
                "{:#x}: {:?} in {} is not accounted for (xtask/src/spectre.rs)",
                branch.address, branch.kind, branch.function
            ));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        let shown = wrong.len().min(20);
        bail!(
            "{} branches\n    {}",
            wrong.len(),
            wrong[..shown].join("\n    ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(code: &[u8]) -> Vec<Option<Kind>> {
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        decoder.iter().map(|i| Kind::of(&i)).collect()
    }

    #[test]
    fn what_the_cpu_guesses() {
        assert_eq!(kinds(&[0xff, 0xd0]), [Some(Kind::Call)]);
        assert_eq!(kinds(&[0xff, 0x15, 0, 0, 0, 0]), [Some(Kind::Call)]);
        assert_eq!(kinds(&[0xff, 0xe0]), [Some(Kind::JumpByRegister)]);
        assert_eq!(kinds(&[0xff, 0x25, 0, 0, 0, 0]), [Some(Kind::JumpByMemory)]);
        assert_eq!(kinds(&[0xc3]), [Some(Kind::Return)]);
        // Direct calls and jumps, iretq, sysretq.
        assert_eq!(kinds(&[0xe8, 0, 0, 0, 0, 0xeb, 0]), [None, None]);
        assert_eq!(kinds(&[0x48, 0xcf, 0x48, 0x0f, 0x07]), [None, None]);
    }

    #[test]
    fn entry_code_and_strangers_are_refused() {
        let branch = |function: &str, kind, entry| Branch {
            address: 0,
            kind,
            function: function.into(),
            entry,
        };
        let ok = [
            branch("oxen_guarded_stub", Kind::JumpByMemory, true),
            branch(
                "<hv_core::trap::X as core::fmt::Display>::fmt",
                Kind::Call,
                false,
            ),
            branch("<&T as core::fmt::Debug>::fmt", Kind::JumpByRegister, false),
            branch("anything::at_all", Kind::Return, false),
        ];
        judge(&ok).unwrap();
        for bad in [
            branch("oxen_syscall_slow", Kind::Call, true),
            branch("oxen_vectors", Kind::Return, true),
            branch("newcrate::f", Kind::Call, false),
        ] {
            assert!(judge(&[bad]).is_err());
        }
    }
}
