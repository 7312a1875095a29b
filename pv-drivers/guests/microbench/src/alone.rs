//! What one guest measures by itself.

use pv_drivers::device::{Access, Pages};
use pv_drivers::event::Channel;
use pv_drivers::hypercall::{self, CopySide, Errno, GrantError, Hypervisor, Native, Share};
use pv_drivers::runtime::frames::OwnPage;
use pv_drivers::runtime::table::Table;
use pv_drivers::runtime::trap::{self, Frame, SYSCALL};
use pv_drivers::runtime::user::Program;
use pv_drivers::runtime::{Guest, clock, peer, shared, window};

use crate::row;

/// Operations of a round.
const COUNT: u64 = 64;

fn times(mut work: impl FnMut()) -> impl FnMut() {
    move || {
        for _ in 0..COUNT {
            work();
        }
    }
}

pub fn run() -> Result<(), GrantError> {
    row("null hypercall", COUNT, times(|| _ = hypercall::version()));
    events()?;
    grants()?;
    tables()?;
    traps()?;
    timers()?;
    Ok(())
}

fn events() -> Result<(), Errno> {
    let own = peer::own_id().map_err(|_| Errno(5))?;
    let offer = Channel::offer(Native, shared::bits(), own)?;
    let bound = Channel::bind(Native, shared::bits(), own, offer.port())?;
    let send = || {
        bound.notify();
        let _ = offer.take();
    };
    row("event send", COUNT, times(send));
    row("yield", COUNT, times(|| Native.yield_now()));
    let poll = || {
        bound.notify();
        let _ = offer.wait(None, clock::now);
        let _ = Native.poll(&[bound.port()], Some(1));
    };
    row(
        "event send and a poll that returns at once",
        COUNT,
        times(poll),
    );
    let open = || drop(Channel::offer(Native, shared::bits(), own));
    row("event channel opened and closed", COUNT, times(open));
    Ok(())
}

fn grants() -> Result<(), GrantError> {
    let own = peer::own_id().map_err(|_| Errno(5))?;
    let page = Guest.share(own, Access::Write).map_err(|_| Errno(12))?;
    let to = OwnPage::new().ok_or(Errno(12))?;
    let reference = page.reference();
    drop(window::map(own, reference, Access::Write)?);
    let map = || drop(window::map(own, reference, Access::Write));
    row("grant map and unmap", COUNT, times(map));
    let map = || drop(window::map(own, reference, Access::Read));
    row("grant map and unmap, read-only", COUNT, times(map));
    for (name, bytes) in [
        ("grant copy, 64 bytes", 64),
        ("grant copy, 4096 bytes", 4096),
    ] {
        let from = CopySide::Granted {
            domain: own,
            reference,
            offset: 0,
        };
        let frame = to.frame();
        let copy = || _ = Native.copy_grant(from, CopySide::Own { frame, offset: 0 }, bytes);
        row(name, COUNT, times(copy));
    }
    Ok(())
}

fn tables() -> Result<(), Errno> {
    let page = OwnPage::new().ok_or(Errno(12))?;
    let mut writable = false;
    let remap = || {
        let _ = page.set_writable(writable);
        writable = !writable;
    };
    row("update_va_mapping", COUNT, times(remap));
    page.set_writable(true)?;
    let mut table = Table::new()?;
    table.pin()?;
    let set = || {
        let _ = table.set(7, Some(&page));
        let _ = table.set(7, None);
    };
    row("page-table entry set and cleared", COUNT, times(set));
    drop(table);
    for (name, entries) in [
        ("L1 table pinned and unpinned, empty", 0),
        ("L1 table pinned and unpinned, full", 512),
    ] {
        let mut table = Table::filled(entries, Some(&page))?;
        let pin = || {
            let _ = table.pin();
            let _ = table.unpin();
        };
        row(name, COUNT, times(pin));
    }
    Ok(())
}

fn resume(frame: &mut Frame) -> bool {
    matches!(frame.vector, 3 | SYSCALL)
}

/// mov ebx, COUNT; 1: syscall; dec ebx; jnz 1b; ud2
const SYSCALLS: [u8; 13] = [
    0xbb,
    COUNT as u8,
    0,
    0,
    0,
    0x0f,
    0x05,
    0xff,
    0xcb,
    0x75,
    0xfa,
    0x0f,
    0x0b,
];

fn traps() -> Result<(), Errno> {
    trap::set_hook(Some(resume));
    row("exception and return", COUNT, times(trap::breakpoint));
    let program = Program::new(&SYSCALLS)?;
    row("system call and return", COUNT, || _ = program.run());
    trap::set_hook(None);
    Ok(())
}

fn timers() -> Result<(), Errno> {
    let own = peer::own_id().map_err(|_| Errno(5))?;
    let silent = Channel::offer(Native, shared::bits(), own)?;
    let mut late = [0; 15];
    for late in &mut late {
        let at = clock::now() + 300_000;
        let _ = silent.wait(Some(at), clock::now);
        *late = clock::now().saturating_sub(at);
    }
    late.sort_unstable();
    let late = pv_drivers::clock::ticks(&shared::time(0), late[7]);
    pv_drivers::println!("row wake-up after a timer's time|{late}");
    Ok(())
}
