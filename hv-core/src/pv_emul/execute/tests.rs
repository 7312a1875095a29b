//! Instructions and MSRs on a fake machine.

use super::*;
use crate::arch::regs::RFLAGS_TF;
use crate::pv_emul::cpuid::TimeFacts;
use crate::pv_emul::seam::{
    BadFrame, Base, ConfigAddr, CpuidRegs, GuestBytes, GuestFrames, HostCpuid, HostMsrs, HostPorts,
    PciConfig,
};
use core::cell::RefCell;
use proptest::prelude::*;

/// What reached the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Out(u16, u32),
    Base(Base, u64),
    TaskSwitched(bool),
    Cr4(u64),
    Xcr0(u64),
    Debug(u8, u64),
    TscAux(u32),
    SpecCtrl(u64),
    Predictions(u64),
    Wbinvd,
    HypercallPage(Mfn),
}

struct Fake {
    seen: RefCell<Vec<Seen>>,
    memory: RefCell<[u8; 256]>,
    amd: bool,
}

impl Fake {
    fn new() -> Self {
        Self {
            seen: RefCell::default(),
            memory: RefCell::new([0; 256]),
            amd: false,
        }
    }

    fn note(&self, what: Seen) {
        self.seen.borrow_mut().push(what);
    }
}

impl HostPorts for Fake {
    fn port_in(&self, _: u16, width: Width) -> u32 {
        0x1234_5678 & width.mask() as u32
    }
    fn port_out(&self, port: u16, _: Width, value: u32) {
        self.note(Seen::Out(port, value));
    }
}

impl PciConfig for Fake {
    fn config_read(&self, _: ConfigAddr, _: Width) -> u32 {
        0
    }
    fn config_write(&self, _: ConfigAddr, _: Width, _: u32) {}
}

impl HostMsrs for Fake {
    fn read_msr(&self, msr: u32) -> Option<u64> {
        match msr {
            0xc000_0080 => Some(0x1d01),
            0x1a0 => Some(1 << 18 | 1 << 7 | 1),
            0x8b => Some(0x1234_0000_0000),
            0xc001_0010 => Some(0x100),
            _ => None,
        }
    }
}

impl HostCpuid for Fake {
    fn cpuid(&self, leaf: u32, _: u32) -> CpuidRegs {
        let name: [u32; 3] = if self.amd {
            [0x6874_7541, 0x444d_4163, 0x6974_6e65]
        } else {
            [0x756e_6547, 0x6c65_746e, 0x4965_6e69]
        };
        let [ebx, ecx, edx] = name;
        match leaf {
            0 => CpuidRegs {
                eax: 0xd,
                ebx,
                ecx,
                edx,
            },
            0x8000_0000 => CpuidRegs {
                eax: 0x8000_0008,
                ..CpuidRegs::default()
            },
            _ => CpuidRegs {
                eax: u32::MAX,
                ebx: u32::MAX,
                ecx: u32::MAX,
                edx: u32::MAX,
            },
        }
    }
}

impl Processor for Fake {
    fn base(&self, which: Base) -> u64 {
        match which {
            Base::Fs => 1,
            Base::Gs => 2,
            Base::InactiveGs => 3,
        }
    }
    fn set_base(&mut self, which: Base, value: u64) {
        self.note(Seen::Base(which, value));
    }
    fn load_task_switched(&mut self, ts: bool) {
        self.note(Seen::TaskSwitched(ts));
    }
    fn load_cr4(&mut self, guest_bits: u64) {
        self.note(Seen::Cr4(guest_bits));
    }
    fn load_xcr0(&mut self, xcr0: Xcr0) {
        self.note(Seen::Xcr0(xcr0.raw()));
    }
    fn load_debug(&mut self, register: u8, value: u64) {
        self.note(Seen::Debug(register, value));
    }
    fn load_spec_ctrl(&mut self, value: u64) {
        self.note(Seen::SpecCtrl(value));
    }
    fn command_prediction(&mut self, value: u64) {
        self.note(Seen::Predictions(value));
    }
    fn load_tsc_aux(&mut self, value: u32) {
        self.note(Seen::TscAux(value));
    }
    fn tsc(&self) -> u64 {
        0x1_0000_0002
    }
    fn wbinvd(&self) {
        self.note(Seen::Wbinvd);
    }
}

/// Guest memory is 256 bytes from here on.
const MEMORY: u64 = 0x1000;

