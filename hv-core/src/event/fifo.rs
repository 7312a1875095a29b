//! The FIFO interface: a 32-bit word a port, and per vCPU sixteen queues, one a
//! priority, threaded through the words.
//!
//! The guest can write every word and every queue head at any time. The
//! hypervisor therefore follows no link: it only ever writes one, into the word
//! of the port it queued last, which it remembers itself. A guest that scribbles
//! over its words loses its own events, nothing else.
//!
//! Source: Xen `include/public/event_channel.h` (FIFO ABI) and the published
//! design "FIFO-based event channel ABI".

use super::port::{Channel, Slot};
use super::{Delivery, EventError, PortTable, Receiver, boxed, two_level};
use crate::addr::{Mfn, VcpuId};
use crate::arch::index;
use crate::fallible::Grow;
use crate::mm::shared_page::SharedPage;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use xen_abi::event_channel as abi;

/// Ports of this interface.
pub(super) const PORTS: u32 = abi::EVTCHN_FIFO_NR_CHANNELS;
/// Bits of a link, as `EVTCHNOP_init_control` reports them.
pub const LINK_BITS: u8 = abi::EVTCHN_FIFO_LINK_BITS as u8;

pub(super) const PENDING: u32 = 1 << abi::EVTCHN_FIFO_PENDING;
pub(super) const MASKED: u32 = 1 << abi::EVTCHN_FIFO_MASKED;
pub(super) const LINKED: u32 = 1 << abi::EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << abi::EVTCHN_FIFO_BUSY;
const LINK_MASK: u32 = (1 << abi::EVTCHN_FIFO_LINK_BITS) - 1;

const PRIORITIES: usize = abi::EVTCHN_FIFO_MAX_QUEUES;
/// Priority of a port nobody gave one.
pub(super) const DEFAULT_PRIORITY: u8 = abi::EVTCHN_FIFO_PRIORITY_DEFAULT as u8;
/// Event words in a page of the array.
const WORDS_PER_PAGE: u32 = 1024;
const ARRAY_PAGES: usize = (PORTS / WORDS_PER_PAGE) as usize;

/// Largest offset of a control block within its page, bytes.
const MAX_CONTROL_OFFSET: u32 = 4096 - size_of::<abi::EvtchnFifoControlBlock>() as u32;

/// Bit of [`Slot::queued`]: raised before its event word existed.
pub(super) const EARLY: u32 = 1 << 31;

/// Times a link is tried before the guest is taken to be fighting it. A guest that
/// plays by the rules changes a word at most a few times while it is `BUSY`.
const LINK_TRIES: u32 = 8;

/// A guest's frame in use by this interface. Whoever passed it in holds a writable
/// reference on it, and drops that when the frame comes back.
#[derive(Debug)]
pub struct FifoFrame {
    /// Its contents.
    pub page: SharedPage,
    /// Its number.
    pub mfn: Mfn,
}

/// A vCPU's control block.
#[derive(Debug)]
pub struct Control {
    frame: FifoFrame,
    offset: usize,
}

impl Control {
    fn ready(&self) -> &AtomicU32 {
        self.frame.page.u32_at(self.offset)
    }

    fn head(&self, priority: usize) -> &AtomicU32 {
        let heads = core::mem::offset_of!(abi::EvtchnFifoControlBlock, head);
        self.frame.page.u32_at(self.offset + heads + 4 * priority)
    }
}

#[derive(Debug)]
struct Queues {
    control: Option<Control>,
    /// The port queued last, by priority (0: none that is still queued).
    tail: [u32; PRIORITIES],
}

/// A domain's event words and queues.
#[derive(Debug)]
pub struct Fifo {
    array: Vec<FifoFrame>,
    vcpus: Box<[Queues]>,
}

/// What raising a port led to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// It was not pending before.
    pub(super) raised: bool,
    /// Its queue was not marked ready before.
    pub(super) ready: bool,
}

impl Fifo {
    fn new(vcpus: usize) -> Result<Self, EventError> {
        // All the array can need, now: no memory may be asked for under the queue lock.
        let mut array = Vec::new();
        array
            .try_reserve_exact(ARRAY_PAGES)
            .map_err(|_| EventError::NoMemory)?;
        Ok(Self {
            array,
            vcpus: boxed(vcpus, |_| Queues {
                control: None,
                tail: [0; PRIORITIES],
            })?,
        })
    }

    /// Its frames.
    fn frames(&self) -> impl Iterator<Item = &FifoFrame> {
        let controls = self.vcpus.iter().filter_map(|q| q.control.as_ref());
        self.array.iter().chain(controls.map(|c| &c.frame))
    }

