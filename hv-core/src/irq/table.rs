//! The table of host interrupt lines: vectors, bindings, masking.
//!
//! A line's life:
//!
//! ```text
//!   GSI:     unused --setup_gsi/bind--> routed, masked --bind--> live
//!   message: unused --alloc--> routed, masked --bind--> live --free--> unused
//!
//!   live, level:    fires --> masked, in flight --guest_eoi--> live
//!   live, the rest: fires --> live
//! ```
//!
//! Invariants: a line is unmasked only while it is bound and not in flight; each
//! interrupt gets exactly one end-of-interrupt, at once, so a line a guest neglects
//! never blocks others. A message gets its vector when it is allocated, because the
//! guest turns the device's MSI on before it binds an event.
//!
//! Vectors are one space for all CPUs (see [`DeviceVector`]), so moving a line changes
//! only its destination and an interrupt on its way to the old CPU still finds it.
//!
//! Locks: one of level `Irq` a line, never two at once. Vector slots are atomics.

use crate::addr::{CpuId, DomId, MachAddr};
use crate::arch::index;
use crate::arch::interrupt::Source;
use crate::arch::msi::PciAddress;
use crate::arch::platform::Signal;
use crate::arch::vectors::DeviceVector;
use crate::sync::{Guard, Level, Lock};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, Ordering};

/// Why an operation on a line failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such irq, or none that this operation applies to.
    NoSuchIrq,
    /// The pin was set up before.
    Exists,
    /// Bound to someone, or kept by the hypervisor.
    Busy,
    /// No vector or no irq number left.
    NoSpace,
    /// The device does not answer or lacks the capability.
    NoDevice,
    /// The device has no such message.
    Invalid,
}

/// Whom a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The domain.
    pub domain: DomId,
    /// The domain's own number of the line.
    pub pirq: u32,
}

/// An interrupt to be told to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The line.
    pub irq: u32,
    /// Whom it is for.
    pub to: Binding,
    /// Whether the line waits for [`Table::guest_eoi`].
    pub needs_eoi: bool,
}

/// A line as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Where it comes from.
    pub source: Source,
    /// Its vector, if it has one.
    pub vector: Option<DeviceVector>,
    /// The CPU it interrupts.
    pub cpu: CpuId,
    /// Whom it is for.
    pub bound: Option<Binding>,
    /// Whether it waits for [`Table::guest_eoi`].
    pub in_flight: bool,
}

/// The interrupt controllers' registers.
pub trait Chip {
    /// Makes `source` send `vector` to `cpu`; leaves a pin and a maskable message
    /// masked.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is nothing to program.
    fn route(&self, source: &Source, vector: DeviceVector, cpu: CpuId) -> Result<(), Error>;
    /// Masks or unmasks `source`, as far as it can be.
    fn set_masked(&self, source: &Source, masked: bool);
    /// Turns a message off.
    fn release(&self, source: &Source);
    /// Tells this CPU's local APIC that the interrupt in service is done.
    fn end_of_interrupt(&self);
}

#[derive(Debug)]
struct Line {
    source: Option<Source>,
    vector: Option<DeviceVector>,
    cpu: CpuId,
    bound: Option<Binding>,
    in_flight: bool,
    /// The guest told how the pin signals.
    set_up: bool,
    /// The hypervisor keeps the pin for itself.
    reserved: bool,
}

/// All lines of the machine.
#[derive(Debug)]
pub struct Table<C> {
    chip: C,
    gsis: u32,
    lines: Box<[Lock<Line>]>,
    /// irq + 1 of each vector's line, or 0.
    by_vector: [AtomicU16; 256],
}

/// Messages worth numbering: as many as can have a vector.
const MESSAGES: u32 = DeviceVector::COUNT as u32;

impl<C: Chip> Table<C> {
    /// A table of `gsis` pins, which signal as `signal` says, and of as many messages
    /// as there are vectors.
    #[allow(clippy::disallowed_methods, reason = "at boot only")]
    pub fn new(chip: C, gsis: u32, signal: impl Fn(u32) -> Signal) -> Self {
        let lines = (0..gsis + MESSAGES)
            .map(|irq| {
                Lock::new(
                    Level::Irq,
                    Line {
                        source: (irq < gsis).then(|| Source::Gsi {
                            gsi: irq,
                            signal: signal(irq),
                        }),
                        vector: None,
                        cpu: CpuId(0),
                        bound: None,
                        in_flight: false,
                        set_up: false,
                        reserved: false,
                    },
                )
            })
            .collect();
        Self {
            chip,
            gsis,
            lines,
            by_vector: [const { AtomicU16::new(0) }; 256],
        }
    }