impl GuestBytes for Fake {
    fn read_kernel(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa> {
        self.read_guest(from, to)
    }
    fn read_guest(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa> {
        let at = from.0.checked_sub(MEMORY).ok_or(from)? as usize;
        let memory = self.memory.borrow();
        to.copy_from_slice(memory.get(at..at + to.len()).ok_or(from)?);
        Ok(())
    }
    fn write_guest(&self, to: GuestVa, from: &[u8]) -> Result<(), GuestVa> {
        let at = to.0.checked_sub(MEMORY).ok_or(to)? as usize;
        let mut memory = self.memory.borrow_mut();
        memory
            .get_mut(at..at + from.len())
            .ok_or(to)?
            .copy_from_slice(from);
        Ok(())
    }
}

impl GuestFrames for Fake {
    fn fill_hypercall_page(&mut self, frame: Mfn) -> Result<(), BadFrame> {
        self.note(Seen::HypercallPage(frame));
        Ok(())
    }
}

/// One vCPU on a fake machine.
struct Rig {
    m: Fake,
    policy: Policy,
    io: DomainIo,
    regs: GuestRegs,
    kernel_mode: bool,
    hardware_domain: bool,
    architectural_iopl: bool,
    ts: bool,
    cr2: u64,
    cr4: u64,
    xcr0: Xcr0,
    debug: debug::DebugRegisters,
    tsc_aux: u32,
    spec_ctrl: u64,
    iopl: u8,
    io_bitmap: (GuestVa, u32),
}

impl Rig {
    fn new() -> Self {
        Self::on(Fake::new())
    }

    fn on(m: Fake) -> Self {
        Self {
            policy: Policy::new(&m, TimeFacts::default()),
            m,
            io: DomainIo::new(true),
            regs: GuestRegs::default(),
            kernel_mode: true,
            hardware_domain: true,
            architectural_iopl: false,
            ts: false,
            cr2: 0,
            cr4: 0,
            xcr0: Xcr0::X87_SSE,
            debug: [0; 8],
            tsc_aux: 0,
            spec_ctrl: 0,
            iopl: 1,
            io_bitmap: (GuestVa(0), 0),
        }
    }

    fn run(&mut self, bytes: &[u8]) -> Outcome {
        let insn = Decoded::at(bytes).expect("decodes");
        let mut cpu = CpuView {
            regs: &mut self.regs,
            kernel_mode: self.kernel_mode,
            boot_vcpu: true,
            hardware_domain: self.hardware_domain,
            architectural_iopl: self.architectural_iopl,
            kernel_root: Some(Mfn::new(0x123)),
            task_switched: &mut self.ts,
            cr2: &mut self.cr2,
            cr4: &mut self.cr4,
            xcr0: &mut self.xcr0,
            debug: &mut self.debug,
            tsc_aux: &mut self.tsc_aux,
            spec_ctrl: &mut self.spec_ctrl,
            iopl: self.iopl,
            io_bitmap: self.io_bitmap,
        };
        execute(&mut self.m, &self.policy, &self.io, &mut cpu, insn, false)
    }

    fn rdmsr(&mut self, msr: u32) -> Option<u64> {
        self.regs.rcx = msr.into();
        match self.run(&[0x0f, 0x32]) {
            Outcome::Done => Some(edx_eax(&self.regs)),
            _ => None,
        }
    }

    fn wrmsr(&mut self, msr: u32, value: u64) -> bool {
        self.regs.rcx = msr.into();
        set_edx_eax(&mut self.regs, value);
        self.run(&[0x0f, 0x30]) == Outcome::Done
    }

    fn seen(&self) -> Vec<Seen> {
        self.m.seen.borrow().clone()
    }
}

const GP: Outcome = Outcome::Fault(Fault::GeneralProtection);
const UD: Outcome = Outcome::Fault(Fault::InvalidOpcode);

#[test]
fn control_registers() {
    let mut r = Rig::new();
    assert_eq!(r.run(&[0x0f, 0x20, 0xc0]), Outcome::Done);
    assert_eq!((r.regs.rax, r.regs.rip), (0x8005_0033, 3));
    r.regs.rax |= 8;
    assert_eq!(r.run(&[0x0f, 0x22, 0xc0]), Outcome::Done);
    assert!(r.ts);
    r.regs.rax = 0;
    assert_eq!(r.run(&[0x0f, 0x22, 0xc0]), GP);
    assert_eq!(r.run(&[0x0f, 0x06]), Outcome::Done);
    assert!(!r.ts);
    r.cr2 = 0x5678;
    assert_eq!(r.run(&[0x0f, 0x20, 0xd7]), Outcome::Done);
    assert_eq!(r.regs.rdi, 0x5678);
    assert_eq!(r.run(&[0x0f, 0x20, 0xd8]), Outcome::Done);
    assert_eq!(r.regs.rax, 0x12_3000);
    // A root is loaded by who executes; until then the instruction is not done.
    r.regs.rax = 0xbad_0018;
    let (root, rip) = (Outcome::Root(Mfn::new(0xbad0)), r.regs.rip);
    assert_eq!(r.run(&[0x0f, 0x22, 0xd8]), root);
    assert_eq!(r.regs.rip, rip);
    r.regs.rax = u64::MAX;
    assert_eq!(r.run(&[0x0f, 0x22, 0xd8]), GP);
    // Bits that are not the guest's are dropped.
    r.regs.rax = 0x4_06b4 | 1 << 20;
    assert_eq!(r.run(&[0x0f, 0x22, 0xe0]), Outcome::Done);
    assert_eq!(r.cr4, 0x4_0004);
    assert_eq!(r.run(&[0x0f, 0x20, 0xe0]), Outcome::Done);
    assert_eq!(r.regs.rax, 0x4_0664);
    assert_eq!(
        r.seen(),
        [
            Seen::TaskSwitched(true),
            Seen::TaskSwitched(false),
            Seen::Cr4(0x4_0004),
        ]
    );
}

#[test]
fn user_mode_gets_its_exception() {
    let mut r = Rig::new();
    r.kernel_mode = false;
    for bytes in [
        &[0x0f, 0x20, 0xc0][..],
        &[0x0f, 0x06],
        &[0xfa],
        &[0xec],
        &[0x0f, 0x32],
        &[0x0f, 0x01, 0xd1],
        &[0x0f, 0x09],
    ] {
        assert_eq!(r.run(bytes), GP, "{bytes:x?}");
        assert_eq!(r.regs.rip, 0);
    }
    assert_eq!(r.run(&[0x0f, 0xa2]), Outcome::Done);
    assert_eq!(r.run(&[0x0f, 0x31]), Outcome::Done);
    r.cr4 = CR4_TSD;
    assert_eq!(r.run(&[0x0f, 0x31]), GP);
}

#[test]
fn virtual_iopl() {
    let mut r = Rig::new();
    for (kernel, arch, iopl, ok) in [
        (true, false, 0, false),
        (true, false, 1, true),
        (true, true, 0, true),
        (false, false, 2, false),
        (false, false, 3, true),
        (false, true, 2, false),
    ] {
        (r.kernel_mode, r.architectural_iopl, r.iopl) = (kernel, arch, iopl);
        let expected = if ok { Outcome::Done } else { GP };
        for bytes in [&[0xfa][..], &[0xfb], &[0xec], &[0xee]] {
            assert_eq!(r.run(bytes), expected, "{kernel} {arch} {iopl} {bytes:x?}");
        }
    }
}

#[test]
fn io_bitmap() {
    let mut r = Rig::new();
    r.kernel_mode = false;
    r.iopl = 0;
    r.io_bitmap = (GuestVa(MEMORY), 64);
    *r.m.memory.borrow_mut() = [0xff; 256];
    // Ports 14 to 17 are allowed.
    r.m.memory.borrow_mut()[1] = 0x3f;
    r.m.memory.borrow_mut()[2] = 0xfc;
    for (port, byte, dword) in [
        (13, GP, GP),
        (14, Outcome::Done, Outcome::Done),
        (17, Outcome::Done, GP),
        (18, GP, GP),
        (64, GP, GP),
        (0xffff, GP, GP),
    ] {
        r.regs.rdx = port;
        assert_eq!(r.run(&[0xec]), byte, "{port}");
        assert_eq!(r.run(&[0xed]), dword, "{port}");
    }
    // All allowed, but only so many ports covered.
    *r.m.memory.borrow_mut() = [0; 256];
    r.regs.rdx = 61;
    assert_eq!(r.run(&[0xec]), Outcome::Done);
    assert_eq!(r.run(&[0xed]), GP);
    // The bitmap is not there.
    r.io_bitmap = (GuestVa(0), 65536);
    assert_eq!(r.run(&[0xec]), GP);
}

#[test]
fn port_io_keeps_the_rest_of_rax() {
    let mut r = Rig::new();
    r.regs.rax = u64::MAX;
    r.regs.rdx = 0x3f8;
    assert_eq!(r.run(&[0xec]), Outcome::Done);
    assert_eq!(r.regs.rax, 0xffff_ffff_ffff_ff78);
    assert_eq!(r.run(&[0x66, 0xed]), Outcome::Done);
    assert_eq!(r.regs.rax, 0xffff_ffff_ffff_5678);
    assert_eq!(r.run(&[0xed]), Outcome::Done);
    assert_eq!(r.regs.rax, 0x1234_5678);
    assert_eq!(r.run(&[0xee]), Outcome::Done);
    assert_eq!(r.seen(), [Seen::Out(0x3f8, 0x78)]);
}

#[test]
fn string_io() {
    let mut r = Rig::new();
    r.regs.rdx = 0x1f0;
    r.regs.rdi = MEMORY;
    r.regs.rcx = 3;
    // rep insw
    assert_eq!(r.run(&[0xf3, 0x66, 0x6d]), Outcome::Done);
    assert_eq!((r.regs.rcx, r.regs.rdi), (0, MEMORY + 6));
    assert_eq!(
        r.m.memory.borrow()[..8],
        [0x78, 0x56, 0x78, 0x56, 0x78, 0x56, 0, 0]
    );
    // rep outsb, more than one batch, interrupted
    r.regs.rsi = MEMORY;
    r.regs.rcx = u64::from(REPEAT_BATCH) + 1;
    let rip = r.regs.rip;
    assert_eq!(r.run(&[0xf3, 0x6e]), Outcome::Again);
    assert_eq!((r.regs.rcx, r.regs.rip), (1, rip));
    assert_eq!(r.run(&[0xf3, 0x6e]), Outcome::Done);
    assert_eq!(r.regs.rsi, MEMORY + u64::from(REPEAT_BATCH) + 1);
    assert_eq!(r.seen().len(), REPEAT_BATCH as usize + 1);
    // Nothing to do.
    assert_eq!(r.run(&[0xf3, 0x6e]), Outcome::Done);
    // Off the end: the elements before are done, the port is not read in vain.
    r.regs.rdi = MEMORY + 254;
    r.regs.rcx = 2;
    let fault = Outcome::Fault(Fault::Page {
        address: GuestVa(MEMORY + 256),
        write: true,
    });
    assert_eq!(r.run(&[0xf3, 0x66, 0x6d]), fault);
    assert_eq!((r.regs.rcx, r.regs.rdi), (1, MEMORY + 256));
}

#[test]
fn xsetbv() {
    let mut r = Rig::new();
    let code = [0x0f, 0x01, 0xd1];
    r.regs.rax = 7;
    assert_eq!(r.run(&code), UD);
    r.cr4 = control::CR4_OSXSAVE;
    assert_eq!(r.run(&code), Outcome::Done);
    assert_eq!(r.xcr0.raw(), 7);
    r.regs.rax = 6;
    assert_eq!(r.run(&code), GP);
    r.regs.rax = 7;
    r.regs.rcx = 1;
    assert_eq!(r.run(&code), GP);
    assert_eq!(r.seen(), [Seen::Xcr0(7)]);
}

#[test]
fn debug_registers() {
    let mut r = Rig::new();
    r.regs.rdx = 0x401000;
    assert_eq!(r.run(&[0x0f, 0x23, 0xc2]), Outcome::Done);
    r.regs.rdx = crate::addr::HYPERVISOR_START;
    assert_eq!(r.run(&[0x0f, 0x23, 0xc2]), GP);
    r.cr4 = control::CR4_DE;
    assert_eq!(r.run(&[0x0f, 0x23, 0xe2]), UD);
    assert_eq!(r.run(&[0x0f, 0x21, 0xe2]), UD);
    assert_eq!(r.run(&[0x0f, 0x21, 0xc2]), Outcome::Done);
    assert_eq!(r.regs.rdx, 0x401000);
    assert_eq!(r.seen(), [Seen::Debug(0, 0x401000)]);
}

#[test]
fn single_step_and_resume_flag() {
    let mut r = Rig::new();
    r.regs.rflags = RFLAGS_TF | crate::arch::regs::RFLAGS_RF;
    assert_eq!(r.run(&[0xfa]), Outcome::DoneTraced);
    assert_eq!(r.regs.rflags, RFLAGS_TF);
}

#[test]
fn registers_of_speculation() {
    use crate::arch::speculation::Shown;
    use crate::arch::speculation::bits::{caps, leaf7d};
    const SPEC_CTRL: u32 = 0x48;
    const PRED_CMD: u32 = 0x49;
    const ARCH_CAPABILITIES: u32 = 0x10a;
    let mut r = Rig::new();
    for msr in [SPEC_CTRL, PRED_CMD, ARCH_CAPABILITIES] {
        assert_eq!(r.rdmsr(msr), None, "{msr:#x}");
        assert!(!r.wrmsr(msr, 0), "{msr:#x}");
    }
    let shown = Shown {
        leaf7d: leaf7d::IBRSB | leaf7d::STIBP | leaf7d::SSBD | leaf7d::ARCH_CAPS,
        caps: caps::RDCL_NO,
        ..Shown::default()
    };
    r.policy = Policy::new(&r.m, TimeFacts::default()).showing(&shown);
    assert!(r.wrmsr(SPEC_CTRL, 7));
    assert_eq!(r.rdmsr(SPEC_CTRL), Some(7));
    // PSFD and BHI_DIS_S are not shown.
    assert!(!r.wrmsr(SPEC_CTRL, 1 << 7) && !r.wrmsr(SPEC_CTRL, 1 << 10));
    assert_eq!(r.rdmsr(PRED_CMD), None);
    assert!(r.wrmsr(PRED_CMD, 0) && r.wrmsr(PRED_CMD, 1) && !r.wrmsr(PRED_CMD, 1 << 7));
    assert_eq!(r.rdmsr(ARCH_CAPABILITIES), Some(caps::RDCL_NO));
    assert!(!r.wrmsr(ARCH_CAPABILITIES, caps::RDCL_NO));
    assert_eq!(r.seen(), [Seen::SpecCtrl(7), Seen::Predictions(1)]);
    // Tools take it away, and all that goes with it.
    let none = CpuidRegs::default();
    r.policy.restrict(7, 0, none);
    r.policy.settle();
    assert_eq!(r.rdmsr(SPEC_CTRL), None);
}

#[test]
fn segment_bases_by_msr() {
    let mut r = Rig::new();
    assert_eq!(r.rdmsr(0xc000_0100), Some(1));
    assert_eq!(r.rdmsr(0xc000_0101), Some(2));
    assert_eq!(r.rdmsr(0xc000_0102), Some(3));
    assert!(r.wrmsr(0xc000_0101, 0xffff_8880_0000_0000));
    assert!(!r.wrmsr(0xc000_0101, 1 << 47));
    assert_eq!(r.seen(), [Seen::Base(Base::Gs, 0xffff_8880_0000_0000)]);
}

#[test]
fn msrs_of_any_cpu() {
    let mut r = Rig::new();
    assert_eq!(r.rdmsr(0xc000_0080), Some(0xd01), "EFER without SVME");
    assert!(r.wrmsr(0xc000_0080, 0xd01));
    assert!(!r.wrmsr(0xc000_0080, 0xd00));
    assert_eq!(r.rdmsr(0x277), Some(0x0000_0501_0007_0406));
    assert!(r.wrmsr(0x277, 0x0000_0501_0007_0406) && !r.wrmsr(0x277, 0));
    assert_eq!(r.rdmsr(0x1b), Some(0xfee0_0900));
    assert!(!r.wrmsr(0x1b, 0xfee0_0900));
    assert_eq!(r.rdmsr(0x10), Some(0x1_0000_0002));
    // Machine check: two empty banks, and nothing of the Pentium's.
    assert_eq!((r.rdmsr(0), r.rdmsr(1)), (Some(0), Some(0)));
    assert_eq!(r.rdmsr(0x179), Some(0x100_0c02));
    assert_eq!((r.rdmsr(0x400), r.rdmsr(0x405)), (Some(u64::MAX), Some(0)));
    assert!(r.wrmsr(0x401, 0) && r.wrmsr(0x17a, 0));
    assert_eq!(r.rdmsr(0x408), None);
    // TSC_AUX has 32 bits.
    assert!(r.wrmsr(0xc000_0103, 5) && !r.wrmsr(0xc000_0103, 1 << 32));
    assert_eq!(r.rdmsr(0xc000_0103), Some(5));
    // STAR, LSTAR, SYSENTER, speculation control, a made-up one.
    for msr in [
        0xc000_0081,
        0xc000_0082,
        0x174,
        0x48,
        0x49,
        0x10a,
        0x34,
        0xffff_ffff,
    ] {
        assert_eq!(r.rdmsr(msr), None, "{msr:#x}");
        assert!(!r.wrmsr(msr, 0), "{msr:#x}");
    }
    assert!(r.wrmsr(0x4000_0000, 0x12_3000));
    assert!(!r.wrmsr(0x4000_0000, 0x12_3001));
    assert_eq!(r.rdmsr(0x4000_0000), Some(0));
    assert_eq!(
        r.seen(),
        [Seen::TscAux(5), Seen::HypercallPage(Mfn::new(0x123))]
    );
}

#[test]
fn intel_msrs() {
    let mut r = Rig::new();
    assert_eq!(r.rdmsr(0x1a0), Some(1 << 11 | 1 << 12 | 1 << 23 | 1));
    assert!(r.wrmsr(0x1a0, 0) && r.wrmsr(0x8b, 0) && r.wrmsr(0x140, 0));
    assert!(!r.wrmsr(0x8b, 1) && !r.wrmsr(0x140, 1));
    assert_eq!(r.rdmsr(0x8b), Some(0x1234_0000_0000));
    assert_eq!((r.rdmsr(0x3a), r.rdmsr(0xce)), (Some(1), Some(0)));
    for msr in [0xc001_0015, 0xc001_1029, 0xc001_0010] {
        assert_eq!(r.rdmsr(msr), None);
    }
}

#[test]
fn amd_msrs() {
    let mut r = Rig::on(Fake {
        amd: true,
        ..Fake::new()
    });
    assert_eq!(r.rdmsr(0xc001_1029), Some(2));
    assert_eq!(r.rdmsr(0xc001_0015), Some(0));
    assert!(r.wrmsr(0xc001_0007, 1) && r.wrmsr(0xc001_001f, 1));
    assert_eq!(r.rdmsr(0xc001_0010), Some(0x100));
    r.hardware_domain = false;
    assert_eq!(r.rdmsr(0xc001_0010), None);
    assert!(!r.wrmsr(0x8b, 0));
    for msr in [0x1a0, 0x3a, 0xc001_0058, 0xc001_1020] {
        assert_eq!(r.rdmsr(msr), None, "{msr:#x}");
    }
}

#[test]
fn wbinvd_is_for_who_has_devices() {
    let mut r = Rig::new();
    assert_eq!(r.run(&[0x0f, 0x09]), Outcome::Done);
    r.hardware_domain = false;
    assert_eq!(r.run(&[0x0f, 0x09]), Outcome::Done);
    assert_eq!(r.seen(), [Seen::Wbinvd]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2000 }))]

    #[test]
    fn any_instruction_in_any_state(
        opcode in proptest::sample::select(vec![
            &[0x0f, 0x20][..], &[0x0f, 0x21], &[0x0f, 0x22], &[0x0f, 0x23], &[0x0f, 0x30],
            &[0x0f, 0x32], &[0x0f, 0x31], &[0x0f, 0xa2], &[0x0f, 0x06], &[0x0f, 0x09],
            &[0x0f, 0x01, 0xd1], &[0x0f, 0x01, 0xf9], &[0xe4], &[0xe7], &[0xec], &[0xef],
            &[0xf3, 0x6c], &[0xf2, 0x6f], &[0x6d], &[0x6e], &[0xfa], &[0xfb],
        ]),
        bytes: [u8; 2],
        registers: [u64; 6],
        kernel_mode: bool,
        iopl in 0u8..4,
        ports: u32,
    ) {
        let mut code = opcode.to_vec();
        code.extend(bytes);
        if Decoded::at(&code).is_none() {
            return Ok(()); // CR1, CR8 and so on.
        }
        let mut r = Rig::new();
        let [rax, rcx, rdx, rsi, rdi, rsp] = registers;
        r.regs = GuestRegs { rax, rcx, rdx, rsi, rdi, rsp, ..GuestRegs::default() };
        r.kernel_mode = kernel_mode;
        r.iopl = iopl;
        r.io_bitmap = (GuestVa(MEMORY), ports);
        let before = r.regs;
        match r.run(&code) {
            Outcome::Done => prop_assert!(r.regs.rip > 0 && r.regs.rip <= 15),
            Outcome::DoneTraced => prop_assert!(false, "TF was clear"),
            Outcome::Again | Outcome::Root(_) => prop_assert_eq!(r.regs.rip, 0),
            Outcome::Fault(Fault::Page { .. }) => {}
            Outcome::Fault(_) => prop_assert_eq!(r.regs, before),
        }
    }
}
