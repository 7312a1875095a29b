//! A console whose backend reads, types, scribbles and notifies as it likes.

use pv_drivers::console::Console;
use pv_drivers::ring::{ConsoleBackend, Page};

use super::{Program, wire};

/// From `in_cons` on: the four indices.
const INDICES: usize = 3072;

/// The target.
pub fn console(data: &[u8]) {
    steps(data);
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let (page, peers) = wire::page();
    let meddled = program.clone();
    let mut backend = ConsoleBackend::attach(peers.clone());
    let (channel, _ended) = wire::connect(&program, move || {
        let program = &meddled;
        let Some(deed) = program.byte() else { return };
        match deed % 8 {
            0 | 1 => {
                let _ = backend.take(&mut vec![0; program.below(3000)]);
                wire::event();
            }
            2 => {
                let _ = backend.put(&vec![b'x'; program.below(2000)]);
                wire::event();
            }
            3 => {
                let at = INDICES + 4 * program.below(4);
                let near = peers.load(at).wrapping_add(program.below(5000) as u32);
                peers.store(at, near.wrapping_sub(20));
            }
            4 => peers.write(program.below(4096), &[program.byte().unwrap_or(0)]),
            // From where the ring is now.
            5 => backend = ConsoleBackend::attach(peers.clone()),
            6 => {}
            _ => wire::event(),
        }
    });
    let mut console = Console::new(page.clone(), channel);
    while let Some(deed) = program.byte() {
        program.begins();
        let soon = wire::now() + 100_000_000;
        let bytes = vec![b'y'; program.below(5000)];
        match deed % 6 {
            0 => drop(console.put(&bytes)),
            1 | 2 => drop(console.write(&bytes, Some(soon), wire::now)),
            3 => drop(console.drain(Some(soon), wire::now)),
            4 => {
                let mut typed = vec![0; program.below(3000)];
                if let Ok(count) = console.take(&mut typed) {
                    assert!(count <= typed.len(), "more than there is room for");
                }
            }
            // What an honest backend finds is a ring again.
            _ => (0..4).for_each(|n| page.store(INDICES + 4 * n, 0)),
        }
    }
    program.steps()
}
