//! The effect of a decoded instruction.

use super::control::{self, CR4_TSD};
use super::cpuid::{Asker, Policy};
use super::debug;
use super::decode::{Decoded, Insn, Port};
use super::insn::{self, Width};
use super::io::DomainIo;
use super::msr;
use super::seam::{Machine, Processor};
use crate::addr::{GuestVa, MachAddr, Mfn};
use crate::arch::regs::{GuestRegs, RFLAGS_DF};
use crate::arch::xcr0::Xcr0;

/// The vCPU an instruction acts on.
#[derive(Debug)]
pub struct CpuView<'a> {
    /// Its registers.
    pub regs: &'a mut GuestRegs,
    /// Guest kernel rather than guest user.
    pub kernel_mode: bool,
    /// vCPU 0.
    pub boot_vcpu: bool,
    /// Belongs to the domain that owns the hardware.
    pub hardware_domain: bool,
    /// `vm_assist` type 4: the kernel counts as CPL 0, not 1, for the virtual IOPL.
    pub architectural_iopl: bool,
    /// Kernel page-table root.
    pub kernel_root: Option<Mfn>,
    /// Virtual CR0.TS.
    pub task_switched: &'a mut bool,
    /// Virtual CR2.
    pub cr2: &'a mut u64,
    /// Guest-controlled CR4 bits.
    pub cr4: &'a mut u64,
    /// XCR0.
    pub xcr0: &'a mut Xcr0,
    /// Debug registers.
    pub debug: &'a mut debug::DebugRegisters,
    /// TSC_AUX.
    pub tsc_aux: &'a mut u32,
    /// `SPEC_CTRL`.
    pub spec_ctrl: &'a mut u64,
    /// Virtual I/O privilege level.
    pub iopl: u8,
    /// I/O permission bitmap in guest kernel space (0 bits: allowed) and how many
    /// ports it covers.
    pub io_bitmap: (GuestVa, u32),
}

/// An exception for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #GP(0).
    GeneralProtection,
    /// #UD.
    InvalidOpcode,
    /// #PF on a string instruction's memory operand.
    Page {
        /// Address that faulted.
        address: GuestVa,
        /// Whether it was written.
        write: bool,
    },
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, `rip` moved on.
    Done,
    /// Done, and the guest single-steps: it is owed #DB with DR6.BS.
    DoneTraced,
    /// Partly done: `rip` stays, and the guest resumes it by executing it again.
    Again,
    /// Not done: the guest kernel loads this root of page tables, which is its
    /// hypervisor's business. When that is done, [`finish`].
    Root(Mfn),
    /// Not done: the guest gets this.
    Fault(Fault),
}

/// Iterations of a repeated I/O instruction between two looks at pending events.
const REPEAT_BATCH: u32 = 64;

impl From<msr::Refused> for Fault {
    fn from(_: msr::Refused) -> Self {
        Self::GeneralProtection
    }
}

/// Gives `insn` its effect. For #GP(0) raised by an instruction that
/// [`Decoded::at`] knows, and for #UD if [`Decoded::forced`] knows it (`forced`).
#[must_use]
pub fn execute(
    m: &mut impl Machine,
    policy: &Policy,
    io: &DomainIo,
    cpu: &mut CpuView<'_>,
    insn: Decoded,
    forced: bool,
) -> Outcome {
    if let Insn::WriteCr { cr: 3, reg } = insn.insn
        && cpu.kernel_mode
    {
        // The low bits ask for cache types of the table itself and are ignored.
        return match MachAddr::from_guest(cpu.regs.gpr(reg)) {
            Some(at) => Outcome::Root(at.frame()),
            None => Outcome::Fault(Fault::GeneralProtection),
        };
    }
    match perform(m, policy, io, cpu, insn.insn, forced) {
        Ok(true) => finish(cpu.regs, insn),
        Ok(false) => Outcome::Again,
        Err(fault) => Outcome::Fault(fault),
    }
}

/// Moves on behind an instruction that is done.
#[must_use]
pub fn finish(regs: &mut GuestRegs, insn: Decoded) -> Outcome {
    if insn::advance(regs, insn.len) {
        Outcome::DoneTraced
    } else {
        Outcome::Done
    }
}

