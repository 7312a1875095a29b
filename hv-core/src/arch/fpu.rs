//! Where a vCPU's extended state (x87, SSE, AVX, ...) is kept while it does not run.

use alloc::boxed::Box;
use alloc::vec;

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
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let mut lines = vec![Line([0; 64]); bytes.max(576).div_ceil(64)].into_boxed_slice();
        lines[0].0[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        lines[0].0[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Self(lines)
    }

    /// Its first byte.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
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
