//! Simulations on virtual time, and random sequences of operations.

use super::credit::{DEFAULT_WEIGHT, TIMESLICE};
use super::*;
use crate::addr::{CpuId, CpuMask, DomId, Nanos, VcpuId};
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

const MS: u64 = 1_000_000;

/// What a simulated guest does.
#[derive(Clone, Copy)]
enum Load {
    Busy,
    /// Runs `.0` ns, then sleeps `.1` ns.
    Naps(u64, u64),
}

struct Guest {
    id: UnitId,
    load: Load,
    left: u64,
    wake_at: Option<u64>,
    /// Longest time from wake-up to running.
    worst: u64,
    woken: Option<u64>,
}

struct Sim {
    s: Box<System>,
    now: u64,
    cur: Vec<Option<UnitId>>,
    deadline: Vec<u64>,
    guests: Vec<Guest>,
}

impl Sim {
    fn new(cpus: u16) -> Self {
        let s = Box::new(System::new(Credit::new()));
        for c in 0..cpus {
            s.add_cpu(CpuId(c));
        }
        Self {
            s,
            now: 0,
            cur: vec![None; cpus.into()],
            deadline: vec![u64::MAX; cpus.into()],
            guests: Vec::new(),
        }
    }

    fn group(&self, weight: u16, cap: u16) -> GroupId {
        let g = self.s.policy().add_group().unwrap();
        self.s.policy().set_params(g, weight, cap).unwrap();
        g
    }

    fn guest(&mut self, group: GroupId, load: Load) -> usize {
        let n = self.guests.len();
        let now = Nanos(self.now);
        let id = self
            .s
            .add_unit(DomId(group.0), VcpuId(n as u16), group, now)
            .unwrap();
        let left = match load {
            Load::Busy => u64::MAX,
            Load::Naps(run, _) => run,
        };
        self.guests.push(Guest {
            id,
            load,
            left,
            wake_at: None,
            worst: 0,
            woken: None,
        });
        let kick = self.s.up(id, now);
        self.kick(kick);
        n
    }

    fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(c) = cpu {
            self.resched(c.0 as usize);
        }
    }

    fn resched(&mut self, cpu: usize) {
        let now = Nanos(self.now);
        let d = self.s.pick(CpuId(cpu as u16), now);
        let old = core::mem::replace(&mut self.cur[cpu], d.next);
        self.deadline[cpu] = self.now.saturating_add(d.slice.0);
        if let Some(id) = d.next {
            let g = self.guests.iter_mut().find(|g| g.id == id).unwrap();
            if let Some(at) = g.woken.take() {
                g.worst = g.worst.max(now.0 - at);
            }
        }
        if old != d.next {
            let kick = old.and_then(|id| self.s.switched_out(id, now));
            self.kick(kick);
        }
        for c in d.kick.iter() {
            self.resched(c.0 as usize);
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            let mut next = end;
            for (cpu, cur) in self.cur.iter().enumerate() {
                next = next.min(self.deadline[cpu]);
                if let Some(g) = self.guests.iter().find(|g| Some(g.id) == *cur) {
                    next = next.min(self.now.saturating_add(g.left));
                }
            }
            for g in &self.guests {
                next = next.min(g.wake_at.unwrap_or(u64::MAX));
            }
            let ran = next - self.now;
            self.now = next;
            for g in &mut self.guests {
                if self.cur.contains(&Some(g.id)) && !matches!(g.load, Load::Busy) {
                    g.left -= ran;
                }
            }
            self.due();
        }
    }

    fn due(&mut self) {
        for n in 0..self.guests.len() {
            let g = &mut self.guests[n];
            if g.wake_at.is_some_and(|t| t <= self.now) {
                g.wake_at = None;
                g.woken = Some(self.now);
                let kick = self.s.wake(g.id, Nanos(self.now));
                self.kick(kick);
            }
        }
        for cpu in 0..self.cur.len() {
            let now = self.now;
            let cur = self.cur[cpu];
            let g = self.guests.iter_mut().find(|g| Some(g.id) == cur);
            let sleeps = match g {
                Some(Guest {
                    load: Load::Naps(run, nap),
                    left,
                    wake_at,
                    id,
                    ..
                }) if *left == 0 => {
                    *left = *run;
                    *wake_at = Some(now + *nap);
                    self.s.block(*id, || false)
                }
                _ => false,
            };
            if sleeps || self.deadline[cpu] <= now {
                self.resched(cpu);
            }
        }
    }

    fn ran(&self, n: usize) -> u64 {
        self.s.run_times(self.guests[n].id, Nanos(self.now)).time[RunState::Running as usize]
    }
}

