//! What the command line says of mitigations: `None` leaves the choice to the CPU.

/// `spec-ctrl=`, `xpti=`, `pv-l1tf=`, `smt=` and `tsx=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the options'")]
pub struct Choices {
    /// `spec-ctrl=msr-sc`, `pv`: whether guests get `SPEC_CTRL` and the hypervisor a value of its own.
    pub msr_sc: Option<bool>,
    /// `rsb`: whether the return stack is refilled on entry.
    pub rsb: Option<bool>,
    /// `verw`, `md-clear`: whether buffers are cleared before a guest runs.
    pub verw: Option<bool>,
    /// `ibpb-entry`: whether predictions are forgotten on entry.
    pub ibpb_entry: Option<bool>,
    /// The same of entries from dom0.
    pub ibpb_entry_dom0: Option<bool>,
    /// `bhb-entry`: whether the branch history is cleared on entry.
    pub bhb_entry: Option<bool>,
    /// The same of entries from dom0.
    pub bhb_entry_dom0: Option<bool>,
    /// `bhb-seq=`: how.
    pub bhb_seq: Option<Sequence>,
    pub ibrs: Option<bool>,
    pub stibp: Option<bool>,
    pub ssbd: Option<bool>,
    pub psfd: Option<bool>,
    pub bhi_dis_s: Option<bool>,
    /// `ibpb`: whether predictions are forgotten between domains.
    pub ibpb: Option<bool>,
    pub srb_lock: Option<bool>,
    pub unpriv_mmio: Option<bool>,
    pub gds_mit: Option<bool>,
    pub div_scrub: Option<bool>,
    pub bp_spec_reduce: Option<bool>,
    /// `xpti=dom0`: whether dom0 is isolated from the hypervisor's memory.
    pub xpti_dom0: Option<bool>,
    /// `xpti=domu`: whether other domains are.
    pub xpti_domu: Option<bool>,
    /// `pv-l1tf=domu`: whether absent page-table entries of other domains than dom0 are checked.
    pub l1tf: Option<bool>,
    /// `smt=`: whether the sibling threads of a core are used.
    pub smt: Option<bool>,
    /// `tsx=`: whether transactions are left on.
    pub tsx: Option<bool>,
}

/// A sequence of branches that overwrites the branch history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// None.
    Nothing,
    /// For CPUs before Alder Lake.
    Short,
    /// For Alder Lake and later.
    Long,
}

impl Choices {
    /// `spec-ctrl=no-xen`: the hypervisor protects neither itself nor one domain from another.
    pub fn turn_off(&mut self) {
        *self = Self {
            msr_sc: self.msr_sc,
            xpti_dom0: self.xpti_dom0,
            xpti_domu: self.xpti_domu,
            l1tf: self.l1tf,
            smt: self.smt,
            tsx: self.tsx,
            rsb: Some(false),
            verw: Some(false),
            ibpb_entry: Some(false),
            ibpb_entry_dom0: Some(false),
            bhb_entry: Some(false),
            bhb_entry_dom0: Some(false),
            bhb_seq: Some(Sequence::Nothing),
            ibrs: Some(false),
            stibp: Some(false),
            psfd: Some(false),
            bhi_dis_s: Some(false),
            ssbd: Some(false),
            ibpb: Some(false),
            srb_lock: Some(false),
            unpriv_mmio: Some(false),
            gds_mit: Some(false),
            div_scrub: Some(false),
            bp_spec_reduce: Some(false),
        };
    }

    /// `spec-ctrl=no`: no mitigation at all, but those that were asked for before.
    pub fn turn_all_off(&mut self) {
        self.turn_off();
        self.msr_sc = Some(false);
        self.xpti_dom0 = self.xpti_dom0.or(Some(false));
        self.xpti_domu = self.xpti_domu.or(Some(false));
        self.l1tf = self.l1tf.or(Some(false));
        self.smt = self.smt.or(Some(true));
        self.tsx = self.tsx.or(Some(true));
    }
}
