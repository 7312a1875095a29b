//! Where a unit is, and what stops it.

use super::*;

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
        .set_affinity(id, &CpuMask::only(other), Nanos(0))
        .unwrap();
    assert_eq!(kick, Some(first));
    sim.kick(kick);
    assert_eq!(sim.cur[other.0 as usize], Some(id));
    assert_eq!(sim.cur[first.0 as usize], None);
    assert_eq!(
        sim.s.set_affinity(id, &CpuMask::only(CpuId(40)), Nanos(0)),
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
    assert_eq!(sim.next(cpu, 5), None);
    // Its context is still being saved: nobody may pick it yet.
    assert_eq!(sim.s.wake(id, Nanos(6)), None);
    let other = CpuId(1 - cpu.0);
    assert_eq!(sim.next(other, 7), None);
    let kicked = sim.s.switched_out(id, Nanos(8)).unwrap();
    assert_eq!(sim.next(kicked, 9), Some(id));
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
    assert_eq!(sim.next(CpuId(0), 2), Some(id));
}

/// A CPU that stands still gives its unit up: a pause elsewhere need not wait for it, and
/// another CPU, or the same one later, runs the unit.
#[test]
fn a_vacated_cpu_has_no_unit_and_loses_none() {
    for cpus in [1, 2] {
        let mut sim = Sim::new(cpus);
        let g = sim.group(256, 0);
        let a = sim.guest(g, Load::Busy);
        let id = sim.guests[a].id;
        let cpu = sim.s.home(id);
        sim.run_until(MS);
        assert!(sim.s.is_on_cpu(id));
        let now = Nanos(2 * MS);
        sim.s.vacate(cpu, now);
        let kicked = sim.s.switched_out(id, now).unwrap();
        assert!(!sim.s.is_on_cpu(id));
        assert_eq!(sim.s.pick(kicked, now, |_| ()).next, Some(id));
        // Again, and paused meanwhile: it stays away until the pause ends.
        sim.s.vacate(kicked, now);
        assert_eq!(sim.s.pause(id, now), Ok(Some(kicked)));
        assert_eq!(sim.s.switched_out(id, now), None);
        assert!(!sim.s.is_on_cpu(id));
        assert_eq!(sim.s.pick(kicked, now, |_| ()).next, None);
        // An empty CPU can be vacated too.
        sim.s.vacate(kicked, now);
        let wake = sim.s.unpause(id, now).unwrap().unwrap();
        assert_eq!(sim.s.pick(wake, now, |_| ()).next, Some(id));
    }
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
    assert_eq!(sim.next(CpuId(0), at.0), None);
}

#[test]
fn a_preferred_cpu_is_used_where_there_is_a_choice() {
    let mut sim = Sim::new(3);
    let group = sim.group(256, 0);
    let a = sim.guest(group, Load::Naps(MS, MS));
    let id = sim.guests[a].id;
    sim.s.set_preference(id, &CpuMask::only(CpuId(2)));
    sim.run_until(20 * MS);
    assert_eq!(sim.s.home(id), CpuId(2));
    // Pinned elsewhere, the preference counts for nothing.
    sim.pin(a, &CpuMask::only(CpuId(1)));
    sim.run_until(40 * MS);
    assert_eq!(sim.s.home(id), CpuId(1));
    assert_eq!(sim.s.preference(id), CpuMask::only(CpuId(2)));
}

#[test]
fn idle_time_is_what_units_leave() {
    let mut sim = Sim::new(1);
    let group = sim.group(256, 0);
    let a = sim.guest(group, Load::Naps(MS, 3 * MS));
    for end in [3 * MS, 10 * MS, 1000 * MS] {
        sim.run_until(end);
        let idle = sim.s.idle_time(CpuId(0), Nanos(end));
        assert_eq!(idle + sim.ran(a), end);
    }
    assert_eq!(sim.s.idle_time(CpuId(999), Nanos(5)), 0);
}

#[test]
fn a_migration_delay_keeps_who_just_ran_where_it_ran() {
    for (delay, moves) in [(0, true), (5_000, false)] {
        let mut sim = Sim::new(2);
        let knobs = Knobs {
            migration_delay_us: delay,
            ..Knobs::DEFAULT
        };
        sim.s.policy().set_knobs(knobs).unwrap();
        let group = sim.group(256, 0);
        let units: Vec<_> = (0..3).map(|_| sim.guest(group, Load::Busy)).collect();
        sim.run_until(MS);
        let waits = units
            .into_iter()
            .map(|n| sim.guests[n].id)
            .find(|id| !sim.cur.contains(&Some(*id)))
            .unwrap();
        let other = CpuId(1 - sim.s.home(waits).0);
        let runs = sim.cur[other.0 as usize].unwrap();
        assert!(sim.s.block(runs, || false));
        let picked = sim.next(other, sim.now);
        assert_eq!(picked.is_some(), moves);
    }
}

#[test]
fn a_pin_ends_where_it_began() {
    let mut sim = Sim::new(3);
    let group = sim.group(256, 0);
    let a = sim.guest(group, Load::Busy);
    let id = sim.guests[a].id;
    let before = CpuMask::first(2);
    sim.pin(a, &before);
    assert_eq!(sim.s.unpin(id, Nanos(0)), Err(SchedError::BadParameter));
    let kick = sim.s.pin(id, CpuId(2), Nanos(0)).unwrap();
    sim.kick(kick);
    assert_eq!(sim.cur[2], Some(id));
    assert_eq!(sim.s.pin(id, CpuId(1), Nanos(0)), Err(SchedError::Pinned));
    // Tools cannot move it meanwhile, and CPUs that are not there cannot have it.
    let refused = sim.s.set_affinity(id, &CpuMask::ALL, Nanos(0));
    assert_eq!(refused, Err(SchedError::Pinned));
    for cpu in [3, 511, 512, u16::MAX] {
        let refused = sim.s.pin(id, CpuId(cpu), Nanos(0));
        assert_eq!(refused, Err(SchedError::BadParameter), "{cpu}");
    }
    assert_eq!(sim.s.unpin(id, Nanos(0)), Ok(Some(CpuId(2))));
    assert_eq!(sim.s.affinity(id), before);
}

#[test]
fn cpus_beyond_the_first_word_of_a_mask_are_like_others() {
    let cpus = if cfg!(miri) { 66 } else { 300 };
    let mut sim = Sim::new(cpus);
    let group = sim.group(256, 0);
    let guests: Vec<_> = (0..cpus).map(|_| sim.guest(group, Load::Busy)).collect();
    assert!(sim.cur.iter().all(Option::is_some), "one each");
    let last = CpuId(cpus - 1);
    let id = sim.guests[guests[0]].id;
    sim.pin(guests[0], &CpuMask::only(last));
    sim.run_until(100 * MS);
    assert_eq!(sim.s.home(id), last);
    assert!(sim.ran(guests[0]) > 0);
    // The one that was there, or this one, waits; a CPU of another word that falls idle takes
    // the one that may move.
    sim.pin(guests[1], &CpuMask::only(CpuId(0)));
    sim.run_until(200 * MS);
    assert!(sim.cur.iter().all(Option::is_some));
}
