//! Names of bits and registers.
//!
//! Sources: Intel SDM volume 4, table 2-2, and Intel's "CPUID Enumeration and Architectural MSRs";
//! AMD APM volume 3, appendix E, and volume 2, 3.2; AMD's papers on speculation, SSBD, SRSO and TSA.

/// Leaf 1 ecx.
pub mod leaf1c {
    /// AVX.
    pub const AVX: u32 = 1 << 28;
    /// There is a hypervisor.
    pub const HYPERVISOR: u32 = 1 << 31;
}

/// Leaf 7.0 ebx.
pub mod leaf7b {
    /// Hardware lock elision.
    pub const HLE: u32 = 1 << 4;
    /// Restricted transactional memory.
    pub const RTM: u32 = 1 << 11;
}

/// Leaf 7.0 edx.
pub mod leaf7d {
    /// `MCU_OPT_CTRL` protects the random number generator (SRBDS).
    pub const SRBDS_CTRL: u32 = 1 << 9;
    /// `verw` clears buffers.
    pub const MD_CLEAR: u32 = 1 << 10;
    /// The package has cores of several kinds.
    pub const HYBRID: u32 = 1 << 15;
    /// `SPEC_CTRL` and `PRED_CMD`.
    pub const IBRSB: u32 = 1 << 26;
    /// `SPEC_CTRL.STIBP`.
    pub const STIBP: u32 = 1 << 27;
    /// `FLUSH_CMD`.
    pub const L1D_FLUSH: u32 = 1 << 28;
    /// `ARCH_CAPABILITIES`.
    pub const ARCH_CAPS: u32 = 1 << 29;
    /// `SPEC_CTRL.SSBD`.
    pub const SSBD: u32 = 1 << 31;
}

/// Leaf 7.2 edx.
pub mod leaf7_2d {
    /// `SPEC_CTRL.PSFD`.
    pub const PSFD: u32 = 1 << 0;
    /// `SPEC_CTRL.BHI_DIS_S`.
    pub const BHI_CTRL: u32 = 1 << 4;
    /// No leak by the timing of data operands.
    pub const MCDT_NO: u32 = 1 << 5;
}

/// Leaf 80000008 ebx (AMD).
pub mod ext8b {
    /// `PRED_CMD.IBPB`.
    pub const IBPB: u32 = 1 << 12;
    /// `SPEC_CTRL.IBRS`.
    pub const IBRS: u32 = 1 << 14;
    /// `SPEC_CTRL.STIBP`.
    pub const STIBP: u32 = 1 << 15;
    /// IBRS is best left on for good.
    pub const IBRS_ALWAYS: u32 = 1 << 16;
    /// STIBP is best left on for good.
    pub const STIBP_ALWAYS: u32 = 1 << 17;
    /// IBRS is better than software's ways.
    pub const IBRS_FAST: u32 = 1 << 18;
    /// IBRS protects a mode from itself.
    pub const IBRS_SAME_MODE: u32 = 1 << 19;
    /// `SPEC_CTRL.SSBD`.
    pub const SSBD: u32 = 1 << 24;
    /// `VIRT_SPEC_CTRL.SSBD`.
    pub const VIRT_SSBD: u32 = 1 << 25;
    /// Loads do not bypass stores.
    pub const SSB_NO: u32 = 1 << 26;
    /// `SPEC_CTRL.PSFD`.
    pub const PSFD: u32 = 1 << 28;
    /// No branch type confusion.
    pub const BTC_NO: u32 = 1 << 29;
    /// IBPB forgets return addresses too.
    pub const IBPB_RET: u32 = 1 << 30;
}

/// Leaf 80000021 eax (AMD).
pub mod ext21a {
    /// `lfence` always waits for what is before it.
    pub const LFENCE: u32 = 1 << 2;
    /// `verw` clears buffers.
    pub const VERW_CLEAR: u32 = 1 << 5;
    /// `EFER.AIBRSE`.
    pub const AUTO_IBRS: u32 = 1 << 8;
    /// `PRED_CMD.SBPB`.
    pub const SBPB: u32 = 1 << 27;
    /// IBPB forgets the types of branches too.
    pub const IBPB_BRTYPE: u32 = 1 << 28;
    /// Return stack does not overflow (SRSO).
    pub const SRSO_NO: u32 = 1 << 29;
    /// Nor across the boundary of user and supervisor mode.
    pub const SRSO_US_NO: u32 = 1 << 30;
    /// `BP_CFG.SPEC_REDUCE`.
    pub const SRSO_MSR_FIX: u32 = 1 << 31;
}

/// Leaf 80000021 ecx (AMD).
pub mod ext21c {
    /// Store queue does not leak (TSA).
    pub const TSA_SQ_NO: u32 = 1 << 1;
    /// First-level cache does not leak (TSA).
    pub const TSA_L1_NO: u32 = 1 << 2;
}