fn secs() -> u64 {
    if cfg!(miri) { 1 } else { 6 }
}

#[track_caller]
fn assert_share(got: u64, total: u64, want_permille: u64) {
    let permille = got * 1000 / total;
    assert!(
        permille.abs_diff(want_permille) <= 20,
        "{permille} per mille, wanted {want_permille}"
    );
}

#[test]
fn weights_one_to_two_share_one_cpu() {
    let mut sim = Sim::new(1);
    let (a, b) = (sim.group(256, 0), sim.group(512, 0));
    let (a, b) = (sim.guest(a, Load::Busy), sim.guest(b, Load::Busy));
    let end = secs() * 1000 * MS;
    sim.run_until(end);
    assert_eq!(sim.ran(a) + sim.ran(b), end);
    assert_share(sim.ran(a), end, 333);
    assert_share(sim.ran(b), end, 667);
}

#[test]
fn a_weight_counts_for_each_vcpu() {
    let mut sim = Sim::new(2);
    let (a, b) = (sim.group(256, 0), sim.group(DEFAULT_WEIGHT, 0));
    let x: Vec<_> = (0..2).map(|_| sim.guest(a, Load::Busy)).collect();
    let y: Vec<_> = (0..2).map(|_| sim.guest(b, Load::Busy)).collect();
    let end = secs() * 1000 * MS;
    sim.run_until(end);
    let group = |v: &[usize]| v.iter().map(|n| sim.ran(*n)).sum::<u64>();
    assert_eq!(group(&x) + group(&y), 2 * end);
    assert_share(group(&x), 2 * end, 500);
}

#[test]
fn a_cap_holds_alone_and_in_company() {
    for company in [false, true] {
        let mut sim = Sim::new(1);
        let g = sim.group(256, 25);
        let a = sim.guest(g, Load::Busy);
        if company {
            let g = sim.group(256, 0);
            sim.guest(g, Load::Busy);
        }
        let end = secs() * 1000 * MS;
        sim.run_until(end);
        assert_share(sim.ran(a), end, 250);
        let t = sim.s.run_times(sim.guests[a].id, Nanos(end));
        assert_eq!(t.time.iter().sum::<u64>(), end);
    }
}

#[test]
fn a_woken_unit_runs_soon_among_busy_ones() {
    let mut sim = Sim::new(1);
    for _ in 0..3 {
        let g = sim.group(256, 0);
        sim.guest(g, Load::Busy);
    }
    let g = sim.group(256, 0);
    let n = sim.guest(g, Load::Naps(MS / 2, 7 * MS));
    sim.run_until(secs() * 1000 * MS);
    // The rate limit is all it may have to wait for.
    assert!(
        sim.guests[n].worst <= TIMESLICE / 10,
        "{}",
        sim.guests[n].worst
    );
    assert!(sim.ran(n) > 0);
}

#[test]
fn nobody_starves_behind_units_that_wake_often() {
    let mut sim = Sim::new(1);
    let low = sim.group(64, 0);
    let low = sim.guest(low, Load::Busy);
    for _ in 0..4 {
        let g = sim.group(256, 0);
        sim.guest(g, Load::Naps(3 * MS, MS));
    }
    let end = secs() * 1000 * MS;
    sim.run_until(end);
    // Its fair share is 64 / (64 + 4 * 256) = 59 per mille.
    assert!(sim.ran(low) * 1000 / end >= 39, "{}", sim.ran(low));
}

