//! Who gets how much, and how soon.

use super::*;
use crate::sched::credit::DEFAULT_WEIGHT;

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

/// Asserts that `got` is within 2 % of `want`.
#[track_caller]
fn assert_near(got: u64, want: u64) {
    assert!(got.abs_diff(want) * 50 <= want, "{got}, wanted {want}");
}

#[test]
fn weights_256_and_512_are_one_to_two_within_2_percent_on_every_cpu() {
    // Each pair is pinned to a CPU of its own, as by `vcpu-pin`.
    let mut sim = Sim::new(3);
    let mut pairs = Vec::new();
    for cpu in 0..3 {
        let (a, b) = (sim.group(256, 0), sim.group(512, 0));
        let pair = [a, b].map(|group| sim.guest(group, Load::Busy));
        for n in pair {
            sim.pin(n, &CpuMask::only(CpuId(cpu)));
        }
        pairs.push(pair);
    }
    // Long beside the slice in which one or the other happens to begin and end.
    let end = 2 * secs() * 1000 * MS;
    sim.run_until(end);
    for [a, b] in pairs {
        assert_eq!(sim.ran(a) + sim.ran(b), end);
        assert_near(2 * sim.ran(a), sim.ran(b));
    }
}

/// A host's guests that are there and do next to nothing: a timer now and then.
fn drowsy(sim: &mut Sim) -> Vec<usize> {
    [4, 10, 33, 250]
        .map(|nap| {
            let group = sim.group(256, 0);
            sim.guest(group, Load::Naps(MS / 20, nap * MS))
        })
        .to_vec()
}

#[test]
fn weights_hold_beside_guests_that_hardly_run() {
    let mut sim = Sim::new(1);
    let drowsy = drowsy(&mut sim);
    let (a, b) = (sim.group(256, 0), sim.group(512, 0));
    let (a, b) = (sim.guest(a, Load::Busy), sim.guest(b, Load::Busy));
    // The others first get what they have not used.
    sim.run_until(1000 * MS);
    let before = (sim.ran(a), sim.ran(b));
    for n in &drowsy {
        sim.guests[*n].worst = 0;
    }
    sim.run_until((1 + 2 * secs()) * 1000 * MS);
    assert_near(2 * (sim.ran(a) - before.0), sim.ran(b) - before.1);
    for n in drowsy {
        let worst = sim.guests[n].worst;
        assert!(worst <= TIMESLICE / 10, "waited {worst} ns");
    }
}

#[test]
fn a_great_weight_counts_in_full_when_credit_is_shared_out_late() {
    // Who wakes now and then shifts the ends of slices against the moments when credit is due.
    for weight in [512, 1024, 2048] {
        for nap in [25, 33, 47, 101] {
            let mut sim = Sim::new(1);
            let groups = [256, 256, weight].map(|weight| sim.group(weight, 0));
            sim.guest(groups[0], Load::Naps(MS / 3, nap * MS));
            let [a, b] = [groups[1], groups[2]].map(|group| sim.guest(group, Load::Busy));
            sim.run_until(1000 * MS);
            let before = (sim.ran(a), sim.ran(b));
            sim.run_until((1 + 4 * secs()) * 1000 * MS);
            let times = u64::from(weight) / 256;
            assert_near(times * (sim.ran(a) - before.0), sim.ran(b) - before.1);
        }
    }
}

#[test]
fn guests_that_hardly_ran_and_now_never_rest_have_their_weights() {
    let mut sim = Sim::new(1);
    let guests: Vec<_> = [256, 256, 512, 1024]
        .map(|weight| {
            let group = sim.group(weight, 0);
            sim.guest(group, Load::Naps(MS / 20, 4 * MS))
        })
        .to_vec();
    sim.run_until(2000 * MS);
    for &n in &guests {
        sim.guests[n].load = Load::Busy;
        sim.guests[n].left = u64::MAX;
    }
    sim.run_until(4000 * MS);
    let before: Vec<_> = guests.iter().map(|&n| sim.ran(n)).collect();
    let end = 4 + 2 * secs();
    sim.run_until(end * 1000 * MS);
    for ((&n, before), part) in guests.iter().zip(before).zip([1, 1, 2, 4]) {
        assert_near(sim.ran(n) - before, (end - 4) * 1000 * MS * part / 8);
    }
}

#[test]
fn who_never_rested_and_now_hardly_runs_is_soon_served() {
    let mut sim = Sim::new(1);
    for _ in 0..3 {
        let group = sim.group(256, 0);
        sim.guest(group, Load::Busy);
    }
    let group = sim.group(256, 0);
    let n = sim.guest(group, Load::Busy);
    sim.run_until(2000 * MS);
    sim.guests[n].load = Load::Naps(MS / 20, 7 * MS);
    sim.guests[n].left = MS / 20;
    sim.run_until(4000 * MS);
    sim.guests[n].worst = 0;
    sim.run_until((4 + secs()) * 1000 * MS);
    let worst = sim.guests[n].worst;
    assert!(worst <= TIMESLICE / 10, "waited {worst} ns");
}

#[test]
fn a_cap_holds_beside_guests_that_hardly_run() {
    let mut sim = Sim::new(1);
    drowsy(&mut sim);
    let group = sim.group(256, 40);
    let capped = sim.guest(group, Load::Busy);
    let end = 2 * secs() * 1000 * MS;
    sim.run_until(end);
    assert_near(sim.ran(capped), end / 100 * 40);
}

