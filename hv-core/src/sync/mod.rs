//! Locks with a level. The only room that names `spin`.
//!
//! The hypervisor runs with interrupts off from guest entry to guest exit, except
//! at explicit preemption points where no lock is held. So a lock needs no
//! interrupt state. A CPU that spins keeps answering TLB shoot-down requests
//! (see [`Relax`]); otherwise the holder of the lock could wait for it for ever.

pub mod order;

use core::ops::{Deref, DerefMut};
pub use order::Level;
pub use spin::Once;

/// What a waiting CPU does between two looks at a lock.
#[derive(Debug)]
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline]
    fn relax() {
        crate::arch::machine::relax();
    }
}

/// A spin lock that knows its place in the lock order.
#[derive(Debug)]
pub struct Lock<T: ?Sized> {
    level: Level,
    inner: spin::mutex::SpinMutex<T, Relax>,
}

/// Holds a [`Lock`]; dropping releases it.
#[must_use = "if unused the lock is released at once"]
#[derive(Debug)]
pub struct Guard<'a, T: ?Sized> {
    level: Level,
    inner: spin::mutex::SpinMutexGuard<'a, T, Relax>,
}

impl<T> Lock<T> {
    /// A lock of `level` around `value`.
    pub const fn new(level: Level, value: T) -> Self {
        Self {
            level,
            inner: spin::mutex::SpinMutex::new(value),
        }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Takes the lock, waiting for it.
    ///
    /// # Panics
    /// In debug builds, if a lock of this or a higher level is held by this CPU.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        held::acquire(self.level, false);
        Guard {
            level: self.level,
            inner: self.inner.lock(),
        }
    }

    /// Takes a second lock of a level already held (lower domain id first).
    #[inline]
    pub fn lock_same_level(&self) -> Guard<'_, T> {
        held::acquire(self.level, true);
        Guard {
            level: self.level,
            inner: self.inner.lock(),
        }
    }

    /// Takes the lock if it is free. Who does not wait needs no order: whatever it holds already, nobody
    /// waits for it in a circle.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        held::note(self.level);
        Some(Guard {
            level: self.level,
            inner,
        })
    }

    /// The value, for whoever has the lock to itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::release(self.level);
    }
}

/// Which levels this CPU holds (debug builds only).
mod held {
    use super::Level;

    #[cfg(debug_assertions)]
    pub(super) fn acquire(level: Level, same_ok: bool) {
        crate::arch::machine::with_held_locks(|held| {
            let above = if same_ok {
                level as u8 + 1
            } else {
                level as u8
            };
            assert!(
                held.iter().skip(above as usize).all(|n| *n == 0),
                "lock order: {level:?} wanted while holding {held:?}"
            );
        });
        note(level);
    }

    /// Counts a lock that was had without waiting.
    #[cfg(debug_assertions)]
    pub(super) fn note(level: Level) {
        crate::arch::machine::with_held_locks(|held| held[level as usize] += 1);
    }

    #[cfg(debug_assertions)]
    pub(super) fn release(level: Level) {
        crate::arch::machine::with_held_locks(|held| held[level as usize] -= 1);
    }

    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub(super) fn acquire(_: Level, _: bool) {}

    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub(super) fn note(_: Level) {}

    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub(super) fn release(_: Level) {}
}

#[cfg(test)]
mod tests {
    use super::{Level, Lock};

    #[test]
    fn who_does_not_wait_may_ask_in_any_order() {
        let (outer, inner) = (Lock::new(Level::VcpuState, 1), Lock::new(Level::Console, 2));
        let held = inner.lock();
        let tried = outer.try_lock().expect("it is free");
        assert!(outer.try_lock().is_none());
        assert_eq!(*held + *tried, 3);
        drop((held, tried));
        // What was tried is held, and let go.
        let _both = (outer.lock(), inner.lock());
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "lock order")]
    fn who_waits_may_not() {
        let (outer, inner) = (Lock::new(Level::VcpuState, 1), Lock::new(Level::Console, 2));
        let _held = inner.lock();
        let _ = outer.lock();
    }
}
