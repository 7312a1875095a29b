//! The page in which a domain sees which of its physical interrupts it has to end.

use crate::addr::{Mfn, PAGE_SIZE};
use crate::mm::shared_page::SharedPage;
use crate::sync::Once;
use core::sync::atomic::Ordering::Relaxed;

/// A domain's map, once it gave a page for it.
#[derive(Debug, Default)]
pub struct PirqEoiMap(Once<(Mfn, SharedPage)>);

impl PirqEoiMap {
    /// No page yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Once::new())
    }

    /// Takes frame `mfn`, seen by `page`, on which the caller got a writable
    /// reference for the life of the domain. `false` if there is one already.
    #[must_use]
    pub fn set(&self, mfn: Mfn, page: SharedPage) -> bool {
        let mut ours = false;
        self.0.call_once(|| {
            ours = true;
            (mfn, page)
        });
        ours
    }

    /// The frame, to be given back when the domain ends.
    #[must_use]
    pub fn frame(&self) -> Option<Mfn> {
        self.0.get().map(|(mfn, _)| *mfn)
    }

    /// Writes whether `pirq` has to be ended.
    pub fn mark(&self, pirq: u32, needed: bool) {
        let Some((_, page)) = self.0.get() else {
            return;
        };
        if u64::from(pirq) >= PAGE_SIZE * 8 {
            return;
        }
        let word = page.u64_at(pirq as usize / 64 * 8);
        let bit = 1 << (pirq % 64);
        if needed {
            word.fetch_or(bit, Relaxed);
        } else {
            word.fetch_and(!bit, Relaxed);
        }
    }
}
