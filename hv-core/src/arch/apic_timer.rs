//! How a CPU's own timer works: which mode, and what its LVT entry holds.
//!
//! The mode is decided once, for all CPUs, and the entry follows from it. Pure.

use super::vectors;

/// What the timer of the local APIC compares. Source: Intel SDM vol. 3, 11.5.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// Counts down from a number, once.
    Count,
    /// Fires when the TSC passes a value.
    TscDeadline,
}

impl TimerMode {
    /// The mode for a CPU. `allowed` false (the option `tdt=no`) leaves counting.
    ///
    /// # Errors
    /// The microcode revision that the CPU needs for its deadline timer and does not have; it is
    /// to count then.
    pub const fn choose(cpu: &TimerCpu, allowed: bool) -> Result<Self, u32> {
        if !cpu.tsc_deadline || !allowed {
            return Ok(Self::Count);
        }
        match cpu.needed_microcode() {
            Some(needed) if cpu.microcode < needed => Err(needed),
            _ => Ok(Self::TscDeadline),
        }
    }

    /// The timer's LVT entry, for good: nothing ever masks it, because a timer that is not set
    /// is silent. Source: Intel SDM vol. 3, figure 11-8 (bits 18:17 are the mode).
    #[must_use]
    pub const fn lvt(self) -> u32 {
        let mode = match self {
            Self::Count => 0,
            Self::TscDeadline => 2,
        };
        mode << 17 | vectors::TIMER as u32
    }
}

/// What the choice hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerCpu {
    /// CPUID.1.ECX bit 24: there is a deadline mode.
    pub tsc_deadline: bool,
    /// An Intel CPU, not emulated or lent by a hypervisor: those show a microcode revision of
    /// their own making, and answer for the timer themselves.
    pub bare_intel: bool,
    /// Family, extended family included.
    pub family: u32,
    /// Model, extended model included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Revision of the loaded microcode; 0 if none was loaded.
    pub microcode: u32,
}

/// No revision is known to mend it.
const NEVER: u32 = u32::MAX;