    /// Number of pins.
    #[must_use]
    pub fn gsi_count(&self) -> u32 {
        self.gsis
    }

    /// One more than the highest irq there can be.
    #[must_use]
    pub fn irq_count(&self) -> u32 {
        self.lines.len() as u32
    }

    fn line(&self, irq: u32) -> Result<&Lock<Line>, Error> {
        index::get(&self.lines, irq as usize).ok_or(Error::NoSuchIrq)
    }

    /// Notes how a pin signals (`PHYSDEVOP_setup_gsi`).
    ///
    /// # Errors
    /// [`Error::NoSuchIrq`], [`Error::Busy`] for a pin the hypervisor uses,
    /// [`Error::Exists`] the second time.
    pub fn setup_gsi(&self, gsi: u32, signal: Signal) -> Result<(), Error> {
        if gsi >= self.gsis {
            return Err(Error::NoSuchIrq);
        }
        let mut line = self.line(gsi)?.lock();
        if line.reserved {
            return Err(Error::Busy);
        }
        if line.set_up || line.bound.is_some() {
            return Err(Error::Exists);
        }
        line.source = Some(Source::Gsi { gsi, signal });
        line.set_up = true;
        if let Some(vector) = line.vector {
            let source = Source::Gsi { gsi, signal };
            self.chip.route(&source, vector, line.cpu)?;
        }
        Ok(())
    }

    /// Keeps a pin (the console's, the platform timer's) from being bound.
    ///
    /// # Errors
    /// [`Error::NoSuchIrq`], or [`Error::Busy`] if it is bound.
    pub fn reserve_gsi(&self, gsi: u32) -> Result<(), Error> {
        if gsi >= self.gsis {
            return Err(Error::NoSuchIrq);
        }
        let mut line = self.line(gsi)?.lock();
        if line.bound.is_some() {
            return Err(Error::Busy);
        }
        line.reserved = true;
        Ok(())
    }

    /// Takes `1 << log2` aligned vectors for the irqs from `irq` on.
    fn take_vectors(&self, irq: u32, log2: u8) -> Result<DeviceVector, Error> {
        let count = 1u8 << log2;
        let aligned = DeviceVector::all().filter(|v| v.number() % count == 0);
        for base in aligned.filter(|v| v.after(count - 1).is_some()) {
            let slots = &self.by_vector[usize::from(base.number())..][..usize::from(count)];
            let taken = slots.iter().zip(irq + 1..).take_while(|(slot, id)| {
                slot.compare_exchange(0, *id as u16, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            });
            let taken = taken.count();
            if taken == slots.len() {
                return Ok(base);
            }
            for slot in &slots[..taken] {
                slot.store(0, Ordering::Release);
            }
        }
        log::warn!(
            "interrupt {irq}: no vector is left for it ({} device vectors)",
            DeviceVector::COUNT
        );
        Err(Error::NoSpace)
    }

    fn give_vector(&self, vector: DeviceVector) {
        self.by_vector[usize::from(vector.number())].store(0, Ordering::Release);
    }

    /// Numbers `count` (a power of two up to 32) messages of a function's MSI
    /// capability and programs them, masked if they can be; returns the first irq.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another count, [`Error::NoSpace`], [`Error::NoDevice`].
    pub fn alloc_msi(&self, device: PciAddress, count: u32, cpu: CpuId) -> Result<u32, Error> {
        if !count.is_power_of_two() || count > 32 {
            return Err(Error::Invalid);
        }
        let log2 = count.trailing_zeros() as u8;
        self.alloc(log2, cpu, |index| Source::Msi {
            device,
            index,
            log2,
        })
    }

    /// Numbers an entry of a function's MSI-X table, which is at `at`, and programs it,
    /// masked.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::NoDevice`].
    pub fn alloc_msix(
        &self,
        device: PciAddress,
        entry: u16,
        at: MachAddr,
        cpu: CpuId,
    ) -> Result<u32, Error> {
        self.alloc(0, cpu, |_| Source::Msix { device, entry, at })
    }

    fn alloc(&self, log2: u8, cpu: CpuId, source: impl Fn(u8) -> Source) -> Result<u32, Error> {
        let count = 1u32 << log2;
        let first = self.claim_irqs(count, &source)?;
        let vector = match self.take_vectors(first, log2) {
            Ok(vector) => vector,
            Err(e) => {
                self.forget(first, count);
                return Err(e);
            }
        };
        for n in 0..count {
            let mut line = self.lines[(first + n) as usize].lock();
            line.vector = vector.after(n as u8);
            line.cpu = cpu;
        }
        if let Err(e) = self.chip.route(&source(0), vector, cpu) {
            self.forget(first, count);
            return Err(e);
        }
        Ok(first)
    }

    /// Finds `count` consecutive unused message irqs and gives them their sources.
    fn claim_irqs(&self, count: u32, source: &impl Fn(u8) -> Source) -> Result<u32, Error> {
        let mut first = self.gsis;
        'runs: while first + count <= self.irq_count() {
            for n in 0..count {
                let mut line = self.lines[(first + n) as usize].lock();
                if line.source.is_some() {
                    drop(line);
                    self.forget(first, n);
                    first += n + 1;
                    continue 'runs;
                }
                line.source = Some(source(n as u8));
            }
            return Ok(first);
        }
        Err(Error::NoSpace)
    }

