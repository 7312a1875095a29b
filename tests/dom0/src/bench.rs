//! Micro-benchmarks. One line a row on standard output: `row NAME NANOSECONDS`, the median of
//! [`SAMPLES`] samples. Under QEMU's `-icount shift=0` a nanosecond is one executed instruction.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::sys::{self, Mapping};
use crate::{Failure, demand};

/// Samples a row is the median of.
const SAMPLES: usize = 5;

/// Size of the mapping in the rows that touch memory, in bytes.
const TOUCHED: usize = 4 << 20;

pub fn run() -> Result<(), Failure> {
    sys::pin_to(0);
    sys::catch_faults();
    sys::count_signal(libc::SIGUSR1);
    hypercall();
    row("getppid", 2000, || black_box(sys::getppid()) >= 0)?;
    let me = i32::try_from(std::process::id()).map_err(|e| e.to_string())?;
    let before = sys::CAUGHT.load(Ordering::Relaxed);
    row("signal to self", 500, || sys::kill(me, libc::SIGUSR1))?;
    let caught = sys::CAUGHT.load(Ordering::Relaxed) - before;
    demand(caught == 500 * (SAMPLES as u64 + 1), || {
        format!("{caught} signals came")
    })?;
    let mut page = Mapping::new(sys::PAGE).ok_or("no memory")?;
    page.bytes()[0] = 1;
    row("SIGSEGV fix-up", 200, || page.fix_up(7))?;
    row("mprotect pair", 200, || {
        let done = page.protect_pair();
        page.bytes()[0] = 2;
        done
    })?;
    page_fault()?;
    ping_pong()?;
    row("mmap, touch, unmap 4 MiB", 2, touch_all)?;
    row("fork, exit, wait", 20, || {
        sys::fork(|| 5).and_then(sys::Child::wait) == Some(5)
    })?;
    let program = sys::Program::this(&["exit", "6"]);
    row("fork, exec, wait", 20, || {
        let child = sys::fork(|| {
            program.exec();
            1
        });
        child.and_then(sys::Child::wait) == Some(6)
    })
}

/// A hypercall's cost: the ioctl that makes one, less the way to privcmd and back.
fn hypercall() {
    let Ok(privcmd) = std::fs::File::open("/dev/xen/privcmd") else {
        return;
    };
    let file = privcmd.as_raw_fd();
    if sys::null_hypercall(file) < 0 {
        return;
    }
    let with = median(1000, || sys::null_hypercall(file) > 0);
    let without = median(1000, || sys::no_hypercall(file) < 0);
    if let (Ok(with), Ok(without)) = (with, without) {
        println!("row null hypercall {:.0}", with - without);
    }
}

fn row(name: &str, count: u32, operation: impl FnMut() -> bool) -> Result<(), Failure> {
    let each = median(count, operation).map_err(|()| format!("`{name}` failed"))?;
    println!("row {name} {each:.0}");
    Ok(())
}

/// Median nanoseconds per operation; the first sample only warms up.
fn median(count: u32, mut operation: impl FnMut() -> bool) -> Result<f64, ()> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for sample in 0..=SAMPLES {
        let start = Instant::now();
        for _ in 0..count {
            if !operation() {
                return Err(());
            }
        }
        if sample > 0 {
            samples.push(start.elapsed().as_nanos() as f64 / f64::from(count));
        }
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}

/// The first write to a page. The memory is gone afterwards: forks are not to copy its tables.
fn page_fault() -> Result<(), Failure> {
    const COUNT: u32 = 500;
    let pages = COUNT as usize * (SAMPLES + 1);
    let mut fresh = Mapping::new(sys::PAGE * pages).ok_or("no memory")?;
    let mut pages = fresh.bytes().chunks_exact_mut(sys::PAGE);
    row("page fault", COUNT, || {
        pages.next().map(|page| page[0] = 1).is_some()
    })
}

fn touch_all() -> bool {
    let Some(mut mapping) = Mapping::new(TOUCHED) else {
        return false;
    };
    for page in mapping.bytes().chunks_exact_mut(sys::PAGE) {
        page[0] = 1;
    }
    true
}

/// A byte to another process and back.
fn ping_pong() -> Result<(), Failure> {
    let (to_read, to_write) = sys::pipe().ok_or("no pipe")?;
    let (back_read, back_write) = sys::pipe().ok_or("no pipe")?;
    let echo = sys::fork(|| {
        sys::close(to_write);
        while let Some(byte) = sys::get(to_read) {
            if !sys::put(back_write, byte.wrapping_add(1)) {
                return 1;
            }
        }
        0
    })
    .ok_or("no fork")?;
    row("pipe ping-pong", 500, || {
        sys::put(to_write, 3) && sys::get(back_read) == Some(4)
    })?;
    for file in [to_write, to_read, back_read, back_write] {
        sys::close(file);
    }
    demand(echo.wait() == Some(0), || "the echo failed".into())
}
