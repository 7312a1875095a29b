//! A guest as far as event channels concern it, for the tests below.

mod bindings;
mod queues;

use super::*;
use crate::addr::Mfn;
use crate::arch::FrameMem;
use crate::mm::shared_page::{InfoSlot, InfoWindow, SharedPage};
use core::sync::atomic::AtomicU64;
use proptest::prelude::ProptestConfig;
use std::sync::Arc;

type Page = Arc<[AtomicU64; 512]>;

fn new_page() -> Page {
    Arc::new([const { AtomicU64::new(0) }; 512])
}

struct OnePage<'a>(&'a Page);

impl FrameMem for OnePage<'_> {
    fn words(&self, _: Mfn) -> &[AtomicU64; 512] {
        self.0
    }
    fn bytes(&self, _: Mfn) -> *mut u8 {
        Arc::as_ptr(self.0).cast_mut().cast()
    }
}

fn view(page: &Page) -> SharedPage {
    SharedPage::new(&OnePage(page), Mfn::new(1))
}

/// A guest: its shared_info with the vcpu_infos in it, and the pages of its FIFO.
struct Guest {
    info: Page,
    control: Page,
    array: Vec<Page>,
    slots: Vec<InfoSlot>,
    /// The host's line of each physical interrupt: whether it is connected.
    lines: [AtomicBool; 16],
    table: PortTable,
}

const SEND_FAILED: &str = "send";

impl Guest {
    fn new(id: u16, vcpus: usize) -> Self {
        let info = new_page();
        let slots = (0..vcpus)
            .map(|n| {
                let slot = InfoSlot::default();
                assert!(slot.set(view(&info), n * 64));
                slot
            })
            .collect();
        Self {
            info,
            control: new_page(),
            array: Vec::new(),
            slots,
            lines: [const { AtomicBool::new(false) }; 16],
            table: PortTable::new(DomId(id), vcpus, 16, u32::MAX).unwrap(),
        }
    }

    fn fifo(id: u16, vcpus: usize) -> Self {
        let mut g = Self::new(id, vcpus);
        for v in 0..vcpus as u32 {
            let frame = g.frame(&g.control);
            g.table.init_control(v, v * 128, frame, &g).unwrap();
        }
        g.expand(|_| ());
        g
    }

    fn frame(&self, page: &Page) -> FifoFrame {
        FifoFrame {
            page: view(page),
            mfn: Mfn::new(1),
        }
    }

    fn expand(&mut self, each: impl FnMut(Delivery)) {
        self.array.push(new_page());
        let frame = self.frame(self.array.last().unwrap());
        self.table.expand_array(frame, &*self, each).unwrap();
    }

    fn word(&self, port: u32) -> AtomicWord {
        AtomicWord(view(&self.array[0]), port as usize * 4)
    }

    fn upcall(&self, vcpu: usize) -> bool {
        self.slots[vcpu]
            .get()
            .unwrap()
            .upcall_pending()
            .swap(0, Ordering::SeqCst)
            != 0
    }

    /// What a guest does in its upcall: the ports it finds, most urgent first. Like
    /// Linux it takes an event off its queue even when it is masked by now.
    fn consume(&self, vcpu: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let control = view(&self.control);
        let base = vcpu * 128;
        let mut heads = [0; 16];
        let mut steps = 0;
        let mut ready = 0;
        while self.upcall(vcpu) {
            loop {
                ready |= control.u32_at(base).swap(0, Ordering::SeqCst);
                if ready == 0 {
                    break;
                }
                steps += 1;
                assert!(steps < 10_000, "queue does not end");
                let priority = ready.trailing_zeros() as usize;
                let mut port = heads[priority];
                if port == 0 {
                    port = control
                        .u32_at(base + 8 + 4 * priority)
                        .load(Ordering::SeqCst);
                }
                let word = self.word(port);
                let old = word
                    .get()
                    .fetch_and(!(fifo::LINKED | 0x1ffff), Ordering::SeqCst);
                heads[priority] = old & 0x1ffff;
                if heads[priority] == 0 {
                    ready &= !(1 << priority);
                }
                if old & fifo::PENDING != 0 && old & fifo::MASKED == 0 {
                    word.get().fetch_and(!fifo::PENDING, Ordering::SeqCst);
                    found.push(port);
                }
            }
        }
        found
    }

    /// Whether somebody changes the bindings, so that nobody else can.
    fn is_locked(&self) -> bool {
        self.table.admin.try_lock().is_none()
    }

    /// Binds a physical interrupt, whose line is free.
    fn bind_pirq(&self, pirq: u32) -> Result<Port, EventError> {
        self.table.bind_pirq(pirq, self, || {
            assert!(self.is_locked(), "the port can be closed first");
            let was = self.lines[pirq as usize].swap(true, Ordering::SeqCst);
            assert!(!was, "line {pirq} was connected, and its port free");
            Ok(())
        })
    }

    fn send(&self, port: u32) -> Delivery {
        match self.table.send(port, self).expect(SEND_FAILED) {
            Sent::Local(d) => d,
            Sent::Remote { .. } | Sent::Dropped => Delivery::NONE,
        }
    }

    fn mask(&self, port: u32) -> &AtomicU64 {
        &self.info[(2560 + port as usize / 64 * 8) / 8]
    }

    fn pending(&self, port: u32) -> bool {
        self.table.is_pending(port, self).unwrap()
    }
}

struct AtomicWord(SharedPage, usize);

impl AtomicWord {
    fn get(&self) -> &AtomicU32 {
        self.0.u32_at(self.1)
    }
}

impl Receiver for Guest {
    fn shared_info(&self) -> SharedPage {
        view(&self.info)
    }
    fn vcpu_info(&self, vcpu: VcpuId) -> Option<InfoWindow> {
        self.slots.get(usize::from(vcpu.0))?.get()
    }
    fn silence(&self, pirq: u32) {
        assert!(self.is_locked(), "the port can be bound again first");
        self.lines[pirq as usize].store(false, Ordering::SeqCst);
    }
}

impl HasPorts for Guest {
    fn ports(&self) -> &PortTable {
        &self.table
    }
}

fn alone(_: DomId) -> Option<&'static PortTable> {
    None
}

fn cases(n: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { n };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Length of a list of actions: short under Miri.
fn steps(n: usize) -> usize {
    if cfg!(miri) { 12 } else { n }
}