    /// Makes message irqs unused again.
    fn forget(&self, first: u32, count: u32) {
        for n in 0..count {
            self.clear(&mut self.lines[(first + n) as usize].lock());
        }
    }

    /// Makes a message's line unused.
    fn clear(&self, line: &mut Line) {
        if let Some(vector) = line.vector.take() {
            self.give_vector(vector);
        }
        line.source = None;
        line.bound = None;
        line.in_flight = false;
    }

    /// Gives an allocated message back and turns it off; answers where it came from. For a
    /// block of MSI messages the others stay numbered, silent, until they are freed too.
    ///
    /// # Errors
    /// [`Error::NoSuchIrq`] if it is not a message, [`Error::Busy`] while it is bound.
    pub fn free(&self, irq: u32) -> Result<Source, Error> {
        if irq < self.gsis {
            return Err(Error::NoSuchIrq);
        }
        let mut line = self.line(irq)?.lock();
        let source = line.source.ok_or(Error::NoSuchIrq)?;
        if line.bound.is_some() {
            return Err(Error::Busy);
        }
        self.chip.set_masked(&source, true);
        self.chip.release(&source);
        self.clear(&mut line);
        Ok(source)
    }

    /// Programs a function's messages again, after it was reset
    /// (`PHYSDEVOP_restore_msi_ext`).
    pub fn reprogram(&self, device: PciAddress) {
        for lock in &self.lines[self.gsis as usize..] {
            let line = lock.lock();
            if let Some(source) = line.source
                && source.device() == Some(device)
                && !matches!(source, Source::Msi { index: 1.., .. })
                && let Some(vector) = line.vector
                && self.chip.route(&source, vector, line.cpu).is_ok()
            {
                self.chip.set_masked(&source, line.bound.is_none());
            }
        }
    }

    /// Makes a line live for `to`, interrupting `cpu`.
    ///
    /// # Errors
    /// [`Error::NoSuchIrq`] for an unused irq, [`Error::Busy`] if it is bound or
    /// kept, [`Error::NoSpace`], [`Error::NoDevice`].
    pub fn bind(&self, irq: u32, to: Binding, cpu: CpuId) -> Result<(), Error> {
        let mut line = self.line(irq)?.lock();
        let source = line.source.ok_or(Error::NoSuchIrq)?;
        if line.bound.is_some() || line.reserved {
            return Err(Error::Busy);
        }
        if line.vector.is_none() {
            // A message has one as soon as it is allocated.
            if irq >= self.gsis {
                return Err(Error::NoSuchIrq);
            }
            let vector = self.take_vectors(irq, 0)?;
            if let Err(e) = self.chip.route(&source, vector, cpu) {
                self.give_vector(vector);
                return Err(e);
            }
            line.vector = Some(vector);
            line.cpu = cpu;
        } else if line.cpu != cpu {
            self.move_line(&mut line, cpu)?;
        }
        line.bound = Some(to);
        line.in_flight = false;
        self.chip.set_masked(&source, false);
        Ok(())
    }