    /// The frames it used, for their references to be dropped.
    pub fn into_frames(self) -> impl Iterator<Item = FifoFrame> {
        let controls = self.vcpus.into_iter().filter_map(|q| q.control);
        self.array.into_iter().chain(controls.map(|c| c.frame))
    }

    /// The event word of `port`, if the array has grown that far.
    #[inline]
    pub(super) fn word(&self, port: u32) -> Option<&AtomicU32> {
        word(&self.array, port)
    }

    /// Sets `port` pending, and queues it unless it is masked or queued already.
    pub(super) fn set_pending(&mut self, port: u32, channel: Channel, slot: &Slot) -> Outcome {
        let Some(word) = word(&self.array, port) else {
            slot.queued.fetch_or(EARLY, Ordering::Relaxed);
            return Outcome::default();
        };
        let old = word.fetch_or(PENDING, Ordering::SeqCst);
        Outcome {
            raised: old & PENDING == 0,
            ready: old & (MASKED | LINKED) == 0 && self.enqueue(port, channel, slot),
        }
    }

    /// Clears `port`'s mask bit, and queues it if it is pending.
    pub(super) fn unmask(&mut self, port: u32, channel: Channel, slot: &Slot) -> Outcome {
        let Some(word) = word(&self.array, port) else {
            return Outcome::default();
        };
        let old = word.fetch_and(!MASKED, Ordering::SeqCst);
        Outcome {
            raised: false,
            ready: old & PENDING != 0 && old & LINKED == 0 && self.enqueue(port, channel, slot),
        }
    }

    /// Puts `port` at the end of its queue. Whether the vCPU has to be told.
    fn enqueue(&mut self, port: u32, channel: Channel, slot: &Slot) -> bool {
        let vcpu = usize::from(channel.vcpu.0);
        let priority = usize::from(channel.priority) % PRIORITIES;
        // Without a control block the guest must not have unmasked anything.
        if self.vcpus.get(vcpu).is_none_or(|q| q.control.is_none()) {
            return false;
        }
        let Some(event) = word(&self.array, port) else {
            return false;
        };
        if event.fetch_or(LINKED, Ordering::SeqCst) & LINKED != 0 {
            return false;
        }
        // The port is in no queue. Where it was the last to be queued, that queue is
        // empty: nothing may be linked to the port there once it is somewhere else.
        let (last_vcpu, last_priority) = unpack(slot.queued.load(Ordering::Relaxed));
        if let Some(last) = self.vcpus.get_mut(last_vcpu)
            && last.tail[last_priority] == port
        {
            last.tail[last_priority] = 0;
        }
        slot.queued.store(pack(vcpu, priority), Ordering::Relaxed);

        let queues = &mut self.vcpus[vcpu];
        let Some(control) = &queues.control else {
            return false;
        };
        let tail = core::mem::replace(&mut queues.tail[priority], port);
        let linked = tail != 0 && word(&self.array, tail).is_some_and(|w| link(w, port));
        if linked {
            return false;
        }
        control.head(priority).store(port, Ordering::SeqCst);
        let bit = 1 << priority;
        control.ready().fetch_or(bit, Ordering::SeqCst) & bit == 0
    }
}

#[inline]
fn word(array: &[FifoFrame], port: u32) -> Option<&AtomicU32> {
    let frame = index::get(array, (port / WORDS_PER_PAGE) as usize)?;
    Some(frame.page.u32_at((port % WORDS_PER_PAGE) as usize * 4))
}

fn pack(vcpu: usize, priority: usize) -> u32 {
    (vcpu as u32) << 4 | priority as u32
}

fn unpack(queued: u32) -> (usize, usize) {
    ((queued >> 4 & 0xffff) as usize, (queued & 15) as usize)
}

/// Links `port` behind the port whose word is `tail`. `false` if that one has left
/// the queue, which then is empty.
fn link(tail: &AtomicU32, port: u32) -> bool {
    let mut seen = tail.load(Ordering::SeqCst);
    for attempt in 0..LINK_TRIES {
        if seen & LINKED == 0 {
            if attempt > 0 {
                tail.fetch_and(!BUSY, Ordering::SeqCst);
            }
            return false;
        }
        let new = seen & !(BUSY | LINK_MASK) | port;
        match tail.compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return true,
            // The guest changed the word. While it is busy, the guest waits.
            Err(_) => seen = tail.fetch_or(BUSY, Ordering::SeqCst) | BUSY,
        }
    }
    tail.fetch_and(!BUSY, Ordering::SeqCst);
    true
}

