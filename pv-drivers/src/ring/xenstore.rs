//! Xenstore's ring page.
//!
//! Source: Xen `include/public/io/xs_wire.h`, `docs/misc/xenstore-ring.txt`.

use core::mem::offset_of;

use xen_abi::io::{
    XENSTORE_CONNECTED, XENSTORE_RECONNECT, XENSTORE_RING_SIZE, XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION, XenstoreDomainInterface,
};

use super::lane::Lane;
use super::{Consumer, Corrupt, Page, Producer};

/// From client to server.
const REQUESTS: Lane = Lane {
    data: offset_of!(XenstoreDomainInterface, req),
    size: XENSTORE_RING_SIZE as u32,
    cons: offset_of!(XenstoreDomainInterface, req_cons),
    prod: offset_of!(XenstoreDomainInterface, req_prod),
};

/// From server to client.
const REPLIES: Lane = Lane {
    data: offset_of!(XenstoreDomainInterface, rsp),
    size: XENSTORE_RING_SIZE as u32,
    cons: offset_of!(XenstoreDomainInterface, rsp_cons),
    prod: offset_of!(XenstoreDomainInterface, rsp_prod),
};

const FEATURES: usize = offset_of!(XenstoreDomainInterface, server_features);
const CONNECTION: usize = offset_of!(XenstoreDomainInterface, connection);
const ERROR: usize = offset_of!(XenstoreDomainInterface, error);

/// Why the server serves a ring no more: `XENSTORE_ERROR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// Communication problem.
    Communication = 1,
    /// Impossible index.
    Index = 2,
    /// Message longer than permitted.
    Protocol = 3,
}

/// The side that serves.
#[derive(Debug)]
pub struct XenstoreServer<P> {
    page: P,
    requests: Consumer,
    replies: Producer,
}

impl<P: Page> XenstoreServer<P> {
    /// Takes the ring over as it stands.
    pub fn attach(page: P) -> Self {
        let requests = Consumer::attach(REQUESTS, &page);
        let replies = Producer::attach(REPLIES, &page);
        Self {
            page,
            requests,
            replies,
        }
    }

    /// Takes the ring over where the server before left it: requests below `consumed` are its
    /// answered ones, whatever the page says.
    pub fn attach_at(page: P, consumed: u32) -> Self {
        let requests = Consumer::attach_at(REQUESTS, consumed, &page);
        let replies = Producer::attach(REPLIES, &page);
        Self {
            page,
            requests,
            replies,
        }
    }

    /// How far requests were taken, and replies given: the ring's own two indices.
    #[must_use]
    pub const fn indices(&self) -> (u32, u32) {
        (self.requests.index(), self.replies.index())
    }

    /// Tells the client what this server can do, and that nothing is wrong.
    pub fn announce(&self) {
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        self.page.store(FEATURES, features);
        self.page.store(ERROR, 0);
        self.page.store(CONNECTION, XENSTORE_CONNECTED);
    }

    /// Takes requests, as many bytes as fit; returns how many. If any, notify the client.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the ring's indices impossible; nothing was taken.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.requests.take(&self.page, into)
    }

    /// Copies requests that stay in the ring, as many bytes as fit; returns how many.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the ring's indices impossible.
    pub fn peek(&self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.requests.peek(&self.page, into)
    }

    /// Takes so many bytes that were peeked at out of the ring. Notify the client.
    pub fn advance(&mut self, count: usize) {
        self.requests.advance(&self.page, count);
    }

    /// Bytes of requests that wait.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the ring's indices impossible.
    pub fn waiting(&self) -> Result<usize, Corrupt> {
        self.requests.waiting(&self.page)
    }

    /// Gives replies, as many bytes as fit; returns how many. If any, notify the client.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the ring's indices impossible; nothing was given.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.replies.put(&self.page, from)
    }

    /// Whether the client asks to begin anew: its state is to be forgotten, then
    /// [`reset`](Self::reset) answers.
    pub fn wants_reset(&self) -> bool {
        self.page.load(CONNECTION) == XENSTORE_RECONNECT
    }

    /// Empties both lanes and says that the client is connected. Notify it.
    pub fn reset(&mut self) {
        self.requests.reset(&self.page);
        self.replies.reset(&self.page);
        self.announce();
    }

    /// Tells the client why it is served no more. Notify it.
    pub fn refuse(&self, fault: RingFault) {
        self.page.store(ERROR, fault as u32);
    }
}

/// The side that asks.
#[derive(Debug)]
pub struct XenstoreClient<P> {
    page: P,
    requests: Producer,
    replies: Consumer,
}

impl<P: Page> XenstoreClient<P> {
    /// Takes the ring over as it stands.
    pub fn attach(page: P) -> Self {
        let requests = Producer::attach(REQUESTS, &page);
        let replies = Consumer::attach(REPLIES, &page);
        Self {
            page,
            requests,
            replies,
        }
    }

    /// Sends requests, as many bytes as fit; returns how many. If any, notify the server.
    ///
    /// # Errors
    /// [`Corrupt`]: the server made the ring's indices impossible.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.requests.put(&self.page, from)
    }

    /// Takes replies; returns how many bytes. If any, notify the server.
    ///
    /// # Errors
    /// [`Corrupt`]: the server made the ring's indices impossible.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.replies.take(&self.page, into)
    }

    /// `XENSTORE_ERROR_*` that the server set; 0 if none.
    pub fn fault(&self) -> u32 {
        self.page.load(ERROR)
    }

    /// Asks the server to forget this client and to begin anew, if it can. Notify it, and wait
    /// until [`is_connected`](Self::is_connected).
    pub fn ask_reset(&mut self) -> bool {
        let able = self.page.load(FEATURES) & XENSTORE_SERVER_FEATURE_RECONNECTION != 0;
        if able {
            self.page.store(CONNECTION, XENSTORE_RECONNECT);
        }
        able
    }

    /// Whether no reset is under way; after one, [`attach`](Self::attach) anew.
    pub fn is_connected(&self) -> bool {
        self.page.load(CONNECTION) == XENSTORE_CONNECTED
    }
}
