//! A guest of a machine that is none: as much of a kernel as saving looks at.
//!
//! It has ten pages: nothing, start info, two rings, an L4 table that maps itself, the P2M list, a
//! GDT, the two upper levels of the list's tree, and one full of a pattern.

use std::mem::offset_of;

use xen_abi::sched::SHUTDOWN_SUSPEND;
use xen_abi::xen::{ArchSharedInfo, SharedInfo, StartInfo, VIRQ_DOM_EXC};
use zerocopy::{FromZeros, IntoBytes};

use super::super::{DomId, Mfn, PAGE_SIZE};
use super::{Machine, PAGE_BYTES};

/// Pages it has.
pub const PAGES: u64 = 10;

const START_INFO: u64 = 1;
const STORE: u64 = 2;
const CONSOLE: u64 = 3;
const L4: u64 = 4;
const LIST: u64 = 5;
const GDT: u64 = 6;
const TREE_TOP: u64 = 7;
const TREE_MIDDLE: u64 = 8;
const PATTERN: u64 = 9;

impl Machine {
    /// Puts the guest into a domain that has its pages at PFNs from 0, and a vCPU; it is as if it
    /// had been built.
    ///
    /// # Panics
    /// If the domain has not.
    pub fn fill_guest(&self, domain: DomId) {
        let l4 = self.guest_frame(domain, L4);
        self.write_guest(domain, L4, (l4.0 << 12 | 1).as_bytes());
        let list: Vec<u64> = (0..PAGES).map(|p| self.guest_frame(domain, p).0).collect();
        self.write_guest(domain, LIST, list.as_bytes());
        let pattern: Vec<u8> = (0..PAGE_SIZE).map(|n| (n % 251) as u8).collect();
        self.write_guest(domain, PATTERN, &pattern);
        let gdt = self.guest_frame(domain, GDT);
        let mut state = self.state();
        let known = state.domain(domain.0).expect("a domain");
        known.tables.insert(l4, 4);
        let vcpu = known.states.state(0);
        vcpu.xsave = vec![1; 576];
        vcpu.msrs = vec![2; 16];
        let context = &mut vcpu.context;
        context.ctrlreg[3] = l4.0 << 12;
        context.gdt_ents = 1;
        context.gdt_frames[0] = gdt.0;
    }

    /// The kernel says where its P2M list is, as it does when it begins and when it goes on.
    ///
    /// # Panics
    /// If the domain has not the guest.
    pub fn guest_shows_list(&self, domain: DomId) {
        let middle = self.guest_frame(domain, TREE_MIDDLE);
        self.write_guest(domain, TREE_TOP, middle.0.as_bytes());
        let list = self.guest_frame(domain, LIST);
        self.write_guest(domain, TREE_MIDDLE, list.0.as_bytes());
        let mut arch = ArchSharedInfo::new_zeroed();
        arch.max_pfn = PAGES;
        arch.pfn_to_mfn_frame_list_list = self.guest_frame(domain, TREE_TOP).0;
        let mut state = self.state();
        let shared = state.domain(domain.0).expect("a domain").shared_info;
        let at = shared.0 * PAGE_BYTES + offset_of!(SharedInfo, arch) as u64;
        self.0.ram.write(at, arch.as_bytes());
    }

    /// The kernel does what it does before it suspends itself, and does that: it says which of its
    /// pages are rings, and gives the frame of its start info.
    ///
    /// # Panics
    /// If the domain has not the guest.
    pub fn guest_suspends(&self, domain: DomId) {
        self.guest_shows_list(domain);
        let mut start = StartInfo::new_zeroed();
        start.nr_pages = PAGES;
        start.store_mfn = STORE;
        start.console_mfn = CONSOLE;
        self.write_guest(domain, START_INFO, start.as_bytes());
        let start_info = self.guest_frame(domain, START_INFO);
        let mut state = self.state();
        let known = state.domain(domain.0).expect("a domain");
        known.states.state(0).context.user_regs.rdx = start_info.0;
        drop(state);
        self.guest_stops(domain, SHUTDOWN_SUSPEND as u8);
    }

    /// A domain's kernel stops for a reason (`SHUTDOWN_*`).
    ///
    /// # Panics
    /// If there is no such domain.
    pub fn guest_stops(&self, domain: DomId, reason: u8) {
        let mut state = self.state();
        state.domain(domain.0).expect("a domain").shutdown = Some(reason);
        state.channels.raise(VIRQ_DOM_EXC);
    }

    /// Why a domain's kernel has stopped, if it has.
    #[must_use]
    pub fn stopped(&self, domain: DomId) -> Option<u8> {
        self.state().domain(domain.0).ok()?.shutdown
    }

    /// Whether the guest's memory is as [`Self::fill_guest`] or a restore has it.
    ///
    /// # Panics
    /// If the domain has not its pages.
    #[must_use]
    pub fn guest_is_whole(&self, domain: DomId) -> bool {
        let list: Vec<u64> = (0..PAGES).map(|p| self.guest_frame(domain, p).0).collect();
        let l4 = self.guest_frame(domain, L4).0 << 12 | 1;
        self.read_guest(domain, LIST, list.len() * 8) == list.as_bytes()
            && self.read_guest(domain, L4, 8) == l4.as_bytes()
            && (0..)
                .zip(self.read_guest(domain, PATTERN, PAGE_SIZE))
                .all(|(n, byte)| n % 251 == usize::from(byte))
    }

    fn guest_frame(&self, domain: DomId, pfn: u64) -> Mfn {
        let mut state = self.state();
        let domain = state.domain(domain.0).expect("a domain");
        domain.frame(pfn).expect("a page of it")
    }

    fn write_guest(&self, domain: DomId, pfn: u64, bytes: &[u8]) {
        let mfn = self.guest_frame(domain, pfn);
        self.0.ram.write(mfn.0 * PAGE_BYTES, bytes);
    }

    fn read_guest(&self, domain: DomId, pfn: u64, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        let mfn = self.guest_frame(domain, pfn);
        self.0.ram.read(mfn.0 * PAGE_BYTES, &mut content);
        content
    }
}
