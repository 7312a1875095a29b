//! Message-signalled interrupts: composing messages and finding a PCI function's
//! capability structures.
//!
//! Works on any [`ConfigSpace`], so it is tested on the host with made-up functions.
//! Source of the layouts: PCI Local Bus 3.0, 6.8; Intel SDM vol. 3, 11.11.

/// A PCI function's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciAddress {
    /// Segment group.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device (bits 7-3) and function (bits 2-0).
    pub devfn: u8,
}

impl core::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{}",
            self.segment,
            self.bus,
            self.devfn >> 3,
            self.devfn & 7
        )
    }
}

/// A PCI function's configuration space, by byte offset.
pub trait ConfigSpace {
    /// Reads the aligned dword at `offset`.
    fn read32(&self, offset: u16) -> u32;
    /// Writes the aligned dword at `offset`.
    fn write32(&self, offset: u16, value: u32);
    /// Writes the aligned word at `offset`, alone: its neighbour may hold bits that
    /// are cleared by writing ones.
    fn write16(&self, offset: u16, value: u16);

    /// Reads the aligned word at `offset`.
    fn read16(&self, offset: u16) -> u16 {
        (self.read32(offset & !3) >> (8 * u32::from(offset & 2))) as u16
    }
}

/// What a device writes where in order to interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bus address.
    pub address: u64,
    /// Data.
    pub data: u32,
}

impl Message {
    /// Fixed delivery of `vector` to one local APIC, edge triggered, physical
    /// destination. Only 8-bit APIC ids can be named without interrupt remapping.
    #[must_use]
    pub const fn fixed(vector: u8, apic_id: u32) -> Self {
        Self {
            address: 0xfee0_0000 | ((apic_id & 0xff) as u64) << 12,
            data: vector as u32,
        }
    }
}

const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAP_MSI: u8 = 0x05;
const CAP_MSIX: u8 = 0x11;

/// Where a function's capability of one kind is, and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiCapability {
    /// Offset in configuration space.
    pub offset: u16,
    /// Takes 64-bit addresses.
    pub wide: bool,
    /// Has mask bits.
    pub maskable: bool,
    /// log2 of the messages it can send.
    pub log2_messages: u8,
}

/// An MSI-X capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixCapability {
    /// Offset in configuration space.
    pub offset: u16,
    /// Entries in the table (at most 2048).
    pub entries: u16,
    /// Which BAR holds the table (0 to 5).
    pub bar: u8,
    /// Offset of the table within the BAR, in bytes.
    pub table: u32,
}

fn find_capability(space: &impl ConfigSpace, wanted: u8) -> Option<u16> {
    if space.read16(6) & STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = (space.read32(0x34) & 0xfc) as u16;
    // 48 structures fill the space; a longer chain is a loop.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let header = space.read32(at);
        if header as u8 == wanted {
            return Some(at);
        }
        at = (header >> 8 & 0xfc) as u16;
    }
    None
}

impl MsiCapability {
    /// The function's MSI capability.
    #[must_use]
    pub fn find(space: &impl ConfigSpace) -> Option<Self> {
        let offset = find_capability(space, CAP_MSI)?;
        let control = space.read16(offset + 2);
        Some(Self {
            offset,
            wide: control & 1 << 7 != 0,
            maskable: control & 1 << 8 != 0,
            log2_messages: (control >> 1 & 7).min(5) as u8,
        })
    }

    /// Writes the message for `1 << log2` vectors. Does not turn MSI on.
    pub fn program(&self, space: &impl ConfigSpace, message: Message, log2: u8) {
        space.write32(self.offset + 4, message.address as u32);
        let data = if self.wide {
            space.write32(self.offset + 8, (message.address >> 32) as u32);
            self.offset + 12
        } else {
            self.offset + 8
        };
        space.write16(data, message.data as u16);
        let control = space.read16(self.offset + 2) & !(7 << 4);
        let log2 = u16::from(log2.min(self.log2_messages));
        space.write16(self.offset + 2, control | log2 << 4);
    }

    /// Turns MSI on or off.
    pub fn set_enabled(&self, space: &impl ConfigSpace, on: bool) {
        let control = space.read16(self.offset + 2) & !1;
        space.write16(self.offset + 2, control | u16::from(on));
    }

    /// Masks or unmasks message `index`. Does nothing on a function without mask bits.
    pub fn set_mask(&self, space: &impl ConfigSpace, index: u8, masked: bool) {
        if !self.maskable {
            return;
        }
        let at = self.offset + if self.wide { 16 } else { 12 };
        let bit = 1 << (index & 31);
        let old = space.read32(at);
        space.write32(at, if masked { old | bit } else { old & !bit });
    }
}

impl MsixCapability {
    /// Bytes of one table entry.
    pub const ENTRY_SIZE: u32 = 16;

    /// The function's MSI-X capability.
    #[must_use]
    pub fn find(space: &impl ConfigSpace) -> Option<Self> {
        let offset = find_capability(space, CAP_MSIX)?;
        let table = space.read32(offset + 4);
        Some(Self {
            offset,
            entries: (space.read16(offset + 2) & 0x7ff) + 1,
            bar: (table & 7) as u8,
            table: table & !7,
        })
    }

    /// Turns MSI-X on or off, leaving the mask of the whole function as it is.
    pub fn set_enabled(&self, space: &impl ConfigSpace, on: bool) {
        let control = space.read16(self.offset + 2) & !(1 << 15);
        space.write16(self.offset + 2, control | u16::from(on) << 15);
    }

