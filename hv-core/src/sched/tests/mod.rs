//! Simulations on virtual time, and random sequences of operations.

mod fairness;
mod places;
mod random;
mod threads;

use super::*;
use crate::addr::{CpuId, CpuMask, DomId, Nanos, VcpuId};
use std::boxed::Box;
use std::vec::Vec;

const MS: u64 = 1_000_000;
/// The longest slice there is by default.
const TIMESLICE: u64 = Knobs::DEFAULT.slice_ms as u64 * MS;

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
        s.make_room(cpus.into());
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

    fn pin(&mut self, n: usize, cpus: &CpuMask) {
        let id = self.guests[n].id;
        let kick = self.s.set_affinity(id, cpus, Nanos(self.now)).unwrap();
        self.kick(kick);
    }

    fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(c) = cpu {
            self.resched(c.0 as usize);
        }
    }

    fn resched(&mut self, cpu: usize) {
        let now = Nanos(self.now);
        let mut kicked = Vec::new();
        let d = self.s.pick(CpuId(cpu as u16), now, |c| kicked.push(c));
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
        for c in kicked {
            self.resched(c.0 as usize);
        }
    }

    /// What `cpu` would run at `now`, in a simulation where nobody is over a cap.
    fn next(&self, cpu: CpuId, now: u64) -> Option<UnitId> {
        let kick = |_| panic!("nobody was parked");
        self.s.pick(cpu, Nanos(now), kick).next
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
