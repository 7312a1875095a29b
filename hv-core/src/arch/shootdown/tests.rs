use super::*;
use core::sync::atomic::AtomicUsize;
use std::sync::{Arc, Barrier};
use std::thread;

#[test]
fn a_flush_after_the_stamp_counts_and_one_before_does_not() {
    let clock = FlushClock::new(2);
    let before = clock.flush_begins();
    let stamp = clock.stamp();
    assert!(!FlushClock::is_after(before, stamp));
    assert_eq!(clock.stamp(), stamp, "no flush between: the clock stands");
    let after = clock.flush_begins();
    assert!(FlushClock::is_after(after, stamp));
    assert_eq!(
        clock.flush_begins(),
        after,
        "no stamp between: the clock stands"
    );
    let later = clock.stamp();
    assert!(!FlushClock::is_after(after, later));
}

#[test]
fn wrap_around_keeps_the_order_and_asks_for_a_flush_of_all() {
    let clock = FlushClock::new(u32::MAX - 1);
    let before = clock.flush_begins();
    let stamp = clock.stamp();
    assert_eq!(stamp.0, u32::MAX);
    assert!(!FlushClock::is_after(before, stamp));
    let after = clock.flush_begins();
    assert_eq!(after, 0);
    assert!(FlushClock::is_after(after, stamp));
    assert!(clock.wrap_due());
    assert!(!clock.wrap_due(), "once");
}

/// A CPU alone: counts what it is told to do.
struct Alone {
    all: AtomicUsize,
    pages: AtomicUsize,
    interrupts: AtomicUsize,
}

impl FlushCpu for Alone {
    fn here(&self) -> CpuId {
        CpuId(0)
    }
    fn flush_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }
    fn flush_page(&self, _: GuestVa) {
        self.pages.fetch_add(1, Ordering::SeqCst);
    }
    fn interrupt(&self, _: CpuId) {
        self.interrupts.fetch_add(1, Ordering::SeqCst);
    }
    fn pause(&self) {}
}

fn alone() -> Alone {
    Alone {
        all: AtomicUsize::new(0),
        pages: AtomicUsize::new(0),
        interrupts: AtomicUsize::new(0),
    }
}

#[test]
fn idle_cpus_are_not_interrupted() {
    let s = Shootdown::new();
    s.make_room(2);
    let cpu = alone();
    s.enter_guest_root(CpuId(1));
    s.leave_guest_root(CpuId(1));
    s.flush(&CpuMask::ALL, &cpu);
    s.flush_page(GuestVa(0x1234), &CpuMask::first(2), &cpu);
    assert_eq!(cpu.interrupts.load(Ordering::SeqCst), 0);
    assert_eq!(cpu.all.load(Ordering::SeqCst), 1);
    assert_eq!(cpu.pages.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cpu_that_flushed_since_is_left_alone() {
    let s = Shootdown::new();
    let cpu = alone();
    s.enter_guest_root(CpuId(0));
    let stamp = s.now();
    s.note_flush(CpuId(0));
    s.flush_since(stamp, &CpuMask::only(CpuId(0)), &cpu);
    assert_eq!(cpu.all.load(Ordering::SeqCst), 0);
    let stamp = s.now();
    s.flush_since(stamp, &CpuMask::only(CpuId(0)), &cpu);
    assert_eq!(cpu.all.load(Ordering::SeqCst), 1);
    s.flush_since(stamp, &CpuMask::only(CpuId(0)), &cpu);
    assert_eq!(
        cpu.all.load(Ordering::SeqCst),
        1,
        "its own flush counts too"
    );
}

#[test]
fn the_wrap_flushes_everyone() {
    let s = Shootdown::starting_at(QUARTER_TURN - 2);
    let cpu = alone();
    let stamp = s.now();
    s.note_flush(CpuId(0));
    s.flush_since(stamp, &CpuMask::only(CpuId(0)), &cpu);
    assert_eq!(cpu.all.load(Ordering::SeqCst), 1);
}

/// One of several CPUs: a thread with a one-entry TLB over a one-entry page table.
struct Machine {
    shootdown: Shootdown,
    table: AtomicU64,
    tlb: Vec<AtomicU64>,
    interrupt: Vec<AtomicBool>,
}

struct One<'a>(&'a Machine, CpuId);

const NOTHING: u64 = u64::MAX;

impl FlushCpu for One<'_> {
    fn here(&self) -> CpuId {
        self.1
    }
    fn flush_all(&self) {
        self.0.tlb[self.1.0 as usize].store(NOTHING, Ordering::SeqCst);
    }
    fn flush_page(&self, _: GuestVa) {
        self.flush_all();
    }
    fn interrupt(&self, cpu: CpuId) {
        self.0.interrupt[cpu.0 as usize].store(true, Ordering::SeqCst);
    }
    fn pause(&self) {
        thread::yield_now();
    }
}

