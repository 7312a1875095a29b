use super::*;
use proptest::prelude::*;

/// A host that has every feature there is.
struct Host {
    vendor: &'static [u8; 12],
    basic: u32,
    extended: u32,
    states: u32,
}

const ALL: CpuidRegs = CpuidRegs {
    eax: u32::MAX,
    ebx: u32::MAX,
    ecx: u32::MAX,
    edx: u32::MAX,
};

impl HostCpuid for Host {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidRegs {
        let word =
            |n: usize| u32::from_le_bytes(self.vendor[n..n + 4].try_into().expect("four bytes"));
        match (leaf, subleaf) {
            (0 | EXTENDED, _) => CpuidRegs {
                eax: if leaf == 0 { self.basic } else { self.extended },
                ebx: word(0),
                edx: word(4),
                ecx: word(8),
            },
            (0xd, 0) => CpuidRegs {
                eax: self.states,
                ..ALL
            },
            (0xd, 1) => ALL,
            // AVX at 576, the rest packed after it, 64 bytes each.
            (0xd, 2) => CpuidRegs {
                eax: 256,
                ebx: 576,
                ecx: 0,
                edx: 7,
            },
            (0xd, n) => CpuidRegs {
                eax: 64,
                ebx: 832 + (n - 3) * 64,
                ecx: 0,
                edx: 7,
            },
            _ => ALL,
        }
    }
}

const INTEL: Host = Host {
    vendor: b"GenuineIntel",
    basic: 0x20,
    extended: 0x8000_0008,
    states: u32::MAX,
};

const AMD: Host = Host {
    vendor: b"AuthenticAMD",
    basic: 0x10,
    extended: 0x8000_0023,
    states: 0x207,
};

const KERNEL: Asker = Asker {
    cr4: 0,
    xcr0: 3,
    hardware_domain: true,
    kernel_mode: true,
    forced: true,
};

const USER: Asker = Asker {
    cr4: 0,
    xcr0: 3,
    hardware_domain: false,
    kernel_mode: false,
    forced: false,
};

fn policy(host: &Host) -> Policy {
    let time = TimeFacts {
        tsc_khz: 2_000_000,
        cpu_khz: 2_100_000,
        mul: 0x8000_0000,
        shift: -1,
        tsc_safe: true,
    };
    Policy::new(host, time)
}

fn clear(value: u32, list: &[u32]) {
    for n in list {
        assert_eq!(value >> n & 1, 0, "bit {n} of {value:#x}");
    }
}

fn set(value: u32, list: &[u32]) {
    for n in list {
        assert_eq!(value >> n & 1, 1, "bit {n} of {value:#x}");
    }
}

#[test]
fn leaf_1_hides_and_shows() {
    for host in [&INTEL, &AMD] {
        let p = policy(host);
        for asker in [&KERNEL, &USER] {
            let r = p.leaf(host, asker, 1, 0);
            // VME PSE PGE PSE36 PSN DS TM IA64 PBE
            clear(r.edx, &[1, 3, 13, 17, 18, 21, 29, 30, 31]);
            // FPU DE TSC MSR PAE MCE CX8 APIC SEP MCA CMOV PAT FXSR SSE SSE2
            set(r.edx, &[0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 24, 25, 26]);
            // DTES64 MONITOR DSCPL VMX SMX TM2 PDCM PCID DCA X2APIC TSC_DEADLINE
            clear(r.ecx, &[2, 3, 4, 5, 6, 8, 15, 17, 18, 21, 24]);
            // SSE3 CX16 XSAVE AVX HYPERVISOR
            set(r.ecx, &[0, 13, 26, 28, 31]);
            assert_eq!(r.ebx >> 24, 0, "APIC id");
        }
    }
}

