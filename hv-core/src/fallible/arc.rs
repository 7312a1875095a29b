//! A counted pointer, as `alloc::sync::Arc`, whose making can fail. There are no weak ones.

use super::{NoMemory, room_for};
use alloc::boxed::Box;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

struct Counted<T> {
    count: AtomicUsize,
    value: T,
}

/// Shared by all that have a clone of it; the last one drops the value.
pub struct Arc<T>(NonNull<Counted<T>>);

// SAFETY: as `alloc::sync::Arc`: whoever has one can share the value with others, and may be the
// one to drop it.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: as above; a reference to it can be cloned.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// The first pointer to `value`.
    ///
    /// # Errors
    /// [`NoMemory`]; the value is dropped.
    pub fn new(value: T) -> Result<Self, NoMemory> {
        let at = room_for::<Counted<T>>()?;
        let count = AtomicUsize::new(1);
        // SAFETY: fresh memory for it.
        unsafe { at.write(Counted { count, value }) };
        Ok(Self(at))
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: it lives as long as its count is not 0, and this pointer is counted.
        unsafe { self.0.as_ref() }
    }

    /// The value, if nobody else has it.
    #[must_use]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        // What others did with it, before they dropped theirs, has happened.
        if this.counted().count.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: this is the only pointer, borrowed mutably, and there are no weak ones that
        // could become others.
        Some(unsafe { &mut this.0.as_mut().value })
    }
}

impl<T> Clone for Arc<T> {
    #[inline]
    fn clone(&self) -> Self {
        let before = self.counted().count.fetch_add(1, Ordering::Relaxed);
        // More than memory has room for, unless pointers were forgotten.
        assert!(before < isize::MAX as usize, "too many counted pointers");
        Self(self.0)
    }
}

impl<T> Drop for Arc<T> {
    #[inline]
    fn drop(&mut self) {
        if self.counted().count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: made by `new` from the global allocator, with this layout; nobody else
            // has it any more.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Noted<'a>(&'a AtomicUsize);

    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_one_drops_the_value_once() {
        let dropped = AtomicUsize::new(0);
        let mut one = Arc::new(Noted(&dropped)).unwrap();
        assert!(Arc::get_mut(&mut one).is_some());
        let two = one.clone();
        assert!(Arc::get_mut(&mut one).is_none());
        drop(one);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(two);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn threads_share_it() {
        let shared = Arc::new(AtomicUsize::new(0)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mine = shared.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        mine.clone().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut shared = shared;
        assert_eq!(*Arc::get_mut(&mut shared).unwrap().get_mut(), 200);
    }
}