impl One<'_> {
    /// A guest's access: fills the TLB if empty, says what it translates to.
    fn access(&self) -> u64 {
        let tlb = &self.0.tlb[self.1.0 as usize];
        if tlb.load(Ordering::SeqCst) == NOTHING {
            tlb.store(self.0.table.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        tlb.load(Ordering::SeqCst)
    }

    /// Takes the interrupt if there is one: only then are requests looked at.
    fn take_interrupt(&self) {
        if self.0.interrupt[self.1.0 as usize].swap(false, Ordering::SeqCst) {
            self.0.shootdown.service(self);
        }
    }
}

#[test]
fn no_cpu_keeps_a_stale_entry_and_nobody_waits_for_ever() {
    shoot_each_other([0, 1, 2, 3]);
}

#[test]
fn cpus_of_different_words_flush_each_other() {
    shoot_each_other([1, 63, 64, 200]);
}

/// Lets the CPUs `ids` change a page table and flush each other.
fn shoot_each_other(ids: [u16; 4]) {
    const CPUS: usize = 4;
    let all = ids
        .map(CpuId)
        .into_iter()
        .fold(CpuMask::NONE, CpuMask::with);
    let slots = usize::from(ids[CPUS - 1]) + 1;
    let rounds = if cfg!(miri) { 20 } else { 3000 };
    let shootdown = Shootdown::new();
    shootdown.make_room(slots);
    let machine = Arc::new(Machine {
        shootdown,
        table: AtomicU64::new(0),
        tlb: (0..slots).map(|_| AtomicU64::new(NOTHING)).collect(),
        interrupt: (0..slots).map(|_| AtomicBool::new(false)).collect(),
    });
    let barrier = Arc::new(Barrier::new(CPUS));
    let running = Arc::new(AtomicUsize::new(CPUS));
    let threads: Vec<_> = ids
        .into_iter()
        .enumerate()
        .map(|(turn, n)| {
            let (machine, barrier, running) = (machine.clone(), barrier.clone(), running.clone());
            thread::spawn(move || {
                let cpu = One(&machine, CpuId(n));
                machine.shootdown.enter_guest_root(cpu.1);
                barrier.wait();
                for round in 0..rounds {
                    cpu.take_interrupt();
                    cpu.access();
                    if round % 7 == turn as u64 {
                        // Unmap, stamp, flush where needed: from then on nobody may
                        // translate to a value from before.
                        let version = machine.table.fetch_add(1, Ordering::SeqCst) + 1;
                        let stamp = machine.shootdown.now();
                        match round % 3 {
                            0 => machine.shootdown.flush(&all, &cpu),
                            1 => machine.shootdown.flush_page(GuestVa(0x1000), &all, &cpu),
                            _ => machine.shootdown.flush_since(stamp, &all, &cpu),
                        }
                        for id in ids {
                            let tlb = &machine.tlb[usize::from(id)];
                            assert!(tlb.load(Ordering::SeqCst) >= version);
                        }
                    }
                }
                // Goes on answering until all are done, as an idle loop with
                // interrupts on would.
                running.fetch_sub(1, Ordering::SeqCst);
                while running.load(Ordering::SeqCst) != 0 {
                    cpu.take_interrupt();
                    thread::yield_now();
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
}
