//! What waits to be sent.

use std::collections::{HashSet, VecDeque};

use super::super::journal::Record;
use super::super::watch::Target;
use super::super::wire::{Kind, Message, XENSTORE_PAYLOAD_MAX, first, join};
use super::{ConnectionId, Store};

/// Messages in their order.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Waiting>,
    /// Bytes of the first that are sent.
    sent: usize,
    bytes: usize,
    replies: usize,
    /// Bodies of events that wait wholly, so that none waits twice.
    events: HashSet<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    event: Option<Vec<u8>>,
    reply: bool,
}

impl Output {
    /// Bytes that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replies that wait.
    pub const fn replies(&self) -> usize {
        self.replies
    }

    /// The next bytes.
    pub fn front(&self) -> Option<&[u8]> {
        self.queue.front()?.bytes.get(self.sent..)
    }

    /// Whether such an event waits.
    pub fn has_event(&self, body: &[u8]) -> bool {
        self.events.contains(body)
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes.len();
        self.replies += usize::from(waiting.reply);
        self.events.extend(waiting.event.clone());
        self.queue.push_back(waiting);
    }

    /// So many of the next bytes are sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        while self.sent > 0
            && let Some(front) = self.queue.front()
        {
            // An event that is half sent is news no more.
            if let Some(body) = &front.event {
                self.events.remove(body);
            }
            if self.sent < front.bytes.len() {
                break;
            }
            self.sent -= front.bytes.len();
            self.replies -= usize::from(front.reply);
            self.queue.pop_front();
        }
    }

    /// All bytes that wait, in one.
    pub fn all(&self) -> Vec<u8> {
        let mut all: Vec<u8> = Vec::with_capacity(self.bytes);
        for waiting in &self.queue {
            all.extend_from_slice(&waiting.bytes);
        }
        all.split_off(self.sent.min(all.len()))
    }

    /// Bytes that waited in the daemon before.
    pub fn restore(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let (event, reply) = (None, false);
            self.push(Waiting {
                bytes,
                event,
                reply,
            });
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Store {
    /// Queues a reply.
    pub(super) fn send(&mut self, id: ConnectionId, message: &Message) {
        let (bytes, event, reply) = (message.to_bytes(), None, true);
        self.queue(
            id,
            Waiting {
                bytes,
                event,
                reply,
            },
        );
    }

    /// Queues an event; `once` if one that waits is enough. One that is too long, or that a guest
    /// has no room for, is lost.
    pub(super) fn send_event(&mut self, id: ConnectionId, body: Vec<u8>, once: bool) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let full = !connection.caller.is_privileged()
            && connection.output.bytes() + body.len() > self.quota.bytes;
        let known = once && connection.output.has_event(&body);
        if full || known || body.len() > XENSTORE_PAYLOAD_MAX {
            return;
        }
        let message = Message {
            kind: Kind::WATCH_EVENT,
            request: 0,
            transaction: 0,
            body: body.clone(),
        };
        let waiting = Waiting {
            bytes: message.to_bytes(),
            event: once.then_some(body),
            reply: false,
        };
        self.queue(id, waiting);
    }

    /// The event that every watch begins with.
    pub(super) fn first_event(&mut self, id: ConnectionId, body: &[u8]) {
        let domain = self.caller(id).domain;
        let Some((text, rest)) = first(body) else {
            return;
        };
        let token = rest.split(|&b| b == 0).next().unwrap_or_default();
        if let Some(target) = Target::said_by(domain, text) {
            self.send_event(id, join([target.as_said().as_bytes(), token]), false);
        }
    }

    fn queue(&mut self, id: ConnectionId, waiting: Waiting) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(domain) = connection.ring {
            let bytes = waiting.bytes.clone();
            self.records.push(Record::Output { domain, bytes });
        }
        connection.output.push(waiting);
    }
}