impl TimerCpu {
    /// The microcode revision from which on the deadline timer of this CPU works, if it needs one.
    ///
    /// Older revisions lose deadlines, or fire at a wrong time. Source: Intel's specification
    /// updates (HSD/HSE/BDM/SKL/KBL "TSC deadline timer may not fire as expected"); the
    /// revisions are those that Linux (`apic_validate_deadline_timer`) and Xen
    /// (`check_deadline_errata`) ask for.
    #[must_use]
    #[allow(clippy::match_same_arms, reason = "a row for each model")]
    pub const fn needed_microcode(&self) -> Option<u32> {
        if !self.bare_intel || self.family != 6 {
            return None;
        }
        Some(match (self.model, self.stepping) {
            // Haswell: desktop, EP, EX, ULT, with Iris Pro.
            (0x3c, _) => 0x22,
            (0x3f, 2) => 0x3a,
            (0x3f, 4) => 0x0f,
            (0x45, _) => 0x20,
            (0x46, _) => 0x17,
            // Broadwell: mobile, with Iris Pro, server, D.
            (0x3d, _) => 0x25,
            (0x47, _) => 0x17,
            (0x4f, _) => 0x0b00_0020,
            (0x56, 2) => 0x11,
            (0x56, 3) => 0x0700_000e,
            (0x56, 4) => 0x0f00_000c,
            (0x56, 5) => 0x0e00_0003,
            // Skylake: mobile, desktop, server (later steppings of its model are Cascade Lake).
            (0x4e | 0x5e, _) => 0xb2,
            (0x55, 3) => 0x0100_0136,
            (0x55, 4) => 0x0200_0014,
            // Kaby Lake: mobile, desktop.
            (0x8e | 0x9e, _) => 0x52,
            // Other steppings of the same were never sold.
            (0x3f | 0x56, _) | (0x55, 0..=2) => NEVER,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intel(model: u32, stepping: u32, microcode: u32) -> TimerCpu {
        TimerCpu {
            tsc_deadline: true,
            bare_intel: true,
            family: 6,
            model,
            stepping,
            microcode,
        }
    }

    #[test]
    fn the_lvt_entry_has_the_mode_and_is_not_masked() {
        for mode in [TimerMode::Count, TimerMode::TscDeadline] {
            assert_eq!(mode.lvt() & 0xff, u32::from(vectors::TIMER));
            assert_eq!(mode.lvt() >> 16 & 1, 0, "{mode:?} is masked");
        }
        assert_eq!(TimerMode::Count.lvt() >> 17, 0);
        assert_eq!(TimerMode::TscDeadline.lvt() >> 17, 2);
    }

    /// Model, stepping, oldest revision that works.
    const TABLE: &[(u32, u32, u32)] = &[
        (0x3c, 3, 0x22),
        (0x3f, 2, 0x3a),
        (0x3f, 4, 0xf),
        (0x45, 1, 0x20),
        (0x46, 1, 0x17),
        (0x3d, 4, 0x25),
        (0x47, 1, 0x17),
        (0x4f, 1, 0x0b00_0020),
        (0x56, 2, 0x11),
        (0x56, 3, 0x0700_000e),
        (0x56, 4, 0x0f00_000c),
        (0x56, 5, 0x0e00_0003),
        (0x4e, 3, 0xb2),
        (0x5e, 3, 0xb2),
        (0x55, 3, 0x0100_0136),
        (0x55, 4, 0x0200_0014),
        (0x8e, 9, 0x52),
        (0x9e, 9, 0x52),
    ];

    #[test]
    fn cpus_with_the_erratum_count_until_their_microcode_is_new_enough() {
        use TimerMode::TscDeadline;
        for &(model, stepping, needed) in TABLE {
            let choose = |revision| TimerMode::choose(&intel(model, stepping, revision), true);
            assert_eq!(choose(0), Err(needed), "{model:#x}");
            assert_eq!(choose(needed - 1), Err(needed), "{model:#x}");
            assert_eq!(choose(needed), Ok(TscDeadline), "{model:#x}");
            assert_eq!(choose(needed + 1), Ok(TscDeadline), "{model:#x}");
        }
        for (model, stepping) in [(0x3f, 1), (0x56, 6), (0x55, 0), (0x55, 2)] {
            let cpu = intel(model, stepping, u32::MAX - 1);
            assert_eq!(TimerMode::choose(&cpu, true), Err(NEVER));
        }
    }

    #[test]
    fn cpus_without_the_erratum_need_no_microcode() {
        // Sandy Bridge, Ivy Bridge, Cascade Lake, Ice Lake, Tiger Lake, Sapphire Rapids, Goldmont.
        let fine = [
            (0x2a, 7),
            (0x3a, 9),
            (0x55, 7),
            (0x7e, 5),
            (0x8c, 1),
            (0x8f, 8),
            (0x5c, 9),
        ];
        for (model, stepping) in fine {
            let choice = TimerMode::choose(&intel(model, stepping, 0), true);
            assert_eq!(choice, Ok(TimerMode::TscDeadline), "{model:#x}");
        }
    }

    #[test]
    fn a_hypervisor_beneath_and_other_makers_are_believed() {
        let mut cpu = intel(0x3c, 3, 0);
        cpu.bare_intel = false;
        assert_eq!(TimerMode::choose(&cpu, true), Ok(TimerMode::TscDeadline));
        let mut cpu = intel(0x3c, 3, 0);
        cpu.family = 0x19;
        assert_eq!(TimerMode::choose(&cpu, true), Ok(TimerMode::TscDeadline));
    }

    #[test]
    fn without_a_deadline_timer_or_leave_the_timer_counts() {
        let mut cpu = intel(0x8c, 1, 0);
        assert_eq!(TimerMode::choose(&cpu, false), Ok(TimerMode::Count));
        cpu.tsc_deadline = false;
        assert_eq!(TimerMode::choose(&cpu, true), Ok(TimerMode::Count));
        // No complaint about microcode for a timer that is not wanted.
        let old = intel(0x3c, 3, 0);
        assert_eq!(TimerMode::choose(&old, false), Ok(TimerMode::Count));
    }
}