/// `IA32_ARCH_CAPABILITIES`.
pub mod caps {
    /// Not subject to Meltdown and L1TF.
    pub const RDCL_NO: u64 = 1 << 0;
    /// IBRS may be left on.
    pub const EIBRS: u64 = 1 << 1;
    /// Returns may be predicted by other predictors than the return stack.
    pub const RSBA: u64 = 1 << 2;
    /// No flush of the first-level cache is wanted.
    pub const SKIP_L1DFL: u64 = 1 << 3;
    /// Loads do not bypass stores.
    pub const SSB_NO: u64 = 1 << 4;
    /// Not subject to MDS.
    pub const MDS_NO: u64 = 1 << 5;
    /// No machine check by a change of page size.
    pub const PSCHANGE_MC_NO: u64 = 1 << 6;
    /// `TSX_CTRL`.
    pub const TSX_CTRL: u64 = 1 << 7;
    /// Not subject to TAA.
    pub const TAA_NO: u64 = 1 << 8;
    /// Not subject to SBDR and SSDP.
    pub const SBDR_SSDP_NO: u64 = 1 << 13;
    /// Not subject to FBSDP.
    pub const FBSDP_NO: u64 = 1 << 14;
    /// Not subject to PSDP.
    pub const PSDP_NO: u64 = 1 << 15;
    /// `verw` clears fill buffers.
    pub const FB_CLEAR: u64 = 1 << 17;
    /// As RSBA, within the limits of IBRS.
    pub const RRSBA: u64 = 1 << 19;
    /// Not subject to BHI.
    pub const BHI_NO: u64 = 1 << 20;
    /// Not subject to predictions of returns after a barrier.
    pub const PBRSB_NO: u64 = 1 << 24;
    /// `MCU_OPT_CTRL` controls the mitigation of GDS.
    pub const GDS_CTRL: u64 = 1 << 25;
    /// Not subject to GDS.
    pub const GDS_NO: u64 = 1 << 26;
    /// Not subject to RFDS.
    pub const RFDS_NO: u64 = 1 << 27;
    /// `verw` clears register files.
    pub const RFDS_CLEAR: u64 = 1 << 28;
    /// Not subject to ITS. No CPU says so; hypervisors tell guests.
    pub const ITS_NO: u64 = 1 << 62;
}

/// `IA32_SPEC_CTRL`.
pub mod spec_ctrl {
    /// Indirect branches are not predicted from what less privileged code did.
    pub const IBRS: u64 = 1 << 0;
    /// Nor from what the sibling thread did.
    pub const STIBP: u64 = 1 << 1;
    /// Loads do not bypass stores.
    pub const SSBD: u64 = 1 << 2;
    /// Loads are not predicted to read what a store writes.
    pub const PSFD: u64 = 1 << 7;
    /// Supervisor mode does not use the branch history of user mode.
    pub const BHI_DIS_S: u64 = 1 << 10;
}

/// Registers.
pub mod msr {
    /// Microcode revision.
    pub const MICROCODE: u32 = 0x8b;
    /// `SPEC_CTRL`.
    pub const SPEC_CTRL: u32 = 0x48;
    /// `PRED_CMD`.
    pub const PRED_CMD: u32 = 0x49;
    /// `ARCH_CAPABILITIES`.
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    /// `TSX_CTRL`.
    pub const TSX_CTRL: u32 = 0x122;
    /// `MCU_OPT_CTRL`.
    pub const MCU_OPT_CTRL: u32 = 0x123;
    /// `EFER`.
    pub const EFER: u32 = 0xc000_0080;
    /// `VIRT_SPEC_CTRL` (AMD, of hypervisors).
    pub const VIRT_SPEC_CTRL: u32 = 0xc001_011f;
    /// `LS_CFG` (AMD).
    pub const LS_CFG: u32 = 0xc001_1020;
    /// `DE_CFG` (AMD).
    pub const DE_CFG: u32 = 0xc001_1029;
    /// `BP_CFG` (AMD).
    pub const BP_CFG: u32 = 0xc001_102e;
    /// `DE_CFG2` (AMD).
    pub const DE_CFG2: u32 = 0xc001_10e3;
}

/// `PRED_CMD`.
pub mod pred_cmd {
    /// Indirect branch predictions are forgotten.
    pub const IBPB: u64 = 1 << 0;
    /// The same of AMD's, types of branches left out.
    pub const SBPB: u64 = 1 << 7;
}

/// `MCU_OPT_CTRL`.
pub mod mcu_opt {
    /// The random number generator's results may be sampled.
    pub const RNGDS_MITG_DIS: u64 = 1 << 0;
    /// GDS is not mitigated.
    pub const GDS_MIT_DIS: u64 = 1 << 4;
    /// The bit above cannot be changed.
    pub const GDS_MIT_LOCK: u64 = 1 << 5;
}

/// `TSX_CTRL`: transactions abort at once, and CPUID does not show them.
pub const TSX_OFF: u64 = 3;
/// `EFER`: automatic IBRS.
pub const EFER_AIBRSE: u64 = 1 << 21;
/// `DE_CFG`: `lfence` waits for what is before it.
pub const LFENCE_SERIALISES: u64 = 1 << 1;
/// `DE_CFG` of Zen 2: no moves are eliminated, so registers do not leak (Zenbleed).
pub const ZENBLEED: u64 = 1 << 9;
/// `DE_CFG2` of Zen 2: branches that are none are not predicted.
pub const NO_BRANCH_PREDICTION: u64 = 1 << 1;
/// `BP_CFG`: less speculation of returns (SRSO).
pub const SPEC_REDUCE: u64 = 1 << 4;