/// `Ok(false)`: to be resumed.
fn perform(
    m: &mut impl Machine,
    policy: &Policy,
    io: &DomainIo,
    cpu: &mut CpuView<'_>,
    insn: Insn,
    forced: bool,
) -> Result<bool, Fault> {
    match insn {
        Insn::In { port, width } => {
            let port = port_number(cpu, port);
            check_port(m, cpu, port, width)?;
            let value = io.read(m, port, width);
            insn::set_register(cpu.regs, 0, width, 0, value.into());
        }
        Insn::Out { port, width } => {
            let port = port_number(cpu, port);
            check_port(m, cpu, port, width)?;
            io.write(m, port, width, cpu.regs.rax as u32 & width.mask() as u32);
        }
        Insn::Ins { width, repeat } => return string_io(m, io, cpu, width, repeat, true),
        Insn::Outs { width, repeat } => return string_io(m, io, cpu, width, repeat, false),
        // The guest's interrupt flag is in its vcpu_info, so there is nothing to do.
        Insn::Cli | Insn::Sti if iopl_allows(cpu) => {}
        Insn::Cpuid => {
            let asker = Asker {
                cr4: *cpu.cr4,
                xcr0: cpu.xcr0.raw(),
                hardware_domain: cpu.hardware_domain,
                kernel_mode: cpu.kernel_mode,
                forced,
            };
            let (leaf, subleaf) = (cpu.regs.rax as u32, cpu.regs.rcx as u32);
            let r = policy.leaf(m, &asker, leaf, subleaf);
            cpu.regs.rax = r.eax.into();
            cpu.regs.rbx = r.ebx.into();
            cpu.regs.rcx = r.ecx.into();
            cpu.regs.rdx = r.edx.into();
        }
        Insn::Rdtsc | Insn::Rdtscp => {
            if !cpu.kernel_mode && *cpu.cr4 & CR4_TSD != 0 {
                return Err(Fault::GeneralProtection);
            }
            if insn == Insn::Rdtscp {
                if !policy.has_tsc_aux() {
                    return Err(Fault::InvalidOpcode);
                }
                cpu.regs.rcx = (*cpu.tsc_aux).into();
            }
            set_edx_eax(cpu.regs, m.tsc());
        }
        _ if cpu.kernel_mode => privileged(m, policy, cpu, insn)?,
        _ => return Err(Fault::GeneralProtection),
    }
    Ok(true)
}

/// Instructions only a guest kernel may use.
fn privileged(
    m: &mut impl Machine,
    policy: &Policy,
    cpu: &mut CpuView<'_>,
    insn: Insn,
) -> Result<(), Fault> {
    let gp = Fault::GeneralProtection;
    match insn {
        Insn::Rdmsr => {
            let value = msr::read(m, policy, cpu, cpu.regs.rcx as u32)?;
            set_edx_eax(cpu.regs, value);
        }
        Insn::Wrmsr => {
            let (number, value) = (cpu.regs.rcx as u32, edx_eax(cpu.regs));
            msr::write(m, policy, cpu, number, value)?;
        }
        Insn::ReadCr { cr, reg } => {
            let value = match cr {
                0 => control::cr0(*cpu.task_switched),
                2 => *cpu.cr2,
                3 => cpu.kernel_root.map_or(0, |root| root.addr().raw()),
                _ => control::cr4(*cpu.cr4),
            };
            *cpu.regs.gpr_mut(reg) = value;
        }
        Insn::WriteCr { cr, reg } => {
            let value = cpu.regs.gpr(reg);
            match cr {
                0 => set_task_switched(m, cpu, control::write_cr0(value).ok_or(gp)?),
                2 => *cpu.cr2 = value,
                // Handled before.
                3 => return Err(gp),
                _ => {
                    *cpu.cr4 = value & policy.cr4();
                    m.load_cr4(*cpu.cr4);
                }
            }
        }
        Insn::ReadDr { dr, reg } => {
            let value = debug::get(cpu.debug, *cpu.cr4, dr.into());
            *cpu.regs.gpr_mut(reg) = value.map_err(|_| Fault::InvalidOpcode)?;
        }
        Insn::WriteDr { dr, reg } => {
            let value = cpu.regs.gpr(reg);
            let loaded =
                debug::set(cpu.debug, *cpu.cr4, dr.into(), value).map_err(|e| match e {
                    debug::DebugError::NoRegister => Fault::InvalidOpcode,
                    debug::DebugError::NotPermitted | debug::DebugError::Invalid => gp,
                })?;
            m.load_debug(loaded, cpu.debug[usize::from(loaded)]);
        }
        Insn::Clts => set_task_switched(m, cpu, false),
        Insn::Wbinvd => {
            // Without devices of its own a domain cannot tell.
            if cpu.hardware_domain {
                m.wbinvd();
            }
        }
        Insn::Xsetbv => {
            let value = edx_eax(cpu.regs);
            if *cpu.cr4 & control::CR4_OSXSAVE == 0 {
                return Err(Fault::InvalidOpcode);
            }
            let xcr0 = Xcr0::new(value, policy.xcr0()).filter(|_| cpu.regs.rcx as u32 == 0);
            *cpu.xcr0 = xcr0.ok_or(gp)?;
            m.load_xcr0(*cpu.xcr0);
        }
        // Not allowed by the virtual IOPL; the others were handled before.
        Insn::Cli
        | Insn::Sti
        | Insn::In { .. }
        | Insn::Out { .. }
        | Insn::Ins { .. }
        | Insn::Outs { .. }
        | Insn::Rdtsc
        | Insn::Rdtscp
        | Insn::Cpuid => return Err(gp),
    }
    Ok(())
}

