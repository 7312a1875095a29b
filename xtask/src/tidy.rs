//! `tidy`: the house's rules that no other tool checks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::paths;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode> {
    check()?;
    println!("all rules hold");
    Ok(ExitCode::SUCCESS)
}

/// Longest file, in lines; tests in it count.
const MOST_LINES: usize = 800;

/// The rooms of `hv-core/src` by floor. A room uses lower floors, and on its own floor what
/// [`NEIGHBOURS`] says.
const FLOORS: &[&[&str]] = &[
    &["addr"],
    &["arch", "sync", "percpu", "fallible"],
    &["mm", "time", "irq", "console", "power"],
    &["event", "grant", "sched", "pv_mm", "pv_emul"],
    &["domain", "access"],
    &["trap", "hypercall", "pv_build", "inspect"],
    &["start"],
];

/// Who may use whom on the same floor.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("sync", "arch"),
    // Devices are locked; `sync` uses the seam traits only, not `arch::x86_64`.
    ("arch", "sync"),
    // What is kept of each CPU is made once; what `arch` keeps of each is kept like that.
    ("percpu", "sync"),
    ("arch", "percpu"),
    // Extended state is kept in memory that may not be there; `fallible` knows nobody.
    ("arch", "fallible"),
    // The page shared with a guest.
    ("time", "mm"),
    // A machine that stops says why on the screen.
    ("power", "console"),
    ("access", "domain"),
    ("trap", "hypercall"),
    ("trap", "inspect"),
];

/// Files that reach upwards, and the rooms they may name.
const UPWARDS: &[(&str, &[&str])] = &[
    // A CPU's own pages are mapped like any of the hypervisor's.
    ("arch/x86_64/area.rs", &["mm"]),
    ("arch/x86_64/isolation.rs", &["mm"]),
    // The vCPU a CPU has loaded is kept with the CPU: these load, lend and unload it, and look at
    // nothing of it but the state of its registers. `fake` has the same functions.
    // The same of extended state.
    ("arch/x86_64/xstate.rs", &["domain"]),
    (
        "arch/x86_64/context.rs",
        &["domain", "mm", "sched", "hypercall"],
    ),
    (
        "arch/x86_64/local.rs",
        &["domain", "mm", "sched", "hypercall"],
    ),
    ("arch/x86_64/fast.rs", &["domain"]),
    // Firmware spoils the extended state of the vCPU that runs.
    ("arch/x86_64/efi_runtime.rs", &["domain"]),
    ("arch/efi/runtime.rs", &["domain"]),
    ("arch/fake.rs", &["domain", "mm", "sched"]),
    // Kept translations of guest stacks go when the TLB goes.
    ("arch/x86_64/tlb.rs", &["mm"]),
    // What entry code calls.
    ("arch/x86_64/entry.rs", &["trap"]),
];

/// Checks every rule.
///
/// # Errors
/// With each place where one is broken.
pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    for file in sources()? {
        let text = std::fs::read_to_string(&file)?;
        let shown = paths::shown(&file);
        let lines = text.lines().count();
        if lines > MOST_LINES {
            broken.push(format!("{shown}: {lines} lines, more than {MOST_LINES}"));
        }
        check_unsafe(&text, &shown, &mut broken);
        if let Some(room) = room(&shown) {
            check_floor(room, &text, &shown, &mut broken);
        }
    }
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("\n    {}", broken.join("\n    "))
    }
}

/// A room uses lower floors only.
fn check_floor(room: &str, text: &str, shown: &str, broken: &mut Vec<String>) {
    let Some(floor) = floor(room) else { return };
    for (number, line) in text.lines().enumerate() {
        // Tests may use what they like; by custom they stand last.
        if line.trim() == "#[cfg(test)]" {
            return;
        }
        for used in used_rooms(line) {
            let allowed = used == room
                || floor_below(used, floor)
                || NEIGHBOURS.contains(&(room, used))
                || reaches_up(shown, used);
            if !allowed && self::floor(used).is_some() {
                broken.push(format!("{shown}:{}: {room} may not use {used}", number + 1));
            }
        }
    }
}

/// The rooms a line names after `crate::`, alone or in braces.
fn used_rooms(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let name = |text: &'_ str| {
        text.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    let mut rooms = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `$crate::` and `crate::` are the same; `xcrate::` does not occur.
        let rest = &code[at + found.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            rooms.extend(
                list.split(',')
                    .map(str::trim)
                    .map(|item| &item[..name(item)]),
            );
        } else {
            rooms.push(&rest[..name(rest)]);
        }
    }
    rooms
}

/// `hv-core/src/mm/heap.rs` is in the room `mm`.
fn room(shown: &str) -> Option<&str> {
    let rest = shown.strip_prefix("hv-core/src/")?;
    Some(rest.split(['/', '.']).next().unwrap_or(rest))
}

/// Whether [`UPWARDS`] lets the file name the room.
fn reaches_up(shown: &str, used: &str) -> bool {
    UPWARDS.iter().any(|(file, rooms)| {
        shown.strip_prefix("hv-core/src/") == Some(*file) && rooms.contains(&used)
    })
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn floor_below(room: &str, than: usize) -> bool {
    floor(room).is_some_and(|floor| floor < than)
}

/// Each `unsafe` block and implementation has its reason before it.
fn check_unsafe(text: &str, shown: &str, broken: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let opens = code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl");
        if !opens || code.contains('"') {
            continue;
        }
        let before = &lines[number.saturating_sub(12)..=number];
        if !before.iter().any(|line| line.contains("SAFETY:")) {
            broken.push(format!("{shown}:{}: unsafe without its reason", number + 1));
        }
    }
}

/// Every Rust file of the repository.
fn sources() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for top in [
        "hv-core",
        "boot",
        "dom0-tools",
        "pv-drivers",
        "tests",
        "xtask",
    ] {
        collect(&paths::root().join(top), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_read_from_use_lines() {
        assert_eq!(used_rooms("use crate::mm::heap;"), ["mm"]);
        assert_eq!(
            used_rooms("use crate::{addr::Mfn, sync};"),
            ["addr", "sync"]
        );
        assert!(used_rooms("// crate::mm").is_empty());
        assert_eq!(room("hv-core/src/mm/heap.rs"), Some("mm"));
        assert_eq!(room("hv-core/src/addr.rs"), Some("addr"));
        assert_eq!(room("boot/src/main.rs"), None);
    }

    #[test]
    fn a_higher_floor_is_out_of_reach() {
        let mut broken = Vec::new();
        check_floor(
            "mm",
            "use crate::domain::Domain;\nuse crate::addr::Mfn;\n",
            "x",
            &mut broken,
        );
        check_floor("access", "use crate::domain::Domain;\n", "x", &mut broken);
        check_floor("event", "use crate::grant::Table;\n", "x", &mut broken);
        assert_eq!(
            broken,
            ["x:1: mm may not use domain", "x:1: event may not use grant"]
        );
    }

    #[test]
    fn unsafe_needs_a_reason() {
        let mut broken = Vec::new();
        check_unsafe("// SAFETY: so.\nunsafe { f() };\n", "x", &mut broken);
        assert!(broken.is_empty());
        check_unsafe("let a = unsafe { f() };\n", "x", &mut broken);
        assert_eq!(broken.len(), 1);
    }
}
