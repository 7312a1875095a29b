//! The states of a domain, and what to do when something happens. Pure: it orders, others do.
//!
//! ```text
//!            Build                       Built
//!   (asked) ───────► Building ──────────────────────────► Alive ◄────────┐
//!                       │ Failed: everything undone          │  SaveBegun │ SaveEnded
//!                       ▼                                    ├──────────► Saving
//!                     Gone                                   │            │
//!                                            Stopped(reason) │            │ Saved
//!                     policy of the reason: Dump, Rename     ▼            │
//!            Preserved ◄──────────────────────────────── (ended)          │
//!                │ Destroy                                   │            │
//!                │          ┌────────────────────────────────┘            │
//!                ▼          ▼                                             │
//!   Destroy ──────────► Ending: Destroy, then Release ◄───────────────────┘
//!                           │ Released
//!                           ▼
//!                         Gone ──► Start (a successor, if the policy says so)
//! ```
//!
//! *Released* comes when devices, console and store nodes of a destroyed domain are gone. A
//! domain that vanishes (somebody else destroyed it) goes to *Ending* from anywhere.

use crate::config::{Action, DomainConfig};
use crate::ctl::ShutdownReason;

/// Where a domain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Being made.
    Building,
    /// Made; it runs, or is paused.
    Alive,
    /// Being written into a file.
    Saving,
    /// Ended and kept for somebody to look at.
    Preserved,
    /// Being destroyed.
    Ending(Then),
    /// No more.
    Gone,
}

/// What comes after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// A new domain of the same configuration.
    Start,
}

/// What happens to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is complete.
    Built,
    /// It could not be made, and what was made of it is gone.
    Failed,
    /// Its kernel has stopped.
    Stopped(ShutdownReason),
    /// Somebody writes it into a file.
    SaveBegun,
    /// That is over, and the domain goes on.
    SaveEnded,
    /// That is over, and the domain is to end.
    Saved,
    /// Somebody wants it to end.
    Destroy,
    /// The hypervisor knows it no more, or destroys it.
    Vanished,
    /// All that belonged to it is gone.
    Released,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Write its memory into a file.
    Dump,
    /// Give up its name, so that a successor can have it.
    Rename,
    /// Have the hypervisor destroy it.
    Destroy,
    /// Remove devices, console and store nodes, then say [`Input::Released`].
    Release,
    /// Make a domain of the same configuration.
    Start,
}

/// What a configuration wants for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// It switched itself off.
    pub poweroff: Action,
    /// It wants to start anew.
    pub reboot: Action,
    /// It failed.
    pub crash: Action,
    /// It missed its watchdog.
    pub watchdog: Action,
    /// It wants a new kernel around its memory.
    pub soft_reset: Action,
}

impl Policy {
    /// A configuration's.
    pub const fn of(config: &DomainConfig) -> Self {
        Self {
            poweroff: config.on_poweroff,
            reboot: config.on_reboot,
            crash: config.on_crash,
            watchdog: config.on_watchdog,
            soft_reset: config.on_soft_reset,
        }
    }

    /// For a reason; one that nobody has heard of is a failure.
    pub const fn action(&self, reason: ShutdownReason) -> Action {
        match reason {
            ShutdownReason::POWEROFF => self.poweroff,
            ShutdownReason::REBOOT => self.reboot,
            ShutdownReason::WATCHDOG => self.watchdog,
            ShutdownReason::SOFT_RESET => self.soft_reset,
            _ => self.crash,
        }
    }
}

/// One domain's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    phase: Phase,
}

impl Life {
    /// Of a domain that is being made.
    pub const fn building() -> Self {
        Self {
            phase: Phase::Building,
        }
    }

    /// Of a domain that was found.
    pub const fn found() -> Self {
        Self {
            phase: Phase::Alive,
        }
    }

    /// Where it is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Something happened. What comes too late, or twice, orders nothing.
    pub fn step(&mut self, input: Input, policy: Policy) -> Vec<Order> {
        let (next, orders) = self.next(input, policy);
        self.phase = next;
        orders
    }