    /// Silences a line that is bound to `domain`, and forgets that. It keeps its vector. A
    /// domain's number of a line may be stale: what is another's by now is left alone.
    pub fn unbind(&self, irq: u32, domain: DomId) {
        if let Ok(mut line) = self.line_of(irq, domain) {
            self.silence(&mut line);
        }
    }

    /// Silences a line whoever it is bound to: it is about to be freed.
    pub fn cut_off(&self, irq: u32) {
        if let Ok(lock) = self.line(irq) {
            self.silence(&mut lock.lock());
        }
    }

    fn silence(&self, line: &mut Line) {
        if let Some(source) = line.source
            && line.bound.take().is_some()
        {
            self.chip.set_masked(&source, true);
            line.in_flight = false;
        }
    }

    /// A line that is bound to `domain`.
    #[inline]
    fn line_of(&self, irq: u32, domain: DomId) -> Result<Guard<'_, Line>, Error> {
        let line = self.line(irq)?.lock();
        if line.bound.is_some_and(|to| to.domain == domain) {
            Ok(line)
        } else {
            Err(Error::Busy)
        }
    }

    /// An interrupt arrived on this CPU: acknowledges it and says whom to tell.
    ///
    /// `None` if nobody is bound (an interrupt that was on its way when its line was
    /// silenced).
    #[inline]
    pub fn on_vector(&self, vector: DeviceVector) -> Option<Fired> {
        let id = self.by_vector[usize::from(vector.number())].load(Ordering::Acquire);
        let Some(irq) = u32::from(id).checked_sub(1) else {
            self.chip.end_of_interrupt();
            return None;
        };
        let mut line = self.lines[irq as usize].lock();
        // The line may have been freed, and its number given to another one meanwhile.
        if line.vector != Some(vector) {
            self.chip.end_of_interrupt();
            return None;
        }
        let level = line.source.is_some_and(|s| s.is_level());
        if level {
            // Masked before the end of interrupt, or the line that is still asserted
            // would fire again at once.
            if let Some(source) = line.source {
                self.chip.set_masked(&source, true);
            }
            line.in_flight = line.bound.is_some();
        }
        self.chip.end_of_interrupt();
        line.bound.map(|to| Fired {
            irq,
            to,
            needs_eoi: level,
        })
    }

    /// `domain` served the device: its level line becomes live again. Does nothing to
    /// lines that are not in flight, or not its own.
    ///
    /// # Errors
    /// [`Error::NoSuchIrq`] for an unused irq.
    #[inline]
    pub fn guest_eoi(&self, irq: u32, domain: DomId) -> Result<(), Error> {
        let mut line = self.line(irq)?.lock();
        let source = line.source.ok_or(Error::NoSuchIrq)?;
        if line.in_flight && line.bound.is_some_and(|to| to.domain == domain) {
            line.in_flight = false;
            self.chip.set_masked(&source, false);
        }
        Ok(())
    }

    /// Sends the interrupts of a line of `domain`'s to `cpu` from now on.
    pub fn set_affinity(&self, irq: u32, domain: DomId, cpu: CpuId) {
        let Ok(mut line) = self.line_of(irq, domain) else {
            return;
        };
        if line.vector.is_none() || line.cpu == cpu {
            return;
        }
        if self.move_line(&mut line, cpu).is_ok()
            && let Some(source) = line.source
        {
            self.chip.set_masked(&source, line.in_flight);
        }
    }

    /// Routes a line that has a vector to another CPU, leaving it masked. All
    /// messages of one MSI capability move together.
    fn move_line(&self, line: &mut Line, cpu: CpuId) -> Result<(), Error> {
        let source = line.source.ok_or(Error::NoSuchIrq)?;
        let vector = line.vector.ok_or(Error::NoSuchIrq)?;
        match source {
            // Only the function's first message names the destination.
            Source::Msi { index: 1.., .. } => Ok(()),
            _ => {
                self.chip.set_masked(&source, true);
                self.chip.route(&source, vector, cpu)?;
                line.cpu = cpu;
                Ok(())
            }
        }
    }

    /// What is known of a line; `None` for an unused irq.
    #[must_use]
    pub fn info(&self, irq: u32) -> Option<LineInfo> {
        let line = self.line(irq).ok()?.lock();
        Some(LineInfo {
            source: line.source?,
            vector: line.vector,
            cpu: line.cpu,
            bound: line.bound,
            in_flight: line.in_flight,
        })
    }
}

#[cfg(test)]
mod tests;
