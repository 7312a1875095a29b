//! The hypervisor's own death: what happened, where, and then as the command line says.
#![allow(
    unsafe_code,
    reason = "reads registers and the stack of the code that died"
)]

use crate::arch::machine::{self, power};
use crate::arch::symbols::Name;
use crate::console::{self, PREFIX};
use crate::mm::host_map;
use crate::sync::Once;
use core::arch::asm;
use core::fmt::Write;
use core::ops::Range;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// Most callers shown.
const DEPTH: usize = 32;

static HALT: AtomicBool = AtomicBool::new(false);
/// Some CPU has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// Where the image's code is, for telling return addresses from other words.
static CODE: Once<Range<u64>> = Once::new();
static HOOKS: Once<Hooks> = Once::new();

/// What the panic handler cannot know by itself. Neither may panic, wait for a lock
/// or allocate.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Stops all other CPUs, or tries to.
    pub stop_others: fn(),
    /// Says which vCPU this CPU was running.
    pub describe: fn(&mut dyn Write),
}

/// Says whether to halt instead of rebooting, and where the code is.
pub fn configure(halt: bool, code: Range<u64>) {
    HALT.store(halt, Ordering::Relaxed);
    CODE.call_once(|| code);
}

/// Sets the hooks. The first call counts.
pub fn set_hooks(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let frame: u64;
    // SAFETY: copies a register and turns interrupts off, for good.
    unsafe { asm!("cli", "mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    // A panic in the report itself, or another CPU's: one report is enough.
    if PANICKED.swap(true, Ordering::Relaxed) {
        halt();
    }
    if let Some(hooks) = HOOKS.get() {
        (hooks.stop_others)();
    }
    console::with_panic_writer(|out| {
        // The console takes everything.
        let _ = report(out, info, frame);
    });
    if HALT.load(Ordering::Relaxed) {
        console::with_panic_writer(|out| {
            let _ = writeln!(out, "{PREFIX}Halted");
        });
        halt()
    }
    power::reset()
}

fn report(out: &mut dyn Write, info: &PanicInfo<'_>, frame: u64) -> core::fmt::Result {
    writeln!(out, "\n{PREFIX}****************************************")?;
    writeln!(out, "{PREFIX}Panic on CPU {}", machine::cpu_id().0)?;
    if let Some(at) = info.location() {
        writeln!(out, "{PREFIX}{}:{}", at.file(), at.line())?;
    }
    writeln!(out, "{PREFIX}{}", info.message())?;
    let (cr0, cr2, cr3, cr4): (u64, u64, u64, u64);
    // SAFETY: reading control registers changes nothing.
    unsafe {
        asm!(
            "mov {}, cr0", "mov {}, cr2", "mov {}, cr3", "mov {}, cr4",
            out(reg) cr0, out(reg) cr2, out(reg) cr3, out(reg) cr4,
            options(nomem, nostack, preserves_flags)
        );
    }
    writeln!(
        out,
        "{PREFIX}cr0 {cr0:x} cr2 {cr2:016x} cr3 {cr3:x} cr4 {cr4:x}"
    )?;
    if let Some(hooks) = HOOKS.get() {
        (hooks.describe)(out);
    }
    backtrace(out, frame)
}

/// Follows the chain of frame pointers, through a fault's frame too: entry code
/// leaves `rbp` as the interrupted code had it.
fn backtrace(out: &mut dyn Write, mut frame: u64) -> core::fmt::Result {
    writeln!(out, "{PREFIX}Called from:")?;
    for _ in 0..DEPTH {
        let (Some(next), Some(caller)) = (stack_word(frame), stack_word(frame.wrapping_add(8)))
        else {
            break;
        };
        if CODE.get().is_some_and(|code| code.contains(&caller)) {
            // The call is before the return address.
            writeln!(out, "{PREFIX}  {}", Name(caller - 1))?;
        }
        frame = next;
    }
    Ok(())
}

/// A word of a stack of ours; `None` if nothing is mapped there.
fn stack_word(at: u64) -> Option<u64> {
    if !at.is_multiple_of(8) || !host_map::is_mapped(at) {
        return None;
    }
    // SAFETY: the hypervisor's tables map this aligned word, and any bits are a word.
    Some(unsafe { (at as *const u64).read_volatile() })
}

fn halt() -> ! {
    loop {
        // SAFETY: this CPU has nothing left to do.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