fn set_task_switched(m: &mut impl Processor, cpu: &mut CpuView<'_>, ts: bool) {
    *cpu.task_switched = ts;
    m.load_task_switched(ts);
}

fn edx_eax(regs: &GuestRegs) -> u64 {
    regs.rdx << 32 | regs.rax & u64::from(u32::MAX)
}

fn set_edx_eax(regs: &mut GuestRegs, value: u64) {
    regs.rax = value & u64::from(u32::MAX);
    regs.rdx = value >> 32;
}

fn port_number(cpu: &CpuView<'_>, port: Port) -> u16 {
    match port {
        Port::Fixed(n) => n.into(),
        Port::Dx => cpu.regs.rdx as u16,
    }
}

/// Whether the virtual IOPL lets the current guest mode do I/O.
fn iopl_allows(cpu: &CpuView<'_>) -> bool {
    let level = match (cpu.kernel_mode, cpu.architectural_iopl) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 3,
    };
    cpu.iopl >= level
}

/// Virtual IOPL, then the I/O bitmap.
#[inline]
fn check_port(m: &impl Machine, cpu: &CpuView<'_>, port: u16, width: Width) -> Result<(), Fault> {
    if iopl_allows(cpu) || bitmap_allows(m, cpu, port, width) {
        Ok(())
    } else {
        Err(Fault::GeneralProtection)
    }
}

fn bitmap_allows(m: &impl Machine, cpu: &CpuView<'_>, port: u16, width: Width) -> bool {
    let (bitmap, ports) = cpu.io_bitmap;
    if u64::from(port) + width.bytes() > ports.into() {
        return false;
    }
    // The bits may straddle two bytes, and then the bitmap has both.
    let shift = port % 8;
    let mut bytes = [0; 2];
    let used = if u64::from(shift) + width.bytes() > 8 {
        2
    } else {
        1
    };
    let at = bitmap.add((port / 8).into());
    if m.read_kernel(at, &mut bytes[..used]).is_err() {
        return false;
    }
    let wanted = (1u16 << width.bytes()) - 1;
    u16::from_le_bytes(bytes) >> shift & wanted == 0
}

/// `ins` and `outs`: up to [`REPEAT_BATCH`] elements.
fn string_io(
    m: &mut impl Machine,
    io: &DomainIo,
    cpu: &mut CpuView<'_>,
    width: Width,
    repeat: bool,
    input: bool,
) -> Result<bool, Fault> {
    let port = cpu.regs.rdx as u16;
    check_port(m, cpu, port, width)?;
    if repeat && cpu.regs.rcx == 0 {
        return Ok(true);
    }
    let size = width.bytes() as usize;
    let step = if cpu.regs.rflags & RFLAGS_DF == 0 {
        width.bytes()
    } else {
        width.bytes().wrapping_neg()
    };
    for _ in 0..REPEAT_BATCH {
        if input {
            let to = GuestVa(cpu.regs.rdi);
            let mut value = [0; 4];
            let fault = |address| Fault::Page {
                address,
                write: true,
            };
            // Reading a port may take data from a device: first see that it can be
            // stored.
            m.read_guest(to, &mut value[..size]).map_err(fault)?;
            m.write_guest(to, &value[..size]).map_err(fault)?;
            value = io.read(m, port, width).to_le_bytes();
            m.write_guest(to, &value[..size]).map_err(fault)?;
            cpu.regs.rdi = cpu.regs.rdi.wrapping_add(step);
        } else {
            let mut value = [0; 4];
            let from = GuestVa(cpu.regs.rsi);
            m.read_guest(from, &mut value[..size])
                .map_err(|address| Fault::Page {
                    address,
                    write: false,
                })?;
            io.write(m, port, width, u32::from_le_bytes(value));
            cpu.regs.rsi = cpu.regs.rsi.wrapping_add(step);
        }
        if !repeat {
            return Ok(true);
        }
        cpu.regs.rcx = cpu.regs.rcx.wrapping_sub(1);
        if cpu.regs.rcx == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
