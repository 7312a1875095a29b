//! Random numbers of what this CPU and the time on it give; see [`random`](crate::random).

use core::arch::x86_64::{__cpuid, _rdrand64_step};

use super::{clock, store};
use crate::hypercall::{Hypervisor, Native, version};
use crate::random::{Generator, Secure, Source};

/// Tries of RDRAND, which may find the CPU's store of numbers empty (Intel SDM vol. 1, 7.3.17.1).
const TRIES: usize = 10;

/// The CPU that runs this.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Source for Cpu {
    fn hardware(&mut self) -> Option<u64> {
        // Asked each time: the guest may have moved. CPUID leaf 1, ECX bit 30.
        let able = __cpuid(1).ecx & 1 << 30 != 0;
        able.then(rdrand).flatten()
    }

    fn jitter(&mut self) -> u64 {
        // The way to the hypervisor and back goes through caches and predictors that others use too.
        let before = clock::tsc();
        let _ = version();
        let after = clock::tsc();
        after.wrapping_sub(before).rotate_left(32) ^ after
    }

    fn incarnation(&self) -> u32 {
        Native.incarnation()
    }
}

fn rdrand() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let mut word = 0;
        // SAFETY: the CPU has the instruction, as the caller asked.
        let got = unsafe { _rdrand64_step(&mut word) };
        (got == 1).then_some(word)
    })
}

/// A random generator for any use but secrets.
#[must_use]
pub fn generator() -> Generator<Cpu> {
    // The domain's UUID is in the path of its node below `/vm`.
    let name = store().and_then(|store| store.read("vm").ok());
    let name = name.unwrap_or_default();
    let words = name.chunks(8).map(|bytes| {
        let word = bytes.iter().rev();
        word.fold(0, |word, &byte| word << 8 | u64::from(byte))
    });
    let date = clock::wall().as_nanos() as u64;
    Generator::new(Cpu, words.chain([date]))
}

/// A random generator for secrets; none on a CPU without RDRAND.
#[must_use]
pub fn secure() -> Option<Secure<Cpu>> {
    Secure::new(generator())
}
