//! I/O ports: what a domain reaches, and what stands in for the rest.
//!
//! First comes the vCPU's own permission (virtual IOPL or I/O bitmap, see
//! [`super::execute()`]): without it the guest gets #GP. Then the domain's: a port it
//! was not given reads as ones, and writes to it are dropped.
//!
//! Some ports are the hypervisor's even where the hardware domain is concerned:
//!
//! - the interrupt controllers at 20, 21, a0 and a1 (hex): dropped;
//! - the interval timer at 40-43 and its gate at 61. Guests learn the TSC frequency
//!   from their time area; a timer that has always just expired ends their
//!   calibration loops at the first read instead of after 100,000;
//! - PCI configuration at cf8 and cfc: the address is latched for each domain, and
//!   the access goes out through [`PciConfig`];
//! - the clock at 70 and 71: the index is latched for each domain.
//!
//! State is atomics; the one lock makes index and data of the clock one access.
//! The hypervisor itself reads the clock only before the hardware domain runs.

use super::insn::Width;
use super::seam::{ConfigAddr, HostPorts, PciConfig};
use crate::fallible::{self, NoMemory};
use crate::sync::{Level, Lock, Once};
use alloc::boxed::Box;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

const PIC_MASTER: u16 = 0x20;
const PIC_SLAVE: u16 = 0xa0;
const PIT_FIRST: u16 = 0x40;
const PIT_LAST: u16 = 0x43;
const PIT_GATE: u16 = 0x61;
const RTC_INDEX: u16 = 0x70;
const RTC_DATA: u16 = 0x71;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PCI_DATA_LAST: u16 = 0xcff;

/// Ports that are never a domain's.
const RESERVED: [RangeInclusive<u16>; 6] = [
    PIC_MASTER..=PIC_MASTER + 1,
    PIC_SLAVE..=PIC_SLAVE + 1,
    PIT_FIRST..=PIT_LAST,
    PIT_GATE..=PIT_GATE,
    RTC_INDEX..=RTC_DATA,
    PCI_DATA..=PCI_DATA_LAST,
];

/// The words of a [`PortSet`] that hold `ports`, and which of their bits do.
fn by_word(ports: RangeInclusive<u16>) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (*ports.start(), *ports.end());
    (first / 64..=last / 64).filter_map(move |word| {
        let start = first.max(word * 64);
        let end = last.min(word * 64 + 63);
        let mask = || u64::MAX >> (63 - end % 64) & u64::MAX << (start % 64);
        (start <= end).then(|| (usize::from(word), mask()))
    })
}

/// Words of a set, a bit for each port.
const WORDS: usize = 1024;

/// A set of I/O ports. Empty sets take no memory.
#[derive(Debug, Default)]
pub struct PortSet(Once<Box<[AtomicU64]>>);

impl PortSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Once::new())
    }

    /// Adds ports.
    ///
    /// # Errors
    /// There is no memory for the set; it has not changed.
    pub fn insert(&self, ports: RangeInclusive<u16>) -> Result<(), NoMemory> {
        let words = self
            .0
            .try_call_once(|| fallible::boxed_slice(WORDS, |_| AtomicU64::new(0)))?;
        for (word, mask) in by_word(ports) {
            if let Some(word) = words.get(word) {
                word.fetch_or(mask, Relaxed);
            }
        }
        Ok(())
    }

    /// Takes ports away.
    pub fn remove(&self, ports: RangeInclusive<u16>) {
        let Some(words) = self.0.get() else { return };
        for (word, mask) in by_word(ports) {
            if let Some(word) = words.get(word) {
                word.fetch_and(!mask, Relaxed);
            }
        }
    }

    /// Whether all these ports are in the set.
    #[must_use]
    pub fn contains_all(&self, ports: RangeInclusive<u16>) -> bool {
        self.0.get().is_some_and(|words| {
            by_word(ports).all(|(word, mask)| {
                let word = words.get(word);
                word.is_some_and(|word| word.load(Relaxed) & mask == mask)
            })
        })
    }

    /// Whether all of `count` ports from `first` on are in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, first: u16, count: u16) -> bool {
        let Some(words) = self.0.get() else {
            return false;
        };
        (0..count).all(|n| {
            first.checked_add(n).is_some_and(|port| {
                words
                    .get(usize::from(port / 64))
                    .is_some_and(|w| w.load(Relaxed) >> (port % 64) & 1 != 0)
            })
        })
    }
}

/// A domain's I/O ports.
#[derive(Debug)]
pub struct DomainIo {
    /// Ports it was given.
    pub ports: PortSet,
    /// Whether it owns the hardware: clock and PCI configuration are its.
    hardware: bool,
    /// What it last wrote to cf8.
    pci_address: AtomicU32,
    /// What it last wrote to 70.
    rtc_index: AtomicU8,
    /// What it last wrote to 61, and the refresh bit, which toggles.
    pit_gate: AtomicU8,
    rtc: Lock<()>,
}

