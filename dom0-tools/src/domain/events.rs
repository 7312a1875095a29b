//! What happens to domains, remembered and told.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::protocol::{DomainEvent, DomainEventKind};
use crate::sys::DomId;

/// Events that are remembered.
const MOST_PAST: usize = 1024;

/// Events that may wait for one listener; who is slower is left out.
const MOST_WAITING: usize = 256;

/// All events of this program's life.
#[derive(Debug, Default)]
pub struct Events {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    past: VecDeque<DomainEvent>,
    listeners: Vec<SyncSender<DomainEvent>>,
    told: u64,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A list of events is never half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn tell(&self, domain: DomId, name: &str, what: DomainEventKind) {
        tracing::info!(domain = domain.0, name, ?what, "domain event");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let event = DomainEvent {
            at_ms: since.map_or(0, |time| time.as_millis() as u64),
            domain: domain.0,
            name: name.to_owned(),
            what,
        };
        let mut inner = self.lock();
        inner.told += 1;
        if inner.past.len() == MOST_PAST {
            inner.past.pop_front();
        }
        inner.past.push_back(event.clone());
        inner.listeners.retain(|listener| {
            !matches!(
                listener.try_send(event.clone()),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        });
    }

    /// Those of the past, oldest first, and a channel on which all further ones come. The
    /// channel ends for a listener that is too slow.
    pub fn listen(&self) -> (Vec<DomainEvent>, Receiver<DomainEvent>) {
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let mut inner = self.lock();
        inner.listeners.push(sender);
        (inner.past.iter().cloned().collect(), receiver)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.lock().told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_who_sleeps_is_left_out() {
        let events = Events::default();
        let (past, slow) = events.listen();
        assert!(past.is_empty());
        for _ in 0..MOST_PAST + 10 {
            events.tell(DomId(1), "a", DomainEventKind::Paused);
        }
        assert_eq!(slow.iter().count(), MOST_WAITING);
        let (past, _new) = events.listen();
        assert_eq!(past.len(), MOST_PAST);
        assert_eq!(events.count(), (MOST_PAST + 10) as u64);
    }
}