    /// Whether MSI-X is on.
    #[must_use]
    pub fn enabled(&self, space: &impl ConfigSpace) -> bool {
        space.read16(self.offset + 2) & 1 << 15 != 0
    }

    /// Physical address of the table, if its BAR is a memory BAR that was assigned.
    #[must_use]
    pub fn table_address(&self, space: &impl ConfigSpace) -> Option<u64> {
        let base = memory_bar(space, self.bar)?;
        base.checked_add(u64::from(self.table))
    }
}

/// Physical address a memory BAR of an ordinary function (header type 0) decodes.
#[must_use]
pub fn memory_bar(space: &impl ConfigSpace, bar: u8) -> Option<u64> {
    if bar > 5 {
        return None;
    }
    let at = 0x10 + 4 * u16::from(bar);
    let low = space.read32(at);
    if low & 1 != 0 {
        return None;
    }
    let high = match low >> 1 & 3 {
        0 => 0,
        2 if bar < 5 => space.read32(at + 4),
        _ => return None,
    };
    let base = u64::from(high) << 32 | u64::from(low & !0xf);
    (base != 0).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Fake(RefCell<[u8; 256]>);

    impl Fake {
        fn new(bytes: &[(u16, &[u8])]) -> Self {
            let mut all = [0; 256];
            for (at, b) in bytes {
                all[*at as usize..][..b.len()].copy_from_slice(b);
            }
            Self(RefCell::new(all))
        }
    }

    impl ConfigSpace for Fake {
        fn read32(&self, offset: u16) -> u32 {
            assert_eq!(offset & 3, 0);
            let b = self.0.borrow();
            u32::from_le_bytes(b[offset as usize..][..4].try_into().unwrap())
        }
        fn write32(&self, offset: u16, value: u32) {
            assert_eq!(offset & 3, 0);
            self.0.borrow_mut()[offset as usize..][..4].copy_from_slice(&value.to_le_bytes());
        }
        fn write16(&self, offset: u16, value: u16) {
            assert_eq!(offset & 1, 0);
            self.0.borrow_mut()[offset as usize..][..2].copy_from_slice(&value.to_le_bytes());
        }
    }

    #[test]
    fn message_for_a_cpu() {
        assert_eq!(
            Message::fixed(0x41, 3),
            Message {
                address: 0xfee0_3000,
                data: 0x41
            }
        );
    }

    #[test]
    fn msi_is_found_programmed_and_masked() {
        // A vendor capability at 0x40, MSI (64-bit, maskable, 4 messages) at 0x60.
        let f = Fake::new(&[
            (6, &[0x10]),
            (0x34, &[0x40]),
            (0x40, &[0x09, 0x60]),
            (0x60, &[0x05, 0, 0x84, 0x01]),
        ]);
        let cap = MsiCapability::find(&f).unwrap();
        assert_eq!(
            cap,
            MsiCapability {
                offset: 0x60,
                wide: true,
                maskable: true,
                log2_messages: 2
            }
        );
        cap.program(&f, Message::fixed(0x51, 1), 0);
        assert_eq!(f.read32(0x64), 0xfee0_1000);
        assert_eq!(f.read32(0x68), 0);
        assert_eq!(f.read16(0x6c), 0x51);
        assert_eq!(f.read16(0x62), 0x184);
        cap.set_enabled(&f, true);
        assert_eq!(f.read16(0x62), 0x185);
        cap.set_mask(&f, 1, true);
        assert_eq!(f.read32(0x70), 2);
        cap.set_mask(&f, 1, false);
        assert_eq!(f.read32(0x70), 0);
        cap.set_enabled(&f, false);
        assert_eq!(f.read16(0x62), 0x184);
        assert_eq!(MsixCapability::find(&f), None);
    }

    #[test]
    fn msix_table_behind_a_64_bit_bar() {
        let f = Fake::new(&[
            (6, &[0x10]),
            (0x34, &[0x98]),
            (0x98, &[0x11, 0, 0x02, 0, 0x04, 0x08, 0, 0]),
            (0x20, &[0x0c, 0, 0, 0x80, 1, 0, 0, 0]),
        ]);
        let cap = MsixCapability::find(&f).unwrap();
        assert_eq!((cap.entries, cap.bar, cap.table), (3, 4, 0x800));
        assert_eq!(cap.table_address(&f), Some(0x1_8000_0800));
        cap.set_enabled(&f, true);
        assert!(cap.enabled(&f));
        assert_eq!(f.read16(0x9a), 0x8002);
    }

    #[test]
    fn capability_loops_end() {
        let f = Fake::new(&[(6, &[0x10]), (0x34, &[0x40]), (0x40, &[0x09, 0x40])]);
        assert_eq!(MsiCapability::find(&f), None);
        let none = Fake::new(&[(0x34, &[0x40]), (0x40, &[0x05, 0])]);
        assert_eq!(MsiCapability::find(&none), None);
    }

    #[test]
    fn bars_that_hold_no_memory() {
        let f = Fake::new(&[
            (0x10, &[1, 0xc0, 0, 0]),
            (0x24, &[4, 0, 0, 0x80]),
            (0x14, &[0, 0, 0, 0xf0]),
        ]);
        assert_eq!(memory_bar(&f, 0), None);
        assert_eq!(memory_bar(&f, 5), None);
        assert_eq!(memory_bar(&f, 6), None);
        assert_eq!(memory_bar(&f, 2), None);
        assert_eq!(memory_bar(&f, 1), Some(0xf000_0000));
    }
}