#[test]
fn a_vcpu_that_idles_takes_nothing_from_its_sibling_nor_gives_it_more() {
    let mut sim = Sim::new(1);
    let (a, b) = (sim.group(256, 0), sim.group(256, 0));
    let busy = [a, b].map(|group| sim.guest(group, Load::Busy));
    for _ in 0..3 {
        sim.guest(a, Load::Naps(MS / 20, 4 * MS));
    }
    sim.run_until(2 * secs() * 1000 * MS);
    assert_near(sim.ran(busy[0]), sim.ran(busy[1]));
}

#[test]
fn waiting_is_accounted() {
    let mut sim = Sim::new(1);
    let (a, b) = (sim.group(256, 0), sim.group(512, 0));
    let pair = [a, b].map(|group| sim.guest(group, Load::Busy));
    let end = secs() * 1000 * MS;
    sim.run_until(end);
    for n in pair {
        let times = sim.s.run_times(sim.guests[n].id, Nanos(end));
        assert_eq!(times.time[RunState::Runnable as usize], end - sim.ran(n));
    }
}

#[test]
fn caps_hold_within_2_percent() {
    // Percent of a CPU, vCPUs, CPUs, busy company.
    for (cap, vcpus, cpus, company) in [
        (10, 1, 1, 0),
        (10, 1, 1, 3),
        (25, 1, 2, 4),
        (50, 1, 1, 1),
        (50, 2, 2, 0),
        (80, 1, 2, 1),
        (150, 2, 2, 0),
        (150, 4, 4, 0),
    ] {
        let mut sim = Sim::new(cpus);
        let group = sim.group(1024, cap);
        let capped: Vec<_> = (0..vcpus).map(|_| sim.guest(group, Load::Busy)).collect();
        for _ in 0..company {
            let group = sim.group(256, 0);
            sim.guest(group, Load::Busy);
        }
        let end = secs() * 1000 * MS;
        sim.run_until(end);
        let got = capped.iter().map(|n| sim.ran(*n)).sum::<u64>();
        let want = end / 100 * u64::from(cap);
        assert!(
            got.abs_diff(want) * 50 <= want,
            "cap {cap}, {vcpus} vCPUs, {cpus} CPUs, company {company}: {got} of {want}"
        );
    }
}

#[test]
fn who_mostly_sleeps_runs_within_a_slice_of_waking() {
    // Microseconds awake and asleep: at most a fifth of the CPU, its fair share a quarter.
    for (run, nap) in [
        (50, 1_000),
        (100, 900),
        (500, 2_100),
        (500, 100_000),
        (1_000, 9_000),
        (2_000, 8_000),
        (5_000, 45_000),
    ] {
        let mut sim = Sim::new(1);
        for _ in 0..3 {
            let group = sim.group(256, 0);
            sim.guest(group, Load::Busy);
        }
        let group = sim.group(256, 0);
        let sleeper = sim.guest(group, Load::Naps(run * 1_000, nap * 1_000));
        sim.run_until(secs() * 1000 * MS);
        let worst = sim.guests[sleeper].worst;
        assert!(worst < TIMESLICE, "{run} us of {nap}: waited {worst} ns");
        assert!(sim.ran(sleeper) > 0);
    }
}

#[test]
fn a_shorter_slice_changes_hands_sooner() {
    let mut sim = Sim::new(1);
    let knobs = Knobs {
        slice_ms: 3,
        ratelimit_us: 500,
        migration_delay_us: 0,
    };
    sim.s.policy().set_knobs(knobs).unwrap();
    assert_eq!(sim.s.policy().knobs(), knobs);
    let (a, b) = (sim.group(256, 0), sim.group(512, 0));
    let (a, b) = (sim.guest(a, Load::Busy), sim.guest(b, Load::Busy));
    sim.run_until(3 * MS);
    assert!(sim.ran(a) > 0 && sim.ran(b) == 0 || sim.ran(b) > 0 && sim.ran(a) == 0);
    sim.run_until(7 * MS);
    assert!(sim.ran(a) > 0 && sim.ran(b) > 0);
    sim.run_until(3000 * MS);
    assert_near(2 * sim.ran(a), sim.ran(b));
}

#[test]
fn knobs_outside_their_range_are_refused() {
    let policy = Credit::new();
    let good = Knobs::DEFAULT;
    for bad in [
        Knobs {
            slice_ms: 0,
            ..good
        },
        Knobs {
            slice_ms: 1_001,
            ..good
        },
        Knobs {
            ratelimit_us: 99,
            ..good
        },
        Knobs {
            slice_ms: 1_000,
            ratelimit_us: 500_001,
            ..good
        },
        Knobs {
            slice_ms: 1,
            ratelimit_us: 1_001,
            ..good
        },
        Knobs {
            migration_delay_us: 100_001,
            ..good
        },
    ] {
        assert_eq!(policy.set_knobs(bad), Err(SchedError::BadParameter));
        assert_eq!(policy.knobs(), good);
    }
    let none = Knobs {
        ratelimit_us: 0,
        ..good
    };
    assert_eq!(policy.set_knobs(none), Ok(()));
}
