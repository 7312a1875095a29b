//! The end that asks.

use core::fmt;
use core::marker::PhantomData;

use xen_abi::io::SringHeader;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::{Corrupt, Page};
use super::{Full, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, slot, slots, wakes};

/// The frontend's end of a ring.
pub struct FrontRing<Req, Rsp, P> {
    page: P,
    /// Requests written.
    pub(super) put: u32,
    /// Requests that the backend may see.
    pub(super) pushed: u32,
    /// Responses taken.
    pub(super) taken: u32,
    /// The backend has made the ring impossible: nothing is believed any more.
    broken: bool,
    kinds: PhantomData<fn(Req) -> Rsp>,
}

impl<Req, Rsp, P> fmt::Debug for FrontRing<Req, Rsp, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            put, pushed, taken, ..
        } = self;
        write!(f, "FrontRing(put {put}, pushed {pushed}, taken {taken})")
    }
}

impl<Req, Rsp, P> FrontRing<Req, Rsp, P>
where
    Req: IntoBytes + Immutable,
    Rsp: FromBytes + IntoBytes,
    P: Page,
{
    /// How many slots there are; a power of two.
    pub const SLOTS: u32 = slots::<Req, Rsp>();

    /// An empty ring in a page that the backend does not use yet.
    pub fn new(page: P) -> Self {
        page.write(0, &[0; size_of::<SringHeader>()]);
        page.store(REQ_EVENT, 1);
        page.store(RSP_EVENT, 1);
        Self {
            page,
            put: 0,
            pushed: 0,
            taken: 0,
            broken: false,
            kinds: PhantomData,
        }
    }

    /// The page it lies in.
    pub const fn page(&self) -> &P {
        &self.page
    }

    /// How many requests more fit.
    #[must_use]
    pub const fn room(&self) -> u32 {
        Self::SLOTS - self.put.wrapping_sub(self.taken)
    }

    /// How many requests have no response yet, pushed or not.
    #[must_use]
    pub const fn outstanding(&self) -> u32 {
        self.put.wrapping_sub(self.taken)
    }

    /// The index that the next request will have.
    #[must_use]
    pub const fn next_request(&self) -> u32 {
        self.put
    }

    /// The index of the response that [`take`](Self::take) gives next.
    #[must_use]
    pub const fn next_response(&self) -> u32 {
        self.taken
    }

    /// Writes a request, which the backend does not see before [`push`](Self::push).
    ///
    /// # Errors
    /// [`Full`].
    pub fn put(&mut self, request: &Req) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        self.page
            .write(slot::<Req, Rsp>(self.put), request.as_bytes());
        self.put = self.put.wrapping_add(1);
        Ok(())
    }

    /// Lets the backend see what was put. Returns whether it must be notified.
    #[must_use = "the backend may sleep until it is notified"]
    pub fn push(&mut self) -> bool {
        let old = self.pushed;
        if old == self.put {
            return false;
        }
        self.pushed = self.put;
        // Release: the requests are there before the index that covers them.
        self.page.store(REQ_PROD, self.pushed);
        self.page.fence();
        wakes(old, self.pushed, self.page.load(REQ_EVENT))
    }

    /// How many responses wait.
    ///
    /// # Errors
    /// [`Corrupt`]: more than there were requests. From then on always.
    pub fn waiting(&mut self) -> Result<u32, Corrupt> {
        if self.broken {
            return Err(Corrupt);
        }
        let waiting = self.page.load(RSP_PROD).wrapping_sub(self.taken);
        if waiting > self.pushed.wrapping_sub(self.taken) {
            self.broken = true;
            return Err(Corrupt);
        }
        Ok(waiting)
    }

    /// Takes the next response, if one waits: a copy, which the backend cannot change.
    ///
    /// # Errors
    /// [`Corrupt`]: as [`waiting`](Self::waiting).
    pub fn take(&mut self) -> Result<Option<Rsp>, Corrupt> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let mut response = Rsp::new_zeroed();
        self.page
            .read(slot::<Req, Rsp>(self.taken), response.as_mut_bytes());
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(response))
    }

    /// To be called when [`take`](Self::take) gave none and before sleeping: asks to be notified of
    /// the next response. Returns whether one waits after all, and then do not sleep.
    ///
    /// # Errors
    /// [`Corrupt`]: as [`waiting`](Self::waiting).
    #[must_use = "who sleeps on true sleeps too long"]
    pub fn arm(&mut self) -> Result<bool, Corrupt> {
        if self.waiting()? != 0 {
            return Ok(true);
        }
        self.page.store(RSP_EVENT, self.taken.wrapping_add(1));
        self.page.fence();
        Ok(self.waiting()? != 0)
    }
}
