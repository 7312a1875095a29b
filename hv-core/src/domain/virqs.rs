//! Who gets the virtual interrupts that the hypervisor raises once for the whole host: dom0, unless
//! tools chose another domain for one of them.

use super::{Domain, registry};
use crate::addr::{DomId, VcpuId};
use crate::event::Virq;
use core::sync::atomic::{AtomicU64, Ordering};

/// A domain's serial number for each; 0: dom0.
type Handlers = [AtomicU64; Virq::COUNT];

static HANDLERS: Handlers = [const { AtomicU64::new(0) }; Virq::COUNT];

/// The domain does not take it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dying;

/// Gives the global interrupt `virq` to `domain`.
///
/// # Errors
/// [`Dying`].
pub fn give(domain: &Domain, virq: Virq) -> Result<(), Dying> {
    let Some(handler) = HANDLERS.get(virq.index()) else {
        return Ok(());
    };
    handler.store(domain.serial, Ordering::SeqCst);
    if domain.life.is_dying() {
        // Who takes it apart may have looked already.
        take(&HANDLERS, domain.serial);
        return Err(Dying);
    }
    Ok(())
}

/// Raises the global interrupt `virq`.
pub fn raise(virq: Virq) {
    let serial = HANDLERS
        .get(virq.index())
        .map_or(0, |handler| handler.load(Ordering::SeqCst));
    let chosen = (serial != 0).then(|| registry::by_serial(serial)).flatten();
    if let Some(domain) = chosen.or_else(|| registry::get(DomId::DOM0)) {
        domain.raise_virq(VcpuId(0), virq);
    }
}

/// Gives back what the domain with that number had.
fn take(handlers: &Handlers, serial: u64) {
    for handler in handlers {
        let _ = handler.compare_exchange(serial, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl Domain {
    /// Gives back the global interrupts of a dying domain.
    pub(super) fn release_virqs(&self) {
        take(&HANDLERS, self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dies_gives_back_its_own_only() {
        let handlers: Handlers = [const { AtomicU64::new(0) }; Virq::COUNT];
        handlers[3].store(7, Ordering::Relaxed);
        handlers[4].store(8, Ordering::Relaxed);
        take(&handlers, 7);
        let now: std::vec::Vec<u64> = handlers.iter().map(|h| h.load(Ordering::Relaxed)).collect();
        assert_eq!((now[3], now[4], now.iter().sum::<u64>()), (0, 8, 8));
    }
}
