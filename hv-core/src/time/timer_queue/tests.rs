use super::*;
use proptest::prelude::*;
use std::boxed::Box;

const D: DomId = DomId(1);
const CPUS: u16 = 4;

fn timers_of_cpus() -> Box<Timers> {
    let all = Box::new(Timers::new());
    all.make_room(CPUS.into());
    all
}

fn timers(n: u16) -> Vec<Timer> {
    (0..n)
        .map(|v| Timer::new(TimerId::Singleshot(D, VcpuId(v))))
        .collect()
}

#[test]
fn a_timer_follows_the_cpu_that_sets_it() {
    let all = timers_of_cpus();
    let t = Timer::new(TimerId::Poll(D, VcpuId(0)));
    assert_eq!(all.set(CpuId(0), &t, Nanos(50)), Ok(Nanos(50)));
    assert_eq!(all.set(CpuId(1), &t, Nanos(40)), Ok(Nanos(40)));
    assert_eq!(all.next_deadline(CpuId(0)), NEVER);
    assert_eq!(all.pop_expired(CpuId(1), Nanos(39)), None);
    let due = all.pop_expired(CpuId(1), Nanos(41)).unwrap();
    assert_eq!((due.id, due.deadline), (t.id, Nanos(40)));
    assert!(t.is_due(&due));
    assert!(!all.cancel(&t));
    assert!(!t.is_due(&due), "what was cancelled since does nothing");
}

#[test]
fn a_queue_grows_with_its_timers() {
    let all = timers_of_cpus();
    let t = timers(100);
    for (n, timer) in t.iter().enumerate() {
        let first = all.set(CpuId(3), timer, Nanos(1000 - n as u64));
        assert_eq!(first, Ok(Nanos(1000 - n as u64)));
    }
    assert!(t[..50].iter().all(|timer| all.cancel(timer)));
    assert_eq!(all.set(CpuId(3), &t[99], Nanos(5000)), Ok(Nanos(902)));
    let mut left = 0;
    while all.pop_expired(CpuId(3), Nanos(5000)).is_some() {
        left += 1;
    }
    assert_eq!(left, 50);
}

#[test]
fn an_expired_timer_does_not_disturb_the_next_user_of_its_slot() {
    let all = timers_of_cpus();
    let t = timers(2);
    let c = CpuId(0);
    assert_eq!(all.set(c, &t[0], Nanos(1)), Ok(Nanos(1)));
    assert!(all.pop_expired(c, Nanos(1)).is_some());
    assert_eq!(all.set(c, &t[1], Nanos(2)), Ok(Nanos(2)));
    assert!(!all.cancel(&t[0]));
    assert_eq!(all.set(c, &t[0], Nanos(9)), Ok(Nanos(2)));
    assert_eq!(all.next_deadline(c), Nanos(2));
}

fn entries(all: &Timers) -> usize {
    (0..CPUS)
        .map(|cpu| all.queue(CpuId(cpu)).lock().heap.len())
        .sum()
}

#[test]
fn a_periodic_timer_goes_on_unless_somebody_changed_it() {
    let all = timers_of_cpus();
    let t = Timer::new(TimerId::Periodic(D, VcpuId(0)));
    let (here, other) = (CpuId(0), CpuId(1));
    let expire = || {
        all.set(here, &t, Nanos(1)).unwrap();
        all.pop_expired(here, Nanos(1)).unwrap()
    };
    let due = expire();
    assert_eq!(all.set_again(here, &t, &due, Nanos(5)), Nanos(5));
    assert_eq!(all.set_again(here, &t, &due, Nanos(6)), Nanos(5));
    for change in [
        (|all, t| _ = Timers::cancel(all, t)) as fn(&Timers, &Timer),
        |all, t| _ = all.set(CpuId(1), t, Nanos(90)).unwrap(),
        Timers::end,
    ] {
        let due = expire();
        change(&all, &t);
        assert!(!t.is_due(&due));
        assert_eq!(all.set_again(here, &t, &due, Nanos(5)), NEVER);
    }
    // The last change ended it.
    assert_eq!(all.set(other, &t, Nanos(7)), Ok(NEVER));
    assert!(!all.cancel(&t));
    assert_eq!(entries(&all), 0);
}

/// What vCPUs of one domain can do: all of them set and stop the timer of one, while it
/// expires and starts again on the CPUs they are on, and the domain ends under them.
#[test]
fn many_cpus_set_one_timer_and_it_is_one() {
    const CPUS: u16 = 4;
    let rounds = if cfg!(miri) { 5 } else { 300 };
    for round in 0..rounds {
        let all = timers_of_cpus();
        let t = Timer::new(TimerId::Periodic(D, VcpuId(0)));
        let others = timers(8);
        let start = std::sync::Barrier::new(usize::from(CPUS));
        std::thread::scope(|scope| {
            for cpu in 0..CPUS {
                let (all, t, others, start) = (&all, &t, &others, &start);
                scope.spawn(move || {
                    start.wait();
                    let here = CpuId(cpu);
                    for n in 0..if cfg!(miri) { 10 } else { 100 } {
                        all.set(here, t, Nanos(n)).unwrap();
                        // Slots go round, so that old places could name others' entries.
                        let other = &others[usize::from(cpu * 2)];
                        all.set(here, other, Nanos(n)).unwrap();
                        if n % 3 == 0 {
                            all.cancel(t);
                        }
                        while let Some(due) = all.pop_expired(here, Nanos(n)) {
                            if due.id == t.id {
                                all.set_again(here, t, &due, Nanos(n + 1));
                            }
                        }
                    }
                    if cpu == 0 && round % 2 == 0 {
                        all.end(t);
                    }
                });
            }
        });
        for other in &others {
            all.cancel(other);
        }
        let left = entries(&all);
        assert!(left <= 1, "{left} entries of one timer");
        let set = all.cancel(&t);
        assert_eq!(usize::from(set), left, "an entry that nothing cancels");
        assert!(round % 2 != 0 || left == 0, "it was set after its end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn behaves_like_a_sorted_list(
        ops in proptest::collection::vec((0..3u8, 0..2u16, 0..8usize, 0..100u64), 0..100)
    ) {
        let all = timers_of_cpus();
        let t = timers(8);
        let mut model: [Option<(u16, u64)>; 8] = [None; 8];
        for (op, cpu, n, at) in ops {
            match op {
                0 => {
                    model[n] = Some((cpu, at));
                    let least = model.iter().flatten().filter(|m| m.0 == cpu);
                    let least = least.map(|m| m.1).min().unwrap();
                    prop_assert_eq!(all.set(CpuId(cpu), &t[n], Nanos(at)), Ok(Nanos(least)));
                }
                1 => prop_assert_eq!(all.cancel(&t[n]), model[n].take().is_some()),
                _ => {
                    let mut last = 0;
                    while let Some(due) = all.pop_expired(CpuId(cpu), Nanos(at)) {
                        let TimerId::Singleshot(_, v) = due.id else { panic!() };
                        let deadline = due.deadline.0;
                        prop_assert!(t[v.0 as usize].is_due(&due));
                        prop_assert_eq!(model[v.0 as usize].take(), Some((cpu, deadline)));
                        prop_assert!(last <= deadline && deadline <= at);
                        last = deadline;
                    }
                    let late = model.iter().flatten().any(|m| m.0 == cpu && m.1 <= at);
                    prop_assert!(!late);
                }
            }
        }
    }
}
