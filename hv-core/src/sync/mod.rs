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

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        held::acquire(self.level, true);
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
            held[level as usize] += 1;
        });
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
    pub(super) fn release(_: Level) {}
}
