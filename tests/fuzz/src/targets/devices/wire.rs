//! A ring page and one event channel, whose other end does what a program says whenever this side
//! looks at the clock or waits.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pv_drivers::event::{Bits, Channel};
use pv_drivers::hypercall::{
    Access, CopySide, DomId, Errno, GrantError, GrantHandle, GrantRef, Hypervisor, Port,
    PortStatus, RawPage, Slot,
};
use pv_drivers::ring::testing::TestPage;

use super::Program;

/// The only port.
const PORT: Port = Port(7);
/// What the clock shows more at every look, nanoseconds.
const TICK: u64 = 3_000_000;

const EINVAL: Errno = Errno(22);

type Peer = Box<dyn FnMut()>;

thread_local! {
    static TIME: Cell<u64> = const { Cell::new(0) };
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
    static WORDS: (&'static [AtomicU64; 64], &'static [AtomicU64; 64]) =
        (Box::leak(Box::new([const { AtomicU64::new(0) }; 64])), Box::leak(Box::new([const { AtomicU64::new(0) }; 64])));
}

/// System time; the peer has its turn.
pub fn now() -> u64 {
    // Taken out meanwhile: what it does may look at the clock.
    let peer = PEER.take();
    if let Some(mut peer) = peer {
        peer();
        PEER.set(Some(peer));
    }
    TIME.set(TIME.get() + TICK);
    TIME.get()
}

/// An event arrives.
pub fn event() {
    WORDS.with(|(pending, _)| pending[0].fetch_or(1 << PORT.0, Ordering::SeqCst));
}

/// A channel to a peer; it ends with what is returned.
pub fn connect(program: &Program, mut peer: impl FnMut() + 'static) -> (Channel<Wire>, Ended) {
    let program = program.clone();
    PEER.set(Some(Box::new(move || {
        program.waits();
        peer();
    })));
    let bits = WORDS.with(|(pending, mask)| Bits::new(pending, mask));
    (Channel::adopt(Wire, bits, PORT), Ended)
}

/// Ends the peer when dropped.
pub struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        PEER.set(None);
    }
}

/// The ring page, and the peer's view of it.
pub fn page() -> (Arc<TestPage>, Arc<TestPage>) {
    let page = Arc::new(TestPage::new());
    (Arc::clone(&page), page)
}

/// A hypervisor that knows of nothing but the channel.
#[derive(Clone, Debug)]
pub struct Wire;

impl Hypervisor for Wire {
    fn alloc_unbound(&self, _: DomId) -> Result<Port, Errno> {
        Err(EINVAL)
    }

    fn bind_interdomain(&self, _: DomId, _: Port) -> Result<Port, Errno> {
        Err(EINVAL)
    }

    fn bind_virq(&self, _: u32, _: u32) -> Result<Port, Errno> {
        Err(EINVAL)
    }

    fn bind_ipi(&self, _: u32) -> Result<Port, Errno> {
        Err(EINVAL)
    }

    fn bind_vcpu(&self, _: Port, _: u32) -> Result<(), Errno> {
        Err(EINVAL)
    }

    fn close(&self, _: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn send(&self, _: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn status(&self, _: Port) -> Result<PortStatus, Errno> {
        Err(EINVAL)
    }

    fn yield_now(&self) {
        now();
    }

    fn poll(&self, _: &[Port], deadline: Option<u64>) -> Result<(), Errno> {
        // Half of the time until then is gone.
        let time = now();
        let left = deadline.unwrap_or(time).saturating_sub(time);
        TIME.set(time + left / 2);
        Ok(())
    }

    fn map_grant(
        &self,
        _: &Slot,
        _: DomId,
        _: GrantRef,
        _: Access,
    ) -> Result<(GrantHandle, RawPage), GrantError> {
        Err(GrantError::Call(EINVAL))
    }

    fn unmap_grant(&self, _: &Slot, _: GrantHandle) -> Result<(), GrantError> {
        Err(GrantError::Call(EINVAL))
    }

    fn copy_grant(&self, _: CopySide, _: CopySide, _: u16) -> Result<(), GrantError> {
        Err(GrantError::Call(EINVAL))
    }
}