#[test]
fn no_cpu_idles_while_a_unit_waits() {
    let mut sim = Sim::new(4);
    let g = sim.group(256, 0);
    let units: Vec<_> = (0..5).map(|_| sim.guest(g, Load::Busy)).collect();
    let end = secs() * 1000 * MS;
    sim.run_until(end);
    assert_eq!(units.iter().map(|n| sim.ran(*n)).sum::<u64>(), 4 * end);
    for n in units {
        assert!(sim.ran(n) * 1000 / end > 700, "{}", sim.ran(n));
    }
}

#[test]
fn affinity_is_obeyed_and_moves_a_running_unit() {
    let mut sim = Sim::new(2);
    let g = sim.group(256, 0);
    let a = sim.guest(g, Load::Busy);
    let id = sim.guests[a].id;
    let first = sim.s.home(id);
    let other = CpuId(1 - first.0);
    let kick = sim
        .s
        .set_affinity(id, CpuMask::only(other), Nanos(0))
        .unwrap();
    assert_eq!(kick, Some(first));
    sim.kick(kick);
    assert_eq!(sim.cur[other.0 as usize], Some(id));
    assert_eq!(sim.cur[first.0 as usize], None);
    assert_eq!(
        sim.s.set_affinity(id, CpuMask(1 << 40), Nanos(0)),
        Err(SchedError::BadParameter)
    );
}

#[test]
fn a_wake_while_being_switched_out_is_kept() {
    let mut sim = Sim::new(2);
    let g = sim.group(256, 0);
    let a = sim.guest(g, Load::Busy);
    let id = sim.guests[a].id;
    let cpu = sim.s.home(id);
    assert!(sim.s.block(id, || false));
    assert_eq!(sim.s.pick(cpu, Nanos(5)).next, None);
    // Its context is still being saved: nobody may pick it yet.
    assert_eq!(sim.s.wake(id, Nanos(6)), None);
    let other = CpuId(1 - cpu.0);
    assert_eq!(sim.s.pick(other, Nanos(7)).next, None);
    let kicked = sim.s.switched_out(id, Nanos(8)).unwrap();
    assert_eq!(sim.s.pick(kicked, Nanos(9)).next, Some(id));
}

#[test]
fn a_wake_before_the_pick_keeps_it_running() {
    let mut sim = Sim::new(1);
    let g = sim.group(256, 0);
    let a = sim.guest(g, Load::Busy);
    let id = sim.guests[a].id;
    // An event that came before the block is seen by it.
    assert!(!sim.s.block(id, || true));
    assert!(!sim.s.is_blocked(id));
    assert!(sim.s.block_polling(id, || false));
    assert_eq!(sim.s.wake_poller(id, Nanos(1)), None);
    assert_eq!(sim.s.pick(CpuId(0), Nanos(2)).next, Some(id));
}

#[test]
fn pauses_nest_and_outrank_wakes() {
    let mut sim = Sim::new(1);
    let g = sim.group(256, 0);
    let a = sim.guest(g, Load::Naps(MS, MS));
    let id = sim.guests[a].id;
    sim.run_until(MS + MS / 2);
    assert!(sim.s.is_blocked(id));
    let at = Nanos(sim.now);
    assert_eq!(sim.s.pause(id, at), Ok(None));
    assert_eq!(sim.s.pause(id, at), Ok(None));
    assert_eq!(sim.s.wake(id, at), None);
    assert_eq!(sim.s.run_times(id, at).state, RunState::Offline);
    assert_eq!(sim.s.unpause(id, at), Ok(None));
    assert_eq!(sim.s.unpause(id, at), Ok(Some(CpuId(0))));
    assert_eq!(sim.s.unpause(id, at), Err(SchedError::PauseCount));
    assert_eq!(sim.s.run_times(id, at).state, RunState::Runnable);
    sim.s.remove_unit(id);
    assert_eq!(sim.s.pick(CpuId(0), at).next, None);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Pick(u16),
    Saved(u16),
    Wake(u8),
    Block(u16),
    Yield(u16),
    Pause(u8),
    Unpause(u8),
    Up(u8),
    Down(u8),
    Affinity(u8, u64),
    Cap(u8, u16),
}

