//! Real threads.

use super::*;

/// Two real threads: one blocks for each event, one sends the next as soon as the last
/// was taken. A lost wake-up hangs, and the bound on rounds makes that a failure.
#[test]
fn wake_and_block_race_on_two_threads() {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    let rounds: u64 = if cfg!(miri) { 20 } else { 3_000 };
    let sim = {
        let mut sim = Sim::new(1);
        let g = sim.group(256, 0);
        sim.guest(g, Load::Busy);
        sim
    };
    let (s, id) = (&*sim.s, sim.guests[0].id);
    let (sent, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=rounds {
                sent.store(n, SeqCst);
                s.wake(id, Nanos(n));
                while taken.load(SeqCst) < n {
                    std::thread::yield_now();
                }
            }
        });
        let mut running = true;
        let mut patience = 200_000_000u64;
        while taken.load(SeqCst) < rounds {
            patience -= 1;
            assert!(patience > 0, "a wake-up was lost");
            let now = Nanos(sent.load(SeqCst));
            if running {
                let got = sent.load(SeqCst);
                taken.store(got, SeqCst);
                if !s.block(id, || sent.load(SeqCst) > got) {
                    continue;
                }
            } else {
                std::thread::yield_now();
            }
            let was = running;
            running = s.pick(CpuId(0), now, |_| ()).next.is_some();
            if was && !running {
                s.switched_out(id, now);
            }
        }
    });
}

/// Four CPUs at once, on real threads: no unit is ever on two of them, and none is lost.
#[test]
fn four_cpus_at_once() {
    use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
    const CPUS: u16 = 4;
    const UNITS: usize = 6;
    let steps = if cfg!(miri) { 60 } else { 4_000 };
    let s = Box::new(System::new(Credit::new()));
    s.make_room(CPUS.into());
    (0..CPUS).for_each(|c| s.add_cpu(CpuId(c)));
    let group = s.policy().add_group().unwrap();
    let units: Vec<UnitId> = (0..UNITS)
        .map(|n| {
            s.add_unit(DomId(1), VcpuId(n as u16), group, Nanos(0))
                .unwrap()
        })
        .collect();
    for u in &units {
        s.up(*u, Nanos(0));
    }
    let on: [AtomicU32; UNITS] = Default::default();
    let clock = core::sync::atomic::AtomicU64::new(0);
    let ready = AtomicUsize::new(0);
    let seen: [AtomicU32; UNITS] = Default::default();
    let resched = |cpu: u16, cur: Option<UnitId>| {
        let now = Nanos(clock.fetch_add(50_000, SeqCst));
        let next = s.pick(CpuId(cpu), now, |_| ()).next;
        if next != cur {
            if let Some(id) = next {
                assert_eq!(on[id.index()].swap(1, SeqCst), 0, "on two CPUs");
            }
            if let Some(id) = cur {
                on[id.index()].store(0, SeqCst);
                s.switched_out(id, now);
            }
        }
        next
    };
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (s, units, resched, clock) = (&s, &units, &resched, &clock);
            let (ready, seen) = (&ready, &seen);
            scope.spawn(move || {
                let mut cur = None;
                let mut paused = [0u32; UNITS];
                let mut random = u64::from(cpu) + 1;
                for _ in 0..steps {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let n = (random >> 40) as usize % UNITS;
                    let now = Nanos(clock.load(SeqCst));
                    match (random >> 33) % 8 {
                        0 if paused[n] == 0 => {
                            s.pause(units[n], now).unwrap();
                            paused[n] += 1;
                        }
                        0 | 1 if paused[n] != 0 => {
                            s.unpause(units[n], now).unwrap();
                            paused[n] -= 1;
                        }
                        2 | 3 => {
                            s.wake(units[n], now);
                        }
                        4 => {
                            let only = |c: &CpuId| random >> (50 + c.0) & 1 != 0;
                            let some = (0..CPUS).map(CpuId).filter(only);
                            let mask = some.fold(CpuMask::only(CpuId(cpu)), CpuMask::with);
                            s.set_affinity(units[n], &mask, now).unwrap();
                        }
                        5 => {
                            if let Some(id) = cur {
                                s.block(id, || false);
                            }
                        }
                        _ => {}
                    }
                    cur = resched(cpu, cur);
                }
                let now = Nanos(clock.load(SeqCst));
                for (n, count) in paused.iter().enumerate() {
                    for _ in 0..*count {
                        s.unpause(units[n], now).unwrap();
                    }
                }
                ready.fetch_add(1, SeqCst);
                // Now everything may run everywhere, and must.
                let mut patience = 2_000_000;
                while seen.iter().any(|n| n.load(SeqCst) == 0) || ready.load(SeqCst) < 4 {
                    if ready.load(SeqCst) >= 4 {
                        patience -= 1;
                        assert!(patience > 0, "a unit is lost");
                        if let Some(id) = cur {
                            seen[id.index()].store(1, SeqCst);
                        }
                        for u in units {
                            s.wake(*u, now);
                        }
                    }
                    cur = resched(cpu, cur);
                    std::thread::yield_now();
                }
            });
        }
    });
}