#[test]
fn mtrr_and_eist_are_for_the_hardware_domains_kernel() {
    let p = policy(&INTEL);
    let shown = |asker: &Asker| {
        let r = p.leaf(&INTEL, asker, 1, 0);
        (r.edx & MTRR != 0, r.ecx & EIST != 0)
    };
    assert_eq!(shown(&KERNEL), (true, true));
    assert_eq!(shown(&USER), (false, false));
    let user_of_dom0 = Asker {
        kernel_mode: false,
        ..KERNEL
    };
    assert_eq!(shown(&user_of_dom0), (false, false));
    let other_kernel = Asker {
        hardware_domain: false,
        ..KERNEL
    };
    assert_eq!(shown(&other_kernel), (false, false));
}

#[test]
fn osxsave_shows_when_set_and_to_kernels_that_ask_by_force() {
    let p = policy(&INTEL);
    let shown = |asker: &Asker| p.leaf(&INTEL, asker, 1, 0).ecx & OSXSAVE != 0;
    assert!(shown(&KERNEL));
    assert!(!shown(&Asker {
        forced: false,
        ..KERNEL
    }));
    assert!(!shown(&USER));
    assert!(shown(&Asker {
        cr4: CR4_OSXSAVE,
        ..USER
    }));
    // Nothing to show without XSAVE.
    let old = Host { states: 1, ..INTEL };
    let p = policy(&old);
    let r = p.leaf(&old, &KERNEL, 1, 0);
    clear(r.ecx, &[12, 26, 27, 28, 29]);
    assert_eq!((p.xcr0(), p.cr4() & CR4_OSXSAVE), (0, 0));
    assert_eq!(p.leaf(&old, &KERNEL, 0xd, 0), CpuidRegs::default());
}

#[test]
fn leaf_7_hides_and_shows() {
    let p = policy(&INTEL);
    let r = p.leaf(&INTEL, &KERNEL, 7, 0);
    assert_eq!(r.eax, 1);
    // TSC_ADJUST SGX SMEP INVPCID PQM MPX PQE SMAP PROC_TRACE
    clear(r.ebx, &[1, 2, 7, 10, 12, 14, 15, 20, 25]);
    set(r.ebx, &[0, 3, 5, 8, 9, 16, 18]);
    // UMIP PKU OSPKE WAITPKG CET_SS LA57 ENQCMD PKS
    clear(r.ecx, &[2, 3, 4, 5, 7, 16, 29, 31]);
    // PCONFIG CET_IBT AMX, IBRS STIBP L1D_FLUSH ARCH_CAPS CORE_CAPS SSBD
    clear(r.edx, &[18, 20, 22, 24, 25, 26, 27, 28, 29, 30, 31]);
    assert_eq!(p.leaf(&INTEL, &KERNEL, 7, 1).eax, ALLOW_7_1A);
    assert_eq!(p.leaf(&INTEL, &KERNEL, 7, 2), CpuidRegs::default());
    assert_eq!(p.cr4(), control::cr4_allowed(true, true));
}

#[test]
fn avx_512_goes_with_its_state() {
    let p = policy(&AMD);
    assert_eq!(p.xcr0(), 7);
    let r = p.leaf(&AMD, &KERNEL, 7, 0);
    clear(r.ebx, &[16, 17, 21, 26, 27, 28, 30, 31]);
    clear(r.ecx, &[1, 6, 11, 12, 14]);
    clear(r.edx, &[2, 3]);
    set(r.ebx, &[5]);
    let sse = Host { states: 3, ..AMD };
    let r = policy(&sse).leaf(&sse, &KERNEL, 7, 0);
    clear(r.ebx, &[5, 16]);
    let r = policy(&sse).leaf(&sse, &KERNEL, 1, 0);
    clear(r.ecx, &[12, 28, 29]);
    set(r.ecx, &[26]);
}

