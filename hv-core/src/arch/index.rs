//! Indexes that a guest chooses, bounded also while the CPU guesses (Spectre variant 1).
//!
//! A check of an index is a branch. Until it is decided the CPU may go on as if it had been passed,
//! read beyond the table, and leave traces of what it read. Here the index is also made 0 by
//! arithmetic that follows from the comparison, so there is nothing to guess.
#![allow(
    unsafe_code,
    reason = "the arithmetic is assembly, or compilers drop it"
)]

/// `index` if it is below `len`, else 0: without a branch.
#[inline(always)]
#[allow(clippy::inline_always, reason = "three instructions")]
#[must_use]
pub fn within(index: usize, len: usize) -> usize {
    #[cfg(miri)]
    let mask = if index < len { usize::MAX } else { 0 };
    #[cfg(not(miri))]
    let mask: usize = {
        let mask;
        // SAFETY: arithmetic on registers only.
        unsafe {
            core::arch::asm!(
                "cmp {index}, {len}",
                "sbb {mask}, {mask}",
                index = in(reg) index,
                len = in(reg) len,
                mask = out(reg) mask,
                options(pure, nomem, nostack),
            );
        }
        mask
    };
    index & mask
}

/// Element `index`, which a guest chose.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a few instructions")]
#[must_use]
pub fn get<T>(table: &[T], index: usize) -> Option<&T> {
    if index < table.len() {
        let index = within(index, table.len());
        // SAFETY: it is the index that was just found to be in bounds.
        Some(unsafe { table.get_unchecked(index) })
    } else {
        None
    }
}

/// Element `index`, which a guest chose, to change.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a few instructions")]
#[must_use]
pub fn get_mut<T>(table: &mut [T], index: usize) -> Option<&mut T> {
    if index < table.len() {
        let index = within(index, table.len());
        // SAFETY: it is the index that was just found to be in bounds.
        Some(unsafe { table.get_unchecked_mut(index) })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_becomes_zero() {
        for len in [0, 1, 2, 7, usize::MAX] {
            for index in [0, 1, 6, 7, 8, usize::MAX / 2, usize::MAX - 1, usize::MAX] {
                let expected = if index < len { index } else { 0 };
                assert_eq!(within(index, len), expected, "{index} of {len}");
            }
        }
    }

    #[test]
    fn elements_are_those_of_the_slice() {
        let mut table = [10, 11, 12];
        assert_eq!(get(&table, 2), Some(&12));
        assert_eq!(get(&table, 3), None);
        assert_eq!(get::<u8>(&[], 0), None);
        *get_mut(&mut table, 0).unwrap() = 9;
        assert_eq!((table[0], get_mut(&mut table, usize::MAX)), (9, None));
    }
}