fn op() -> impl Strategy<Value = (Op, u64)> {
    let op = prop_oneof![
        6 => (0..3u16).prop_map(Op::Pick),
        6 => (0..3u16).prop_map(Op::Saved),
        4 => (0..6u8).prop_map(Op::Wake),
        3 => (0..3u16).prop_map(Op::Block),
        1 => (0..3u16).prop_map(Op::Yield),
        1 => (0..6u8).prop_map(Op::Pause),
        2 => (0..6u8).prop_map(Op::Unpause),
        2 => (0..6u8).prop_map(Op::Up),
        1 => (0..6u8).prop_map(Op::Down),
        1 => (0..6u8, 1..8u64).prop_map(|(u, m)| Op::Affinity(u, m)),
        1 => (0..2u8, 0..150u16).prop_map(|(g, c)| Op::Cap(g, c)),
    ];
    (op, 0..12 * MS)
}

/// Three CPUs that answer kicks late, switch slowly, and do not wait for each other.
struct Chaos {
    s: Box<System>,
    units: Vec<UnitId>,
    groups: Vec<GroupId>,
    cur: [Option<UnitId>; 3],
    /// Being switched out; the CPU does nothing else meanwhile.
    saving: [Option<UnitId>; 3],
    kicked: u64,
}

impl Chaos {
    fn new() -> Self {
        let s = Box::new(System::new(Credit::new()));
        for c in 0..3 {
            s.add_cpu(CpuId(c));
        }
        let groups: Vec<_> = (0..2).map(|_| s.policy().add_group().unwrap()).collect();
        let units = (0..6)
            .map(|n| {
                s.add_unit(DomId(1), VcpuId(n), groups[n as usize % 2], Nanos(0))
                    .unwrap()
            })
            .collect();
        Self {
            s,
            units,
            groups,
            cur: [None; 3],
            saving: [None; 3],
            kicked: 0,
        }
    }

    fn note(&mut self, kick: Option<CpuId>) {
        if let Some(c) = kick {
            self.kicked |= 1 << c.0;
        }
    }

    fn pick(&mut self, cpu: u16, now: Nanos) {
        let c = cpu as usize;
        if self.saving[c].is_some() {
            return;
        }
        self.kicked &= !(1 << c);
        let d = self.s.pick(CpuId(cpu), now);
        self.kicked |= d.kick.0;
        if let Some(id) = d.next.filter(|n| Some(*n) != self.cur[c]) {
            for o in 0..3 {
                assert_ne!(self.cur[o], Some(id), "on two CPUs");
                assert_ne!(self.saving[o], Some(id), "picked before it was saved");
            }
        }
        if d.next != self.cur[c] {
            self.saving[c] = self.cur[c];
        }
        self.cur[c] = d.next;
        assert!(d.next.is_none() || d.slice.0 <= TIMESLICE);
    }

    fn saved(&mut self, cpu: u16, now: Nanos) {
        if let Some(id) = self.saving[cpu as usize].take() {
            let kick = self.s.switched_out(id, now);
            self.note(kick);
        }
    }

