//! Random sequences of operations.

use super::*;
use proptest::prelude::*;

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
        s.make_room(3);
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
        let kicked = &mut self.kicked;
        let d = self
            .s
            .pick(CpuId(cpu), now, |other| *kicked |= 1 << other.0);
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
            Op::Affinity(u, m) => {
                let only = |c: &CpuId| m >> c.0 & 1 != 0;
                let mask = (0..3)
                    .map(CpuId)
                    .filter(only)
                    .fold(CpuMask::NONE, CpuMask::with);
                self.s.set_affinity(unit(u), &mask, now).unwrap()
            }
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
            self.s
                .set_affinity(u, &CpuMask::first(3), Nanos(now))
                .unwrap();
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
