//! Lets each allocation of an operation fail in turn, on the thread of the test alone, and counts
//! what is not given back.

use super::NoMemory;
use core::alloc::{GlobalAlloc, Layout};
use std::alloc::System;
use std::cell::Cell;

struct Failing;

#[global_allocator]
static HEAP: Failing = Failing;

std::thread_local! {
    /// Allocations until one fails; 0: none does.
    static UNTIL: Cell<u32> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: isize) {
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes as isize * sign));
}

/// Whether the next allocation of this thread fails.
pub fn strikes() -> bool {
    UNTIL
        .try_with(|until| {
            let left = until.get();
            until.set(left.saturating_sub(1));
            left == 1
        })
        .unwrap_or(false)
}

/// Bytes that this thread has taken from the heap and not given back.
pub fn live_bytes() -> isize {
    LIVE.with(Cell::get)
}

/// Runs `f` with its first allocation failing, then with its second, and so on, until it gets
/// through without meeting the failure; then it must succeed. How many there were.
///
/// Each failure must be the operation's own: [`NoMemory`], whatever it converts to.
pub fn each_failure<R, E>(mut f: impl FnMut() -> Result<R, E>) -> u32
where
    E: From<NoMemory> + PartialEq + core::fmt::Debug,
{
    for nth in 1.. {
        UNTIL.set(nth);
        let result = f();
        let missed = UNTIL.replace(0) != 0;
        match result {
            Ok(_) if missed => return nth - 1,
            Err(why) if !missed => assert_eq!(why, NoMemory.into(), "allocation {nth}"),
            // Who can do without goes on.
            Ok(_) => {}
            Err(why) => panic!("failed before allocation {nth}: {why:?}"),
        }
    }
    unreachable!("there is always a next one")
}

// SAFETY: the system's allocator, which may also answer that there is no memory.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if strikes() {
            return core::ptr::null_mut();
        }
        count(layout.size(), 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if strikes() {
            return core::ptr::null_mut();
        }
        count(layout.size(), -1);
        count(new_size, 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