#[test]
fn leaf_d_follows_xcr0() {
    let p = policy(&INTEL);
    let r = p.leaf(&INTEL, &KERNEL, 0xd, 0);
    assert_eq!((r.eax, r.edx), (0xe7, 0));
    assert_eq!((r.ebx, r.ecx), (576, 832 + 5 * 64));
    let avx = Asker { xcr0: 7, ..KERNEL };
    assert_eq!(p.leaf(&INTEL, &avx, 0xd, 0).ebx, 832);
    // XSAVES is not offered.
    assert_eq!(p.leaf(&INTEL, &avx, 0xd, 1).eax, 7);
    let part = p.leaf(&INTEL, &avx, 0xd, 2);
    assert_eq!((part.eax, part.ebx, part.edx), (256, 576, 0));
    // MPX, PKRU and what does not exist.
    for n in [3, 4, 8, 9, 62, 63, 64, u32::MAX] {
        assert_eq!(p.leaf(&INTEL, &avx, 0xd, n), CpuidRegs::default(), "{n}");
    }
}

#[test]
fn extended_leaves() {
    for host in [&INTEL, &AMD] {
        let p = policy(host);
        let r = p.leaf(host, &KERNEL, EXTENDED + 1, 0);
        // SYSCALL NX RDTSCP LM, but not PAGE1GB
        set(r.edx, &[11, 20, 27, 29]);
        clear(r.edx, &[3, 13, 17, 26]);
        // SVM EXTAPIC CR8_LEGACY OSVW IBS SKINIT WDT LWP NODEID TOPOEXT PERFCTR BPEXT MONITORX
        clear(r.ecx, &[2, 3, 4, 9, 10, 12, 13, 15, 19, 22, 23, 24, 26, 29]);
        let r = p.leaf(host, &KERNEL, EXTENDED + 8, 0);
        // IBPB INT_WBINVD IBRS STIBP SSBD
        clear(r.ebx, &[12, 13, 14, 15, 24, 25, 26]);
        assert_eq!(p.leaf(host, &KERNEL, EXTENDED + 7, 0).edx, 1 << 8);
        assert_eq!(
            p.leaf(host, &KERNEL, EXTENDED + 0xa, 0),
            CpuidRegs::default()
        );
    }
    // AMD repeats leaf 1.
    set(
        policy(&AMD).leaf(&AMD, &KERNEL, EXTENDED + 1, 0).edx,
        &[0, 4, 9, 24],
    );
    clear(
        policy(&INTEL).leaf(&INTEL, &KERNEL, EXTENDED + 1, 0).edx,
        &[0, 4, 9, 24],
    );
    assert_eq!(
        policy(&INTEL).leaf(&INTEL, &KERNEL, EXTENDED, 0).eax,
        EXTENDED + 8
    );
    let amd = policy(&AMD);
    assert_eq!(amd.leaf(&AMD, &KERNEL, EXTENDED, 0).eax, EXTENDED + 0x21);
    assert_eq!(
        amd.leaf(&AMD, &KERNEL, EXTENDED + 0x21, 0).eax,
        1 << 2 | 1 << 6
    );
}

#[test]
fn hypervisor_leaves() {
    let p = policy(&INTEL);
    let leaf = |n, sub| p.leaf(&INTEL, &USER, HYPERVISOR_LEAF + n, sub);
    let first = leaf(0, 0);
    assert_eq!(first.eax, 0x4000_0005);
    let name: Vec<u8> = [first.ebx, first.ecx, first.edx]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    assert_eq!(name, b"XenVMMXenVMM");
    assert_eq!(leaf(1, 0).eax, 0x0004_0011);
    let pages = leaf(2, 0);
    assert_eq!((pages.eax, pages.ebx, pages.ecx), (1, 0x4000_0000, 1));
    let time = leaf(3, 0);
    assert_eq!((time.eax, time.ebx, time.ecx), (6, 0, 2_000_000));
    assert_eq!((leaf(3, 1).ecx, leaf(3, 1).edx), (0x8000_0000, 0xff));
    assert_eq!(leaf(3, 2).eax, 2_100_000);
    assert_eq!(leaf(4, 0), CpuidRegs::default());
    assert_eq!(leaf(5, 0).ebx, 44, "grant tables of version 1");
    // Linux looks for other hypervisors in steps of 0x100.
    for base in (0x100..=0xff00).step_by(0x100) {
        assert_eq!(leaf(base, 0), CpuidRegs::default());
    }
}