    fn apply(&mut self, op: Op, now: Nanos) {
        // A CPU that saves a context runs no guest yet.
        let guest = |c: u16| self.cur[c as usize].filter(|_| self.saving[c as usize].is_none());
        let unit = |u: u8| self.units[u as usize];
        let kick = match op {
            Op::Pick(c) => {
                self.pick(c, now);
                None
            }
            Op::Saved(c) => {
                self.saved(c, now);
                None
            }
            Op::Wake(u) => self.s.wake(unit(u), now),
            Op::Block(c) => {
                if let Some(id) = guest(c) {
                    self.s.block(id, || false);
                    self.pick(c, now);
                }
                None
            }
            Op::Yield(c) => {
                if let Some(id) = guest(c) {
                    self.s.yield_(id);
                    self.pick(c, now);
                }
                None
            }
            Op::Pause(u) => self.s.pause(unit(u), now).unwrap(),
            Op::Unpause(u) => self.s.unpause(unit(u), now).unwrap_or(None),
            Op::Up(u) => self.s.up(unit(u), now),
            Op::Down(u) => self.s.down(unit(u), now),
            Op::Affinity(u, m) => self.s.set_affinity(unit(u), CpuMask(m), now).unwrap(),
            Op::Cap(g, cap) => {
                let group = self.groups[g as usize];
                self.s.policy().set_params(group, 256, cap).unwrap();
                None
            }
        };
        self.note(kick);
    }

    /// Lets everything settle, then every runnable unit must get to run.
    fn drain(&mut self, mut now: u64) {
        for g in &self.groups {
            self.s.policy().set_params(*g, 256, 0).unwrap();
        }
        for u in self.units.clone() {
            self.s.set_affinity(u, CpuMask(7), Nanos(now)).unwrap();
            while self.s.unpause(u, Nanos(now)).is_ok() {}
            self.s.up(u, Nanos(now));
            self.s.wake(u, Nanos(now));
        }
        let mut seen = Vec::new();
        for round in 0..400 {
            for c in 0..3 {
                self.saved(c, Nanos(now));
                self.pick(c, Nanos(now));
                self.saved(c, Nanos(now));
                // Units over a cap they no longer have wait for the next periods.
                let idle = self.cur[c as usize].is_none();
                assert!(!idle || round < 10, "idle while units wait");
                seen.extend(self.cur[c as usize]);
            }
            now += 10 * MS;
        }
        for u in &self.units {
            assert!(seen.contains(u), "lost {u:?}");
            let t = self.s.run_times(*u, Nanos(now));
            assert_eq!(t.time.iter().sum::<u64>(), now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 120 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn no_unit_is_lost_or_on_two_cpus(ops in proptest::collection::vec(op(), 0..200)) {
        let mut chaos = Chaos::new();
        let mut now = 0;
        for (op, after) in ops {
            now += after;
            chaos.apply(op, Nanos(now));
        }
        chaos.drain(now);
    }

    #[test]
    fn a_kicked_cpu_is_enough(ops in proptest::collection::vec(op(), 0..200)) {
        // CPUs pick only when kicked, or when their own unit stops: still nothing that
        // can run is left while a CPU that may run it idles.
        let mut chaos = Chaos::new();
        let mut now = 0;
        for (op, after) in ops {
            now += after;
            if !matches!(op, Op::Pick(_) | Op::Cap(..)) {
                chaos.apply(op, Nanos(now));
            }
            for c in 0..3 {
                if chaos.saving[c as usize].is_none() && chaos.kicked >> c & 1 != 0 {
                    chaos.pick(c, Nanos(now));
                }
            }
        }
        for _ in 0..20 {
            for c in 0..3 {
                chaos.saved(c, Nanos(now));
                if chaos.kicked >> c & 1 != 0 {
                    chaos.pick(c, Nanos(now));
                }
            }
        }
        let idle = (0..3u16).filter(|c| chaos.cur[*c as usize].is_none());
        for c in idle {
            for u in &chaos.units {
                let waits = chaos.s.run_times(*u, Nanos(now)).state == RunState::Runnable;
                prop_assert!(!waits || chaos.s.home(*u) != CpuId(c), "{u:?} waits for idle {c}");
            }
        }
    }
}

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
            running = s.pick(CpuId(0), now).next.is_some();
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
        let next = s.pick(CpuId(cpu), now).next;
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
                            let mask = CpuMask(random >> 50 & 15 | 1 << cpu);
                            s.set_affinity(units[n], mask, now).unwrap();
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