    #[allow(clippy::match_same_arms, reason = "each arm is a line of the picture")]
    fn next(self, input: Input, policy: Policy) -> (Phase, Vec<Order>) {
        let end = |then| (Phase::Ending(then), vec![Order::Destroy, Order::Release]);
        let stay = (self.phase, Vec::new());
        match (self.phase, input) {
            (Phase::Gone, _) => stay,
            (Phase::Building, Input::Built) => (Phase::Alive, Vec::new()),
            (Phase::Building, Input::Failed) => (Phase::Gone, Vec::new()),
            // Whoever makes it sees these by himself, and undoes what he made.
            (Phase::Building, _) => stay,

            (Phase::Ending(then), Input::Released) => {
                let start = (then == Then::Start).then_some(Order::Start);
                (Phase::Gone, start.into_iter().collect())
            }
            // Who wants the end does not want a successor.
            (Phase::Ending(_), Input::Destroy) => (Phase::Ending(Then::Nothing), Vec::new()),
            (Phase::Ending(_), _) => stay,

            (_, Input::Vanished) => (Phase::Ending(Then::Nothing), vec![Order::Release]),
            (_, Input::Destroy) | (Phase::Saving, Input::Saved) => end(Then::Nothing),

            (Phase::Alive, Input::SaveBegun) => (Phase::Saving, Vec::new()),
            (Phase::Saving, Input::SaveEnded) => (Phase::Alive, Vec::new()),
            // Who saves it knows; any other reason he will be told when he is done.
            (Phase::Saving, _) => stay,

            // Another tool saves it.
            (Phase::Alive, Input::Stopped(ShutdownReason::SUSPEND)) => stay,
            (Phase::Alive, Input::Stopped(reason)) => match policy.action(reason) {
                Action::Destroy => end(Then::Nothing),
                Action::Restart | Action::SoftReset => end(Then::Start),
                Action::Preserve => (Phase::Preserved, Vec::new()),
                Action::RenameRestart => (Phase::Preserved, vec![Order::Rename, Order::Start]),
                Action::CoredumpDestroy => dumped(end(Then::Nothing)),
                Action::CoredumpRestart => dumped(end(Then::Start)),
            },
            (Phase::Alive | Phase::Preserved, _) => stay,
        }
    }
}

fn dumped((phase, mut orders): (Phase, Vec<Order>)) -> (Phase, Vec<Order>) {
    orders.insert(0, Order::Dump);
    (phase, orders)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(action: Action) -> Policy {
        Policy {
            poweroff: action,
            reboot: action,
            crash: action,
            watchdog: action,
            soft_reset: action,
        }
    }

    fn any_input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Built),
            Just(Input::Failed),
            (0_u8..8).prop_map(|reason| Input::Stopped(ShutdownReason(reason))),
            Just(Input::SaveBegun),
            Just(Input::SaveEnded),
            Just(Input::Saved),
            Just(Input::Destroy),
            Just(Input::Vanished),
            Just(Input::Released),
        ]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop::sample::select(Action::ALL)
    }

    proptest! {
        /// Whatever happens in whatever order: destroyed once at most, released once before it
        /// is gone, at most one successor, and none that somebody did not want.
        #[test]
        fn every_life_ends_in_order(
            action in any_action(),
            inputs in prop::collection::vec(any_input(), 0..40),
            found: bool,
        ) {
            let mut life = if found { Life::found() } else { Life::building() };
            let mut all = Vec::new();
            let mut built = found;
            for input in inputs {
                let before = life.phase();
                let orders = life.step(input, policy(action));
                if before == Phase::Gone {
                    prop_assert!(orders.is_empty());
                }
                if input == Input::Destroy && !matches!(before, Phase::Building) {
                    prop_assert!(!orders.contains(&Order::Start));
                    prop_assert!(matches!(
                        life.phase(),
                        Phase::Gone | Phase::Ending(Then::Nothing)
                    ));
                }
                built |= input == Input::Built && before == Phase::Building;
                all.extend(orders);
            }
            let count = |order| all.iter().filter(|o| **o == order).count();
            prop_assert!(count(Order::Destroy) <= 1);
            prop_assert!(count(Order::Release) <= 1);
            prop_assert!(count(Order::Start) <= 1);
            if life.phase() == Phase::Gone && built {
                prop_assert_eq!(count(Order::Release), 1);
            }
        }

        /// From anywhere, asking for the end and doing what is ordered leads there.
        #[test]
        fn the_end_can_be_had_from_anywhere(
            action in any_action(),
            inputs in prop::collection::vec(any_input(), 0..40),
        ) {
            let mut life = Life::building();
            life.step(Input::Built, policy(action));
            for input in inputs {
                life.step(input, policy(action));
            }
            life.step(Input::Destroy, policy(action));
            let after = life.step(Input::Released, policy(action));
            prop_assert_eq!(life.phase(), Phase::Gone);
            prop_assert!(after.is_empty());
        }
    }

    #[test]
    fn a_reboot_has_a_successor_after_the_release() {
        let mut life = Life::found();
        let policy = policy(Action::Restart);
        let orders = life.step(Input::Stopped(ShutdownReason::REBOOT), policy);
        assert_eq!(orders, [Order::Destroy, Order::Release]);
        assert_eq!(life.step(Input::Released, policy), [Order::Start]);
    }

    #[test]
    fn a_preserved_one_is_named_away_first() {
        let mut life = Life::found();
        let policy = policy(Action::RenameRestart);
        let orders = life.step(Input::Stopped(ShutdownReason::CRASH), policy);
        assert_eq!(orders, [Order::Rename, Order::Start]);
        assert_eq!(life.phase(), Phase::Preserved);
    }
}
