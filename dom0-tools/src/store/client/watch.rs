//! Events of changes.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Client, Error, Result};
use crate::store::wire::Kind;

/// Something at or below a watched path changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What: the watched path itself if something above it was removed.
    pub path: String,
}

/// A watch; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    path: String,
    token: String,
    events: Receiver<Event>,
}

impl Watch {
    pub(super) fn start(client: &Client, path: &str) -> Result<Self> {
        let (token, events) = client.connection.new_token();
        let watch = Self {
            client: client.clone(),
            path: path.to_owned(),
            token,
            events,
        };
        client.ask(Kind::WATCH, 0, path, &[path, &watch.token])?;
        Ok(watch)
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Error::Closed`]: the store is gone.
    pub fn wait(&self) -> Result<Event> {
        self.events.recv().map_err(|_| Error::Closed)
    }

    /// Waits for the next event until `limit` is over; then `None`.
    ///
    /// # Errors
    /// [`Error::Closed`]: the store is gone.
    pub fn wait_for(&self, limit: Duration) -> Result<Option<Event>> {
        match self.events.recv_timeout(limit) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Closed),
        }
    }

    /// Asks `done` now and after every event, until it says something or `limit` is over (then
    /// `None`).
    ///
    /// # Errors
    /// The store's, and those of `done`.
    pub fn until<T, E: From<Error>>(
        &self,
        limit: Duration,
        mut done: impl FnMut() -> std::result::Result<Option<T>, E>,
    ) -> std::result::Result<Option<T>, E> {
        let end = Instant::now() + limit;
        loop {
            if let Some(value) = done()? {
                return Ok(Some(value));
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.wait_for(left)?.is_none() {
                return Ok(None);
            }
            // Events that came meanwhile say nothing that `done` will not see.
            while self.events.try_recv().is_ok() {}
        }
    }
}

impl Iterator for &Watch {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.wait().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A store that is gone, or never took the watch, has none to end.
        let _ = self
            .client
            .ask(Kind::UNWATCH, 0, &self.path, &[&self.path, &self.token]);
        self.client.connection.forget_token(&self.token);
    }
}
