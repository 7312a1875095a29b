//! Memory from the heap that may not be there. After boot nothing in the hypervisor allocates by
//! any other way: a guest decides when memory runs out, and then its call fails and nothing else.
//!
//! `hv-core/clippy.toml` forbids the allocating functions of `alloc` that panic instead; rooms
//! that run at boot only say that they use them.
//!
//! No locks. Knows nobody.
#![allow(
    unsafe_code,
    reason = "`alloc` has no stable way to make a box that can fail"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "behind a reservation these do not allocate"
)]

mod arc;
pub mod fault;
#[cfg(test)]
pub mod testing;

pub use arc::Arc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<alloc::collections::TryReserveError> for NoMemory {
    fn from(_: alloc::collections::TryReserveError) -> Self {
        Self
    }
}

/// Memory for one `T`, not initialised.
fn room_for<T>() -> Result<NonNull<T>, NoMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(NonNull::dangling());
    }
    // SAFETY: the size is not zero.
    let at = unsafe { alloc::alloc::alloc(layout) };
    NonNull::new(at.cast()).ok_or(NoMemory)
}

/// A box with `value` in it.
///
/// # Errors
/// [`NoMemory`]; the value is dropped.
pub fn boxed<T>(value: T) -> Result<Box<T>, NoMemory> {
    let at = room_for::<T>()?;
    // SAFETY: fresh memory for a `T` from the global allocator (or none, for a type without a
    // size), written before it becomes a box.
    unsafe {
        at.write(value);
        Ok(Box::from_raw(at.as_ptr()))
    }
}

/// `count` values made by `make`, from their indices.
///
/// # Errors
/// [`NoMemory`].
pub fn boxed_slice<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, NoMemory> {
    let mut values = Vec::new();
    values.try_reserve_exact(count)?;
    values.extend((0..count).map(make));
    Ok(full(values))
}

/// A vector that is exactly full, as a slice: nothing is allocated.
///
/// # Panics
/// In debug builds, if there is more room in it.
#[must_use]
pub fn full<T>(values: Vec<T>) -> Box<[T]> {
    debug_assert!(values.capacity() == values.len() || size_of::<T>() == 0);
    values.into_boxed_slice()
}

/// A vector that grows only where there is memory.
pub trait Grow<T> {
    /// Adds a value at the end.
    ///
    /// # Errors
    /// [`NoMemory`]; the value is dropped.
    fn try_push(&mut self, value: T) -> Result<(), NoMemory>;

    /// Adds a value at the end, in room that was reserved before.
    ///
    /// # Panics
    /// If there is no such room.
    fn push_reserved(&mut self, value: T);

    /// Adds a value at a place, in room that was reserved before.
    ///
    /// # Panics
    /// If there is no such room, or no such place.
    fn insert_reserved(&mut self, at: usize, value: T);

    /// Adds what `values` yields.
    ///
    /// # Errors
    /// [`NoMemory`]; some may have been added.
    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), NoMemory>;
}

impl<T> Grow<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result<(), NoMemory> {
        self.try_reserve(1)?;
        self.push(value);
        Ok(())
    }

    #[inline]
    fn push_reserved(&mut self, value: T) {
        assert!(self.len() < self.capacity(), "room was reserved");
        self.push(value);
    }

    fn insert_reserved(&mut self, at: usize, value: T) {
        assert!(self.len() < self.capacity(), "room was reserved");
        self.insert(at, value);
    }

    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), NoMemory> {
        let values = values.into_iter();
        self.try_reserve(values.size_hint().0)?;
        for value in values {
            self.try_push(value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{each_failure, live_bytes};
    use super::*;

    #[test]
    fn every_kind_fails_and_loses_nothing() {
        let before = live_bytes();
        let failures = each_failure(|| {
            let one = boxed(std::string::String::new())?;
            let shared = Arc::new([1_u64; 9])?;
            let many = boxed_slice(7, |n| n as u16)?;
            let mut grown = Vec::new();
            grown.try_push(3)?;
            grown.try_extend(0..100)?;
            let nothing = (boxed(())?, Arc::new(())?, boxed_slice(4, |_| ())?);
            assert_eq!((shared[8], many[6], grown[100]), (1, 6, 99));
            drop((one, nothing, shared));
            Ok::<_, NoMemory>(())
        });
        assert_eq!(failures, 6);
        assert_eq!(live_bytes(), before);
    }

    #[test]
    #[should_panic(expected = "room was reserved")]
    fn room_is_not_made_up() {
        Vec::new().push_reserved(1);
    }
}
