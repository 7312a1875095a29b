//! The end that answers.

use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::{Corrupt, Page};
use super::{Full, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, slot, slots, wakes};

/// The backend's end of a ring.
pub struct BackRing<Req, Rsp, P> {
    page: P,
    /// Requests taken.
    pub(super) taken: u32,
    /// Responses written.
    pub(super) put: u32,
    /// Responses that the frontend may see.
    pub(super) pushed: u32,
    /// The frontend has made the ring impossible: nothing is believed any more.
    broken: bool,
    kinds: PhantomData<fn(Rsp) -> Req>,
}

impl<Req, Rsp, P> fmt::Debug for BackRing<Req, Rsp, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            put, pushed, taken, ..
        } = self;
        write!(f, "BackRing(taken {taken}, put {put}, pushed {pushed})")
    }
}

impl<Req, Rsp, P> BackRing<Req, Rsp, P>
where
    Req: FromBytes + IntoBytes,
    Rsp: IntoBytes + Immutable,
    P: Page,
{
    /// How many slots there are; a power of two.
    pub const SLOTS: u32 = slots::<Req, Rsp>();

    /// Goes on in a ring that the frontend has made, after what was answered already.
    pub fn attach(page: P) -> Self {
        let answered = page.load(RSP_PROD);
        Self {
            page,
            taken: answered,
            put: answered,
            pushed: answered,
            broken: false,
            kinds: PhantomData,
        }
    }

    /// How many requests were taken and not answered.
    #[must_use]
    pub const fn outstanding(&self) -> u32 {
        self.taken.wrapping_sub(self.put)
    }

    /// The index of the request that [`take`](Self::take) gives next.
    #[must_use]
    pub const fn next_request(&self) -> u32 {
        self.taken
    }

    /// How many requests wait.
    ///
    /// # Errors
    /// [`Corrupt`]: more than there are slots without a response to take. From then on always.
    pub fn waiting(&mut self) -> Result<u32, Corrupt> {
        if self.broken {
            return Err(Corrupt);
        }
        let waiting = self.page.load(REQ_PROD).wrapping_sub(self.taken);
        if waiting > Self::SLOTS - self.outstanding() {
            self.broken = true;
            return Err(Corrupt);
        }
        Ok(waiting)
    }

    /// Takes the next request, if one waits: a copy, which the frontend cannot change.
    ///
    /// # Errors
    /// [`Corrupt`]: as [`waiting`](Self::waiting).
    pub fn take(&mut self) -> Result<Option<Req>, Corrupt> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let mut request = Req::new_zeroed();
        self.page
            .read(slot::<Req, Rsp>(self.taken), request.as_mut_bytes());
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(request))
    }

    /// Writes a response, which the frontend does not see before [`push`](Self::push).
    ///
    /// # Errors
    /// [`Full`]: every request that was taken has its response.
    pub fn put(&mut self, response: &Rsp) -> Result<(), Full> {
        if self.outstanding() == 0 {
            return Err(Full);
        }
        self.page
            .write(slot::<Req, Rsp>(self.put), response.as_bytes());
        self.put = self.put.wrapping_add(1);
        Ok(())
    }

    /// Lets the frontend see what was put. Returns whether it must be notified.
    #[must_use = "the frontend may sleep until it is notified"]
    pub fn push(&mut self) -> bool {
        let old = self.pushed;
        if old == self.put {
            return false;
        }
        self.pushed = self.put;
        // Release: the responses are there before the index that covers them.
        self.page.store(RSP_PROD, self.pushed);
        self.page.fence();
        wakes(old, self.pushed, self.page.load(RSP_EVENT))
    }

    /// To be called when [`take`](Self::take) gave none and before sleeping: asks to be notified of
    /// the next request. Returns whether one waits after all, and then do not sleep.
    ///
    /// # Errors
    /// [`Corrupt`]: as [`waiting`](Self::waiting).
    #[must_use = "who sleeps on true sleeps too long"]
    pub fn arm(&mut self) -> Result<bool, Corrupt> {
        if self.waiting()? != 0 {
            return Ok(true);
        }
        self.page.store(REQ_EVENT, self.taken.wrapping_add(1));
        self.page.fence();
        Ok(self.waiting()? != 0)
    }

    /// As [`arm`](Self::arm), when so many requests are needed at once: asks to be notified when as
    /// many wait. Look at [`waiting`](Self::waiting) once more before sleeping.
    pub fn arm_at(&mut self, count: u32) {
        self.page
            .store(REQ_EVENT, self.taken.wrapping_add(count.max(1)));
        self.page.fence();
    }
}
