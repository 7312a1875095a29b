//! XCR0 as a CPU accepts it.
//!
//! Of the components that guests are given each needs the one before it: x87, SSE, AVX,
//! AVX-512. So there are four values, XSETBV of anything else faults, and the smaller of two
//! is what both have. Source: Intel SDM vol. 1, 13.3; vol. 2, XSETBV.

/// x87, which is always on.
const X87: u64 = 1 << 0;
/// SSE.
const SSE: u64 = 1 << 1;
/// AVX.
pub const XSTATE_AVX: u64 = 1 << 2;
/// The three AVX-512 components, which go together.
pub const XSTATE_AVX512: u64 = 7 << 5;

/// A value that XSETBV takes on a CPU with its components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xcr0(u64);

/// All there are, ascending.
const CHAIN: [Xcr0; 4] = [
    Xcr0(X87),
    Xcr0(X87 | SSE),
    Xcr0(X87 | SSE | XSTATE_AVX),
    Xcr0(X87 | SSE | XSTATE_AVX | XSTATE_AVX512),
];

impl Xcr0 {
    /// x87 and SSE, which every 64-bit CPU has: what a vCPU starts with.
    pub const X87_SSE: Self = CHAIN[1];
    /// All components that guests may ever have.
    pub const ALL: Self = CHAIN[3];

    /// `value`, if a CPU takes it and `offered` has its components.
    #[must_use]
    pub fn new(value: u64, offered: u64) -> Option<Self> {
        let found = CHAIN.into_iter().find(|x| x.0 == value);
        found.filter(|x| x.0 & !offered == 0)
    }

    /// The largest value within `available`, components that a CPU has.
    #[must_use]
    pub fn largest(available: u64) -> Self {
        let fitting = CHAIN.into_iter().rev().find(|x| x.0 & !available == 0);
        fitting.unwrap_or(CHAIN[0])
    }

    /// The smallest value with all of `components`; `None`: no value has them.
    #[must_use]
    pub fn covering(components: u64) -> Option<Self> {
        CHAIN.into_iter().find(|x| components & !x.0 == 0)
    }

    /// The register's value.
    #[must_use]
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcr0_rules() {
        for (value, ok) in [
            (1, true),
            (3, true),
            (7, true),
            (0xe7, true),
            (0, false),
            (2, false),
            (5, false),    // AVX without SSE
            (0x27, false), // part of AVX-512
            (0xe3, false), // AVX-512 without AVX
            (0x207, false),
            (1 << 63 | 1, false),
        ] {
            assert_eq!(Xcr0::new(value, 0xe7).is_some(), ok, "{value:#x}");
        }
        assert_eq!(Xcr0::new(7, 3), None);
        assert_eq!(Xcr0::new(3, 0), None);
    }

    /// Whatever a CPU reports and a guest asks for, what is loaded is a value of the CPU's.
    #[test]
    fn what_is_loaded_never_faults() {
        for available in (0..0x400_u64).map(|bits| bits | 1) {
            let host = Xcr0::largest(available);
            assert_eq!(host.raw() & !available, 0);
            for guest in CHAIN {
                let loaded = guest.min(host);
                assert!(CHAIN.contains(&loaded));
                assert_eq!(loaded.raw() & !(guest.raw() & host.raw()), 0);
            }
        }
    }

    #[test]
    fn components_in_use_have_a_value() {
        assert_eq!(Xcr0::covering(0), Some(CHAIN[0]));
        assert_eq!(Xcr0::covering(4), Some(CHAIN[2]));
        assert_eq!(Xcr0::covering(0x23), Some(Xcr0::ALL));
        assert_eq!(Xcr0::covering(0x200), None);
    }
}
