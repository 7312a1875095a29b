//! A guest with a few pages on the fake machine, for tests.

use super::absent::Absent;
use super::rights::NoIoMem;
use super::{Budget, IoAccess, IoMem, Rights, pin, pte};
use crate::addr::{DomId, GuestVa, MachAddr, Mfn};
use crate::arch::FrameMem;
use crate::mm::Mm;
use crate::mm::frame_alloc::Request;
use crate::mm::testing::{FakeMem, FakeTlb, machine};
use std::sync::atomic::Ordering;

/// What a domain without devices may do on a CPU without leaks.
pub fn plain_rights(id: DomId) -> Rights<'static> {
    Rights {
        tables: id,
        frames: id,
        cache_control: false,
        io: &NoIoMem,
        absent: Absent::ANYTHING,
    }
}

/// A domain and the machine it is on.
pub struct Guest {
    /// The machine.
    pub mm: Mm<FakeMem, FakeTlb>,
    /// The domain.
    pub id: DomId,
}

/// Frames from 64 up may be mapped, odd ones read-only.
pub struct OddReadOnly;

impl IoMem for OddReadOnly {
    fn may_map(&self, mfn: Mfn) -> Option<IoAccess> {
        match mfn.raw() {
            64..=127 if mfn.raw() % 2 == 1 => Some(IoAccess::ReadOnly),
            64..=127 => Some(IoAccess::ReadWrite),
            _ => None,
        }
    }
}

impl Guest {
    /// Domain 1 on a machine of `ram` frames and `holes` frames of device memory.
    pub fn new(ram: usize, holes: usize) -> Self {
        let mm = machine(ram, holes);
        let id = DomId(1);
        mm.accounts.open(id).unwrap().set_max(ram as u64);
        Self { mm, id }
    }

    /// Its rights.
    pub fn rights(&self) -> Rights<'static> {
        plain_rights(self.id)
    }

    /// Its rights, were it a driver domain.
    pub fn rights_with_devices(&self) -> Rights<'static> {
        Rights {
            cache_control: true,
            io: &OddReadOnly,
            ..self.rights()
        }
    }

    /// Its rights on a CPU that reads what absent entries name: nothing below 1 MiB of 36 bits.
    pub fn rights_beside_leaks(&self) -> Rights<'static> {
        Rights {
            absent: Absent::beyond(MachAddr::new(1 << 20), 36),
            ..self.rights()
        }
    }

    /// A fresh page of its own.
    pub fn page(&self) -> Mfn {
        self.mm.alloc_for(self.id, Request::anywhere(0)).unwrap()
    }

    /// Writes an entry into a page as the guest itself would.
    pub fn poke(&self, table: Mfn, index: usize, entry: u64) {
        self.mm.mem.words(table)[index].store(entry, Ordering::Relaxed);
    }

    /// Reads an entry.
    pub fn peek(&self, table: Mfn, index: usize) -> u64 {
        self.mm.mem.words(table)[index].load(Ordering::Relaxed)
    }

    /// A pinned L4 that maps pages (with extra flags).
    pub fn space(&self, pages: &[(GuestVa, Mfn, u64)]) -> Mfn {
        self.space_with(&self.rights(), pages)
    }

    /// The same with other rights.
    pub fn space_with(&self, rights: &Rights<'_>, pages: &[(GuestVa, Mfn, u64)]) -> Mfn {
        let root = self.page();
        for &(va, mfn, flags) in pages {
            let mut table = root;
            for level in [4, 3, 2] {
                let index = va.index(level);
                if self.peek(table, index) & pte::P == 0 {
                    self.poke(
                        table,
                        index,
                        pte::make(self.page(), pte::P | pte::RW | pte::US),
                    );
                }
                table = pte::frame(self.peek(table, index));
            }
            self.poke(table, va.index(1), pte::make(mfn, pte::P | flags));
        }
        pin::pin(&self.mm, rights, root, 4, &Budget::endless()).unwrap();
        root
    }
}