#[test]
fn leaves_that_are_empty() {
    let p = policy(&INTEL);
    // Serial number, MWAIT, power, DCA, PMU, x2APIC topology, what is past the end.
    for n in [
        3,
        5,
        6,
        8,
        9,
        0xa,
        0xb,
        0xc,
        0xe,
        0x10,
        0x12,
        0x14,
        0x1f,
        0x2000_0000,
        u32::MAX,
    ] {
        assert_eq!(
            p.leaf(&INTEL, &KERNEL, n, 0),
            CpuidRegs::default(),
            "{n:#x}"
        );
    }
    assert_eq!(p.leaf(&INTEL, &KERNEL, 0, 0).eax, 0xd);
    assert_eq!(p.vendor(), Vendor::Intel);
    assert_eq!(policy(&AMD).vendor(), Vendor::Amd);
}

#[test]
fn an_old_host_stays_old() {
    let old = Host {
        basic: 1,
        extended: 0,
        ..INTEL
    };
    let p = policy(&old);
    assert_eq!(p.leaf(&old, &KERNEL, 0, 0).eax, 1);
    assert_eq!(p.leaf(&old, &KERNEL, 7, 0), CpuidRegs::default());
    assert_eq!(p.leaf(&old, &KERNEL, EXTENDED + 1, 0), CpuidRegs::default());
    assert_eq!(p.xcr0(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 500 }))]

    #[test]
    fn any_leaf_answers(leaf: u32, sub: u32, cr4: u64, xcr0: u64, forced: bool) {
        let asker = Asker { cr4, xcr0, hardware_domain: true, kernel_mode: true, forced };
        let _ = policy(&AMD).leaf(&AMD, &asker, leaf, sub);
        let _ = policy(&INTEL).leaf(&INTEL, &asker, leaf & 0x8000_003f, sub);
    }
}

#[test]
fn tools_take_features_away_and_give_none() {
    let none = CpuidRegs::default();
    let host = INTEL;
    let before = Policy::new(&host, TimeFacts::default());
    let asker = Asker {
        xcr0: 3,
        ..Asker::default()
    };
    let show = |policy: &Policy, leaf, sub| policy.leaf(&host, &asker, leaf, sub);
    let features = [(1, 0), (7, 0), (7, 1), (0xd, 0), (0x8000_0001, 0)];
    let mut same = before.clone();
    for (leaf, sub) in features {
        same.restrict(leaf, sub, ALL);
    }
    same.settle();
    for (leaf, sub) in features {
        assert_eq!(show(&same, leaf, sub), show(&before, leaf, sub));
    }
    // Without XSAVE there are no states, and nothing that needs them.
    let mut less = before.clone();
    let leaf1 = show(&before, 1, 0);
    let no_xsave = CpuidRegs {
        ecx: leaf1.ecx & !XSAVE,
        ..leaf1
    };
    less.restrict(1, 0, no_xsave);
    less.settle();
    assert_eq!(less.xcr0(), 0);
    assert_eq!(show(&less, 1, 0).ecx & (XSAVE | NEED_AVX_1C), 0);
    assert_eq!(show(&less, 7, 0).ebx & (NEED_AVX_7B | NEED_AVX512_7B), 0);
    // A guest can always tell that it is one.
    let mut least = before.clone();
    for (leaf, sub) in features {
        least.restrict(leaf, sub, none);
    }
    least.settle();
    assert_eq!(show(&least, 1, 0).ecx, HYPERVISOR);
    assert_eq!(show(&least, 7, 1), none);
}