impl DomainIo {
    /// The ports of a domain: none, or for the hardware domain all but the reserved.
    ///
    /// # Panics
    /// If there is no memory for the hardware domain's, at boot.
    #[must_use]
    pub fn new(hardware: bool) -> Self {
        let ports = PortSet::new();
        if hardware {
            ports
                .insert(0..=u16::MAX)
                .expect("memory for the hardware domain's ports");
            for range in RESERVED {
                ports.remove(range);
            }
        }
        Self {
            ports,
            hardware,
            pci_address: AtomicU32::new(0),
            rtc_index: AtomicU8::new(0),
            pit_gate: AtomicU8::new(0),
            rtc: Lock::new(Level::Device, ()),
        }
    }

    /// Reads a port on behalf of the domain.
    pub fn read(&self, m: &(impl HostPorts + PciConfig), port: u16, width: Width) -> u32 {
        if self.ports.contains(port, width as u16) && !is_pci_address(port, width) {
            return m.port_in(port, width);
        }
        let ones = width.mask() as u32;
        match port {
            PIT_FIRST..=PIT_LAST => 0,
            PIT_GATE => self.read_gate(),
            PCI_ADDRESS if self.hardware && width == Width::Dword => self.pci_address.load(Relaxed),
            PCI_DATA..=PCI_DATA_LAST => match self.config_addr(port, width) {
                Some(at) => m.config_read(at, width),
                None => ones,
            },
            RTC_INDEX if self.hardware => self.rtc_index.load(Relaxed).into(),
            RTC_DATA if self.hardware && width == Width::Byte => {
                let _guard = self.rtc.lock();
                m.port_out(RTC_INDEX, Width::Byte, self.rtc_index.load(Relaxed).into());
                m.port_in(RTC_DATA, Width::Byte)
            }
            _ => ones,
        }
    }

    /// Writes a port on behalf of the domain.
    pub fn write(&self, m: &(impl HostPorts + PciConfig), port: u16, width: Width, value: u32) {
        if self.ports.contains(port, width as u16) && !is_pci_address(port, width) {
            m.port_out(port, width, value);
            return;
        }
        match port {
            PIT_GATE => {
                let refresh = self.pit_gate.load(Relaxed) & REFRESH;
                self.pit_gate.store(value as u8 & 3 | refresh, Relaxed);
            }
            PCI_ADDRESS if self.hardware && width == Width::Dword => {
                self.pci_address.store(value, Relaxed);
            }
            PCI_DATA..=PCI_DATA_LAST => {
                if let Some(at) = self.config_addr(port, width) {
                    m.config_write(at, width, value);
                }
            }
            RTC_INDEX if self.hardware && width == Width::Byte => {
                self.rtc_index.store(value as u8, Relaxed);
            }
            RTC_DATA if self.hardware && width == Width::Byte => {
                let _guard = self.rtc.lock();
                m.port_out(RTC_INDEX, Width::Byte, self.rtc_index.load(Relaxed).into());
                m.port_out(RTC_DATA, Width::Byte, value);
            }
            _ => {}
        }
    }

    /// Gate and speaker as written, refresh toggling, timer output high.
    fn read_gate(&self) -> u32 {
        u32::from(self.pit_gate.fetch_xor(REFRESH, Relaxed)) | OUTPUT
    }

    /// The register that an access to the data port means; `None` without right, if
    /// none is selected, or if the access leaves the port's four bytes.
    ///
    /// Bits of cf8: PCI Local Bus Specification 3.0, section 3.2.2.3.2; bits 24-27
    /// extend the register on AMD.
    fn config_addr(&self, port: u16, width: Width) -> Option<ConfigAddr> {
        let byte = port - PCI_DATA;
        let address = self.pci_address.load(Relaxed);
        let fits = u64::from(byte) + width.bytes() <= 4;
        if !self.hardware || address >> 31 == 0 || !fits {
            return None;
        }
        let register = address & 0xfc | (address >> 16 & 0xf00);
        Some(ConfigAddr {
            bdf: (address >> 8) as u16,
            offset: register as u16 | byte,
        })
    }
}

/// Bit of port 61: memory refresh, which toggles.
const REFRESH: u8 = 1 << 4;
/// Bit of port 61: output of timer channel 2.
const OUTPUT: u32 = 1 << 5;

