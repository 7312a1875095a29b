//! Where a vCPU's extended state (x87, SSE, AVX, ...) is kept while it does not run.

use crate::fallible::{self, NoMemory};
use alloc::boxed::Box;

/// 64 bytes, the alignment XSAVE wants.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An XSAVE area in standard format (or an FXSAVE one, its first 512 bytes).
#[derive(Debug)]
pub struct FpuArea(Box<[Line]>);

impl FpuArea {
    /// An area of at least `bytes` in the state after FNINIT, MXCSR at its default.
    ///
    /// Source: Intel SDM vol. 1, 10.5 and 13.4 (FCW at 0, MXCSR at 24).
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(bytes: usize) -> Result<Self, NoMemory> {
        let mut lines = fallible::boxed_slice(bytes.max(576).div_ceil(64), |_| Line([0; 64]))?;
        lines[0].0[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        lines[0].0[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Ok(Self(lines))
    }

    /// Its first byte.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// x87 and SSE state as an FXSAVE image.
    #[must_use]
    pub fn legacy(&self) -> [u8; 512] {
        let mut image = [0; 512];
        for (to, line) in image.chunks_exact_mut(64).zip(&self.0) {
            to.copy_from_slice(&line.0);
        }
        image
    }

    /// The whole area, byte by byte.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|line| line.0)
    }

    /// Takes an XSAVE area in standard format that somebody else made, with no more than
    /// the components in `allowed`. `false`: it would fault when loaded; nothing changed.
    ///
    /// Source: Intel SDM vol. 1, 13.4.2 (header at 512) and 13.8.1 (what faults).
    pub fn set_xsave(&mut self, image: &[u8], allowed: u64) -> bool {
        let word = |at: usize| {
            image
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_le_bytes)
        };
        let Some(components) = word(512) else {
            return false;
        };
        let reserved = (1..8).any(|n| word(512 + n * 8) != Some(0));
        let control = image.get(24..28).is_some_and(|b| b[2] == 0 && b[3] == 0);
        if components & !allowed != 0 || reserved || !control || image.len() > self.0.len() * 64 {
            return false;
        }
        let mut bytes = image.iter().copied().chain(core::iter::repeat(0));
        for line in &mut self.0 {
            line.0.fill_with(|| bytes.next().unwrap_or(0));
        }
        true
    }

    /// Takes x87 and SSE state from an FXSAVE image that somebody else made; the rest
    /// goes to its initial state.
    ///
    /// Source: Intel SDM vol. 1, 10.5.1 (MXCSR at 24) and 13.4.2 (XSTATE_BV at 512).
    pub fn set_legacy(&mut self, image: &[u8; 512]) {
        for (line, from) in self.0.iter_mut().zip(image.chunks_exact(64)) {
            line.0.copy_from_slice(from);
        }
        let first = &mut self.0[0].0;
        // Bits 16 up are reserved and would fault when loaded.
        first[26..28].fill(0);
        for line in &mut self.0[8..] {
            line.0.fill(0);
        }
        // x87 and SSE are not in their initial state.
        self.0[8].0[0] = 3;
    }
}
