//! Where `pv_emul` meets this machine: the seams it asks for, over `arch` and the
//! guest's memory.

use super::bounce;
use crate::addr::{DomId, GuestVa, Mfn};
use crate::arch::machine;
use crate::arch::xcr0::Xcr0;
use crate::domain::cpuid::HostCpu;
use crate::hypercall::{Call, mmuext_op};
use crate::mm::{HostGuestSpace, guest_space};
use crate::pv_emul::seam::{
    BadFrame, Base, ConfigAddr, CpuidRegs, GuestBytes, GuestFrames, HostCpuid, HostMsrs, HostPorts,
    PciConfig, Processor,
};
use crate::pv_emul::{Decoded, Fault, Outcome, StoreOp, Width, execute, finish};
use crate::pv_mm::update::{self, Store};
use crate::pv_mm::walk;
use crate::pv_mm::{PtError, pte};
use core::sync::atomic::Ordering;

/// The machine as emulation for one vCPU reaches it.
struct Host {
    /// Whose vCPU it is.
    domain: DomId,
    /// The guest kernel's address space.
    kernel: HostGuestSpace,
    /// The address space that is loaded.
    current: HostGuestSpace,
}

impl HostPorts for Host {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        machine::port_in(port, width.bytes() as u8)
    }

    fn port_out(&self, port: u16, width: Width, value: u32) {
        machine::port_out(port, width.bytes() as u8, value);
    }
}

impl PciConfig for Host {
    fn config_read(&self, at: ConfigAddr, width: Width) -> u32 {
        machine::pci_read(at.bdf, at.offset, width.bytes() as u8)
    }

    fn config_write(&self, at: ConfigAddr, width: Width, value: u32) {
        machine::pci_write(at.bdf, at.offset, width.bytes() as u8, value);
    }
}

impl HostMsrs for Host {
    fn read_msr(&self, msr: u32) -> Option<u64> {
        machine::read_msr_checked(msr)
    }
}

impl HostCpuid for Host {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidRegs {
        HostCpu.cpuid(leaf, subleaf)
    }
}

impl Processor for Host {
    fn base(&self, which: Base) -> u64 {
        match which {
            Base::Fs => machine::fs_base(),
            Base::Gs => machine::gs_base(),
            Base::InactiveGs => machine::inactive_gs_base(),
        }
    }

    fn set_base(&mut self, which: Base, value: u64) {
        match which {
            Base::Fs => machine::set_fs_base(value),
            Base::Gs => machine::set_gs_base(value),
            Base::InactiveGs => machine::set_inactive_gs_base(value),
        }
    }

    fn load_task_switched(&mut self, ts: bool) {
        machine::set_task_switched(ts);
    }

    fn load_cr4(&mut self, guest_bits: u64) {
        machine::load_guest_cr4(guest_bits);
    }

    fn load_xcr0(&mut self, xcr0: Xcr0) {
        machine::set_xcr0(xcr0);
    }

    fn load_debug(&mut self, register: u8, value: u64) {
        machine::set_debug_register(register, value);
    }

    fn load_spec_ctrl(&mut self, value: u64) {
        machine::speculation::load_guest_value(value);
    }

    fn command_prediction(&mut self, value: u64) {
        machine::speculation::command_prediction(value);
    }

    fn load_tsc_aux(&mut self, value: u32) {
        machine::set_tsc_aux(value);
    }

    fn tsc(&self) -> u64 {
        machine::tsc()
    }

    fn wbinvd(&self) {
        machine::wbinvd();
    }
}