/// Only a 32-bit access at cf8 is the PCI address; cf9 may be a reset register.
const fn is_pci_address(port: u16, width: Width) -> bool {
    port == PCI_ADDRESS && matches!(width, Width::Dword)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        In(u16, Width),
        Out(u16, Width, u32),
        Config(ConfigAddr, Width, Option<u32>),
    }

    #[derive(Default)]
    struct Host(RefCell<Vec<Seen>>);

    impl HostPorts for Host {
        fn port_in(&self, port: u16, width: Width) -> u32 {
            self.0.borrow_mut().push(Seen::In(port, width));
            0x12
        }
        fn port_out(&self, port: u16, width: Width, value: u32) {
            self.0.borrow_mut().push(Seen::Out(port, width, value));
        }
    }

    impl PciConfig for Host {
        fn config_read(&self, at: ConfigAddr, width: Width) -> u32 {
            self.0.borrow_mut().push(Seen::Config(at, width, None));
            0x8086
        }
        fn config_write(&self, at: ConfigAddr, width: Width, value: u32) {
            self.0
                .borrow_mut()
                .push(Seen::Config(at, width, Some(value)));
        }
    }

    #[test]
    fn without_ports_all_is_ones_and_nothing_goes_out() {
        let (io, host) = (DomainIo::new(false), Host::default());
        for port in (0..=u16::MAX).filter(|p| !matches!(p, 0x40..=0x43 | 0x61)) {
            assert_eq!(io.read(&host, port, Width::Byte), 0xff);
            io.write(&host, port, Width::Byte, 1);
        }
        assert_eq!(io.read(&host, 0xcf8, Width::Dword), u32::MAX);
        assert_eq!(io.read(&host, 0x3f8, Width::Word), 0xffff);
        assert!(host.0.borrow().is_empty());
    }

    #[test]
    fn interrupt_controllers_and_timer_stay_ours() {
        let (io, host) = (DomainIo::new(true), Host::default());
        for port in [0x20, 0x21, 0xa0, 0xa1, 0x40, 0x42, 0x43, 0x61] {
            io.write(&host, port, Width::Byte, 0xff);
            io.read(&host, port, Width::Byte);
        }
        // Nor through a wider access that covers one.
        io.write(&host, 0x1f, Width::Word, 0xffff);
        io.write(&host, 0x60, Width::Word, 0xffff);
        assert!(host.0.borrow().is_empty());
        assert_eq!(io.read(&host, 0x21, Width::Byte), 0xff);
        assert_eq!(io.read(&host, 0x64, Width::Byte), 0x12);
    }

    #[test]
    fn timer_gate_reads_back_and_output_is_high() {
        let (io, host) = (DomainIo::new(false), Host::default());
        io.write(&host, 0x61, Width::Byte, 0xfd);
        let first = io.read(&host, 0x61, Width::Byte);
        let second = io.read(&host, 0x61, Width::Byte);
        assert_eq!(first & 0x23, 0x21);
        assert_eq!(first ^ second, 0x10);
    }

    #[test]
    fn pci_configuration() {
        let (io, host) = (DomainIo::new(true), Host::default());
        assert_eq!(io.read(&host, 0xcfc, Width::Dword), u32::MAX);
        io.write(&host, 0xcf8, Width::Dword, 0x8100_1a3f);
        assert_eq!(io.read(&host, 0xcf8, Width::Dword), 0x8100_1a3f);
        assert_eq!(io.read(&host, 0xcfe, Width::Word), 0x8086);
        io.write(&host, 0xcff, Width::Byte, 7);
        assert_eq!(io.read(&host, 0xcff, Width::Word), 0xffff);
        // A byte at cf9 is another device's.
        io.write(&host, 0xcf9, Width::Byte, 6);
        let at = |offset| ConfigAddr {
            bdf: 0x001a,
            offset,
        };
        assert_eq!(
            *host.0.borrow(),
            [
                Seen::Config(at(0x13e), Width::Word, None),
                Seen::Config(at(0x13f), Width::Byte, Some(7)),
                Seen::Out(0xcf9, Width::Byte, 6),
            ]
        );
    }

    #[test]
    fn clock_index_is_latched() {
        let (io, host) = (DomainIo::new(true), Host::default());
        io.write(&host, 0x70, Width::Byte, 0x0b);
        assert!(host.0.borrow().is_empty());
        assert_eq!(io.read(&host, 0x71, Width::Byte), 0x12);
        assert_eq!(
            *host.0.borrow(),
            [
                Seen::Out(0x70, Width::Byte, 0x0b),
                Seen::In(0x71, Width::Byte)
            ]
        );
    }

    #[test]
    fn port_sets() {
        let set = PortSet::new();
        assert!(!set.contains(0, 1));
        set.insert(0x3f8..=0x3ff).unwrap();
        assert!(set.contains_all(0x3f8..=0x3ff) && !set.contains_all(0x3f7..=0x3f8));
        assert!(set.contains(0x3f8, 4) && set.contains(0x3fc, 4));
        assert!(!set.contains(0x3fd, 4) && !set.contains(0x3f7, 1));
        set.insert(u16::MAX..=u16::MAX).unwrap();
        assert!(set.contains(u16::MAX, 1) && !set.contains(u16::MAX, 2));
        set.remove(0x3f9..=0x3f9);
        assert!(!set.contains(0x3f8, 2));
    }
}
