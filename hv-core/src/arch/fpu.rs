//! Where a vCPU's extended state (x87, SSE, AVX, ...) is kept while it does not run.

use super::xcr0::Xcr0;
use crate::fallible::{self, NoMemory};
use alloc::boxed::Box;

/// 64 bytes, the alignment XSAVE wants.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An XSAVE area in standard format (or an FXSAVE one, its first 512 bytes).
#[derive(Debug)]
pub struct FpuArea(Box<[Line]>);

/// Why an area that somebody else made cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadArea {
    /// No header, or longer than what the CPU stores.
    Size,
    /// Components that are not allowed.
    Components,
    /// In compacted format.
    Compressed,
    /// Reserved bytes of the header are not zero.
    Reserved,
}

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

    /// Whether loading it makes an x87 exception pending: one that happened and is not masked.
    ///
    /// Source: Intel SDM vol. 1, 8.1.3 and 8.1.5 (FSW at 2, FCW at 0, six exceptions each).
    #[must_use]
    pub fn has_pending_exception(&self) -> bool {
        let first = &self.0[0].0;
        first[2] & !first[0] & 0x3f != 0
    }

    /// Takes an XSAVE area in standard format that somebody else made, with no more than
    /// the components of `allowed`. MXCSR keeps those bits of it that are in `mxcsr_mask`.
    ///
    /// Source: Intel SDM vol. 1, 13.4.2 (header at 512) and 13.8.1 (what faults).
    ///
    /// # Errors
    /// [`BadArea`], and nothing changed.
    pub fn set_xsave(
        &mut self,
        image: &[u8],
        allowed: Xcr0,
        mxcsr_mask: u32,
    ) -> Result<(), BadArea> {
        let word = |at: usize| {
            image
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_le_bytes)
        };
        let components = word(512).ok_or(BadArea::Size)?;
        if image.len() > self.0.len() * 64 {
            return Err(BadArea::Size);
        }
        if components & !allowed.raw() != 0 {
            return Err(BadArea::Components);
        }
        if word(520) != Some(0) {
            return Err(BadArea::Compressed);
        }
        if (2..8).any(|n| word(512 + n * 8) != Some(0)) {
            return Err(BadArea::Reserved);
        }
        let mut bytes = image.iter().copied().chain(core::iter::repeat(0));
        for line in &mut self.0 {
            line.0.fill_with(|| bytes.next().unwrap_or(0));
        }
        self.mask_mxcsr(mxcsr_mask);
        Ok(())
    }

    /// Clears bits of MXCSR that a CPU without them would refuse to load.
    fn mask_mxcsr(&mut self, mask: u32) {
        for (byte, mask) in self.0[0].0[24..28].iter_mut().zip(mask.to_le_bytes()) {
            *byte &= mask;
        }
    }

    /// Takes x87 and SSE state from an FXSAVE image that somebody else made; the rest
    /// goes to its initial state. MXCSR keeps those bits of it that are in `mxcsr_mask`.
    ///
    /// Source: Intel SDM vol. 1, 10.5.1 (MXCSR at 24) and 13.4.2 (XSTATE_BV at 512).
    pub fn set_legacy(&mut self, image: &[u8; 512], mxcsr_mask: u32) {
        for (line, from) in self.0.iter_mut().zip(image.chunks_exact(64)) {
            line.0.copy_from_slice(from);
        }
        self.mask_mxcsr(mxcsr_mask);
        for line in &mut self.0[8..] {
            line.0.fill(0);
        }
        // x87 and SSE are not in their initial state.
        self.0[8].0[0] = 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 0xffff;

    /// An area with this XSTATE_BV and SSE's MXCSR at its default.
    fn area(components: u64) -> [u8; 832] {
        let mut image = [0; 832];
        image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        image[512..520].copy_from_slice(&components.to_le_bytes());
        image
    }

    #[test]
    fn an_area_a_cpu_loads_is_taken() {
        let avx = Xcr0::new(7, 7).unwrap();
        for components in [0, 1, 2, 4, 7] {
            let mut fpu = FpuArea::new(832).unwrap();
            assert_eq!(fpu.set_xsave(&area(components), avx, MASK), Ok(()));
            assert!(fpu.bytes().eq(area(components)));
        }
    }

    #[test]
    fn what_xrstor_faults_on_is_refused() {
        let mut fpu = FpuArea::new(832).unwrap();
        let before: alloc::vec::Vec<u8> = fpu.bytes().collect();
        let mut set = |image: &[u8]| fpu.set_xsave(image, Xcr0::X87_SSE, MASK);
        assert_eq!(set(&area(4)), Err(BadArea::Components));
        assert_eq!(set(&area(1 << 63)), Err(BadArea::Components));
        assert_eq!(set(&area(3)[..519]), Err(BadArea::Size));
        assert_eq!(set(&area(3)[..575]), Err(BadArea::Reserved));
        assert_eq!(set(&[0; 833]), Err(BadArea::Size));
        for byte in 520..576 {
            let mut image = area(3);
            image[byte] = 0x80;
            let why = if byte < 528 {
                BadArea::Compressed
            } else {
                BadArea::Reserved
            };
            assert_eq!(set(&image), Err(why), "{byte}");
        }
        assert!(fpu.bytes().eq(before));
    }

    #[test]
    fn reserved_bits_of_mxcsr_go() {
        let mxcsr = |fpu: &FpuArea| u32::from_le_bytes(fpu.0[0].0[24..28].try_into().unwrap());
        let mut image = area(3);
        image[24..28].fill(0xff);
        let mut fpu = FpuArea::new(832).unwrap();
        assert_eq!(fpu.set_xsave(&image, Xcr0::X87_SSE, MASK), Ok(()));
        assert_eq!(mxcsr(&fpu), MASK);
        fpu.set_legacy(image[..512].try_into().unwrap(), 0xffbf);
        assert_eq!(mxcsr(&fpu), 0xffbf);
    }

    #[test]
    fn exceptions_that_are_pending() {
        let mut fpu = FpuArea::new(576).unwrap();
        assert!(!fpu.has_pending_exception());
        let mut image = [0; 512];
        (image[0], image[2]) = (0x3f, 0x3f);
        fpu.set_legacy(&image, MASK);
        assert!(!fpu.has_pending_exception());
        image[0] = 0x3e;
        fpu.set_legacy(&image, MASK);
        assert!(fpu.has_pending_exception());
    }
}