impl PortTable {
    /// Checks where a control block shall be, before its frame is looked up.
    ///
    /// # Errors
    /// [`EventError::BadVcpu`], [`EventError::BadControl`].
    pub fn check_control(&self, vcpu: u32, offset: u32) -> Result<VcpuId, EventError> {
        let vcpu = self.check_vcpu(vcpu)?;
        if offset > MAX_CONTROL_OFFSET || !offset.is_multiple_of(8) {
            return Err(EventError::BadControl);
        }
        Ok(vcpu)
    }

    /// Gives `vcpu` its control block; the first one switches the domain to this
    /// interface (`EVTCHNOP_init_control`). Events pending then are raised again when
    /// the array reaches them.
    ///
    /// # Errors
    /// As [`PortTable::check_control`], [`EventError::NoMemory`], or
    /// [`EventError::BadControl`] if it has one. The frame comes back.
    pub fn init_control(
        &self,
        vcpu: u32,
        offset: u32,
        frame: FifoFrame,
        me: &impl Receiver,
    ) -> Result<(), (EventError, FifoFrame)> {
        let vcpu = match self.check_control(vcpu, offset) {
            Ok(vcpu) => vcpu,
            Err(e) => return Err((e, frame)),
        };
        let _admin = self.admin.lock();
        let first = !self.is_fifo();
        let new = if first {
            match Fifo::new(self.virqs.len()) {
                Ok(new) => Some(new),
                Err(e) => return Err((e, frame)),
            }
        } else {
            None
        };
        let mut fifo = self.fifo.lock();
        if new.is_some() {
            *fifo = new;
        }
        let queues = fifo
            .as_mut()
            .and_then(|f| f.vcpus.get_mut(usize::from(vcpu.0)));
        match queues {
            Some(queues) if queues.control.is_none() => {
                queues.control = Some(Control {
                    frame,
                    offset: offset as usize,
                });
            }
            _ => return Err((EventError::BadControl, frame)),
        }
        if first {
            let page = me.shared_info();
            for port in 1..two_level::PORTS {
                let Some(slot) = self.ports.slot(port) else {
                    break;
                };
                let early = two_level::is_pending(port, &page);
                slot.queued
                    .store(if early { EARLY } else { 0 }, Ordering::Relaxed);
            }
            self.fifo_on.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Adds a page to the event array (`EVTCHNOP_expand_array`). `each` is told of
    /// events that were raised before their word existed.
    ///
    /// # Errors
    /// [`EventError::NotFifo`], [`EventError::ArrayFull`]. The frame comes back.
    pub fn expand_array(
        &self,
        frame: FifoFrame,
        me: &impl Receiver,
        mut each: impl FnMut(Delivery),
    ) -> Result<(), (EventError, FifoFrame)> {
        let first = {
            let mut fifo = self.fifo.lock();
            let Some(fifo) = fifo.as_mut() else {
                return Err((EventError::NotFifo, frame));
            };
            if fifo.array.len() >= fifo.array.capacity().min(ARRAY_PAGES) {
                return Err((EventError::ArrayFull, frame));
            }
            fifo.array.push_reserved(frame);
            (fifo.array.len() as u32 - 1) * WORDS_PER_PAGE
        };
        for port in first..first + WORDS_PER_PAGE {
            let Some(slot) = self.ports.slot(port) else {
                break;
            };
            if slot.queued.fetch_and(!EARLY, Ordering::Relaxed) & EARLY != 0 {
                each(self.raise(port, slot, slot.channel(), me));
            }
        }
        Ok(())
    }

    /// Sets the priority of `port`, from its next event on (`EVTCHNOP_set_priority`).
    ///
    /// # Errors
    /// [`EventError::BadPort`], [`EventError::NoPriorities`], [`EventError::BadPriority`].
    pub fn set_priority(&self, port: u32, priority: u32) -> Result<(), EventError> {
        let _admin = self.admin.lock();
        let slot = self.slot(port)?;
        if !self.is_fifo() {
            return Err(EventError::NoPriorities);
        }
        if priority > abi::EVTCHN_FIFO_PRIORITY_MIN {
            return Err(EventError::BadPriority);
        }
        slot.set(Channel {
            priority: priority as u8,
            ..slot.channel()
        });
        Ok(())
    }

    /// Names each frame the FIFO interface uses.
    pub fn for_each_frame(&self, mut each: impl FnMut(Mfn)) {
        if let Some(fifo) = &*self.fifo.lock() {
            for frame in fifo.frames() {
                each(frame.mfn);
            }
        }
    }

    /// Goes back to the 2-level interface, once every port is closed. The caller
    /// drops the references on the frames ([`Fifo::into_frames`]).
    pub fn end_fifo(&self) -> Option<Fifo> {
        let mut admin = self.admin.lock();
        let fifo = self.fifo.lock().take();
        if fifo.is_some() {
            self.fifo_on.store(false, Ordering::Release);
            admin.first_free = 1;
        }
        fifo
    }
}