impl GuestBytes for Host {
    fn read_kernel(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa> {
        self.kernel.read_bytes(from, to).map_err(|f| f.0)
    }

    fn read_guest(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa> {
        self.current.read_bytes(from, to).map_err(|f| f.0)
    }

    fn write_guest(&self, to: GuestVa, from: &[u8]) -> Result<(), GuestVa> {
        self.current.write_bytes(to, from).map_err(|f| f.0)
    }
}

impl GuestFrames for Host {
    fn fill_hypercall_page(&mut self, frame: Mfn) -> Result<(), BadFrame> {
        let mm = crate::mm::host::get();
        mm.get_writable(frame, self.domain).map_err(|_| BadFrame)?;
        crate::mm::frame_io::write(&mm.mem, frame, 0, &crate::domain::hypercall_page());
        mm.put_writable(frame);
        Ok(())
    }
}

/// Tries to emulate the instruction that raised #GP(0). `false`: the guest's own
/// mistake.
pub fn privileged(call: &mut Call<'_>) -> bool {
    emulate(call, false)
}

/// Tries the forced-emulation prefix on #UD. `false`: an ordinary #UD.
pub fn forced(call: &mut Call<'_>) -> bool {
    emulate(call, true)
}

fn emulate(call: &mut Call<'_>, forced: bool) -> bool {
    let Some(kernel_root) = call.state.kernel_root else {
        return false;
    };
    let root = if call.state.kernel_mode {
        Some(kernel_root)
    } else {
        call.state.user_root
    };
    let Some(root) = root else { return false };
    let mut host = Host {
        domain: call.domain.id,
        kernel: guest_space(kernel_root),
        current: guest_space(root),
    };
    let (bytes, n) = host.current.fetch(GuestVa(call.regs.rip));
    let decoded = if forced {
        Decoded::forced(&bytes[..n])
    } else {
        Decoded::at(&bytes[..n])
    };
    let Some(decoded) = decoded else { return false };
    let mut view = call
        .state
        .emulation_view(call.regs, call.domain, call.vcpu.id);
    let outcome = execute(
        &mut host,
        call.domain.cpu_policy(),
        &call.domain.io,
        &mut view,
        decoded,
        forced,
    );
    let outcome = match outcome {
        Outcome::Root(root) => match mmuext_op::load_root(call, root) {
            Ok(true) => finish(call.regs, decoded),
            Ok(false) => Outcome::Again,
            Err(_) => Outcome::Fault(Fault::GeneralProtection),
        },
        other => other,
    };
    let delivered = match outcome {
        Outcome::Done | Outcome::Again | Outcome::Root(_) => return true,
        Outcome::DoneTraced => {
            call.state.debug[6] |= 1 << 14;
            bounce::exception(call, 1, None)
        }
        Outcome::Fault(Fault::GeneralProtection) => bounce::exception(call, 13, Some(0)),
        Outcome::Fault(Fault::InvalidOpcode) => bounce::exception(call, 6, None),
        Outcome::Fault(Fault::Page { address, write }) => {
            bounce::page_fault(call, if write { 2 } else { 0 }, address.0)
        }
    };
    super::exceptions::crash_if_undeliverable(call, delivered);
    true
}

/// Skips a write of the guest kernel's to `va` if device memory is mapped there that it
/// may only read. `false`: an ordinary fault.
pub fn device_write(call: &mut Call<'_>, va: GuestVa) -> bool {
    let Some(root) = call.state.kernel_root else {
        return false;
    };
    let mm = crate::mm::host::get();
    let Some(slot) = walk::find_l1(&mm.mem, root, va) else {
        return false;
    };
    let entry = slot.word(&mm.mem).load(Ordering::Relaxed);
    let frame = pte::frame(entry);
    if entry & pte::P == 0 || mm.frames.ram(frame).is_some() || !crate::irq::holds_messages(frame) {
        return false;
    }
    let (bytes, n) = guest_space(root).fetch(GuestVa(call.regs.rip));
    let Some(op) = StoreOp::decode(&bytes[..n], call.regs, va) else {
        return false;
    };
    if op.commit(u64::MAX, call.regs) {
        call.state.debug[6] |= 1 << 14;
        let delivered = bounce::exception(call, 1, None);
        super::exceptions::crash_if_undeliverable(call, delivered);
    }
    true
}

/// Tries to emulate a write of the guest kernel's to `va`, which is present but not
/// writable, as an update of one of its L1 tables. `false`: an ordinary fault.
pub fn page_table_write(call: &mut Call<'_>, va: GuestVa) -> bool {
    let Some(root) = call.state.kernel_root else {
        return false;
    };
    let mm = crate::mm::host::get();
    let Some(target) = walk::table_slot_at(mm, call.domain.id, root, va) else {
        return false;
    };
    let (bytes, n) = guest_space(root).fetch(GuestVa(call.regs.rip));
    let Some(op) = StoreOp::decode(&bytes[..n], call.regs, va) else {
        return false;
    };
    let rights = call.domain.rights();
    loop {
        let old = target.word(&mm.mem).load(Ordering::Acquire);
        let new = op.merge(old);
        if new != old {
            match update::write_l1(mm, &rights, target, new, Store::IfEquals(old)) {
                Ok(_) => {}
                Err(PtError::Changed) => continue,
                Err(_) => return false,
            }
        }
        if op.commit(old, call.regs) {
            call.state.debug[6] |= 1 << 14;
            let delivered = bounce::exception(call, 1, None);
            super::exceptions::crash_if_undeliverable(call, delivered);
        }
        return true;
    }
}
