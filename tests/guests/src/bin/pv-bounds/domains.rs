//! The life of other domains, as large as they may be.

use crate::host;
use crate::memory::{memory_op, reservation};
use crate::row::{answers, row};
use crate::tables::Tree;
use test_guests::hypercall::{address_of, call, mmu_update_for, mmuext_op};
use test_guests::memory::{DATA, Page, TABLE, USER};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext};
use xen_abi::domctl::*;
use xen_abi::memory::XENMEM_POPULATE_PHYSMAP;
use xen_abi::xen::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Most vCPUs of a domain.
const VCPUS: u32 = 32;
/// Its pages, in KiB: 64 MiB.
const KIB: u64 = 64 << 10;

/// Makes a `domctl`.
pub fn domctl<T: IntoBytes + FromBytes + Immutable + KnownLayout>(
    cmd: u32,
    domain: &mut u16,
    body: &mut T,
) -> i64 {
    let mut op = XenDomctl::new_zeroed();
    op.cmd = cmd;
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op.domain = *domain;
    let size = size_of::<T>();
    op.u.as_mut_bytes()[..size].copy_from_slice(body.as_bytes());
    let rc = call(HYPERVISOR_DOMCTL, [address_of(&mut op), 0, 0, 0, 0]);
    *domain = op.domain;
    body.as_mut_bytes()
        .copy_from_slice(&op.u.as_bytes()[..size]);
    rc
}

fn create(vcpus: u32) -> (i64, u16) {
    let mut body = XenDomctlCreatedomain::new_zeroed();
    body.max_vcpus = vcpus;
    body.max_evtchn_port = 131_071;
    body.max_grant_frames = 64;
    body.max_maptrack_frames = 1024;
    body.grant_opts = 1;
    let mut id = 0;
    let rc = domctl(XEN_DOMCTL_CREATEDOMAIN, &mut id, &mut body);
    (rc, id)
}

pub fn rows(_: &Tree) {
    let mut id = 0;
    row("domctl createdomain", || {
        let (rc, number) = create(VCPUS);
        id = number;
        rc == 0
    });
    answers("domctl max_vcpus", 0, || {
        domctl(
            XEN_DOMCTL_MAX_VCPUS,
            &mut id,
            &mut XenDomctlMaxVcpus { max: VCPUS },
        )
    });
    answers("domctl max_mem", 0, || {
        domctl(
            XEN_DOMCTL_MAX_MEM,
            &mut id,
            &mut XenDomctlMaxMem { max_memkb: KIB },
        )
    });
    let frames = fill(id);
    tables(id, frames);
    frame_infos(id, frames);
    let mut nothing = 0_u64;
    answers("domctl pausedomain", 0, || {
        domctl(XEN_DOMCTL_PAUSEDOMAIN, &mut id, &mut nothing)
    });
    answers("domctl unpausedomain", 0, || {
        domctl(XEN_DOMCTL_UNPAUSEDOMAIN, &mut id, &mut nothing)
    });
    answers("domctl destroydomain", 0, || {
        domctl(XEN_DOMCTL_DESTROYDOMAIN, &mut id, &mut nothing)
    });
    crowd();
}

/// Gives it all its memory; its first frames.
fn fill(id: u16) -> &'static [u64; 1024] {
    static FRAMES: Frames = Frames(core::cell::UnsafeCell::new([0; 1024]));
    // SAFETY: one vCPU; taken once.
    let frames = unsafe { &mut *FRAMES.0.get() };
    for (n, pfn) in frames.iter_mut().enumerate() {
        *pfn = n as u64;
    }
    answers("populate_physmap for another domain", 1024, || {
        memory_op(
            XENMEM_POPULATE_PHYSMAP,
            &mut reservation(frames, 1024, 0, id),
        )
    });
    let mut rest = [0_u64; 29];
    for (n, pfn) in rest.iter_mut().enumerate() {
        *pfn = 1024 + n as u64 * 512;
    }
    memory_op(
        XENMEM_POPULATE_PHYSMAP,
        &mut reservation(&mut rest, 29, 9, id),
    );
    frames
}

struct Frames(core::cell::UnsafeCell<[u64; 1024]>);
// SAFETY: one vCPU.
unsafe impl Sync for Frames {}

/// Writes a full address space of 512 L1 tables into its frames, and gives vCPU 0 a context on it.
fn tables(id: u16, frames: &[u64; 1024]) {
    let window = Page::take();
    let [l4, l3, l2, target] = [0, 1, 2, 3].map(|n| frames[n]);
    let l1 = &frames[4..516];
    let write = |frame: u64, fill: &dyn Fn(usize) -> u64| {
        let own = window.mfn();
        let rc = call(
            HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN,
            [
                window.va(),
                frame << 12 | DATA,
                UVMF_INVLPG,
                u64::from(id),
                0,
            ],
        );
        assert_eq!(rc, 0);
        for n in 0..512 {
            window.write(n, fill(n));
        }
        let _ = own;
    };
    for frame in l1 {
        write(*frame, &|_| target << 12 | DATA | USER);
    }
    write(l2, &|n| l1[n] << 12 | TABLE | USER);
    write(l3, &|n| if n == 0 { l2 << 12 | TABLE | USER } else { 0 });
    write(l4, &|n| if n == 0 { l3 << 12 | TABLE | USER } else { 0 });
    call(
        HYPERVISOR_UPDATE_VA_MAPPING,
        [window.va(), 0, UVMF_INVLPG, 0, 0],
    );
    let pin = |cmd, frame| {
        let mut op = MmuextOp {
            cmd,
            _pad: 0,
            arg1: frame,
            arg2: 0,
        };
        call(
            HYPERVISOR_MMUEXT_OP,
            [address_of(&mut op), 1, 0, u64::from(id), 0],
        )
    };
    answers("mmuext pin of another domain's L4 table", 0, || {
        pin(MMUEXT_PIN_L4_TABLE, l4)
    });
    answers("mmuext unpin of it", 0, || pin(MMUEXT_UNPIN_TABLE, l4));
    static CONTEXT: Context = Context(core::cell::UnsafeCell::new([0; 646]));
    // SAFETY: one vCPU; plain data of that size.
    let context = unsafe { &mut *CONTEXT.0.get().cast::<VcpuGuestContext>() };
    context.zero();
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rflags = 0x200;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.ctrlreg[3] = l4 << 12;
    context.ctrlreg[1] = l4 << 12;
    let mut body = XenDomctlVcpucontext {
        vcpu: 0,
        _pad: 0,
        ctxt: address_of(context),
    };
    let mut number = id;
    answers("domctl setvcpucontext on full tables", 0, || {
        domctl(XEN_DOMCTL_SETVCPUCONTEXT, &mut number, &mut body)
    });
    answers("domctl setvcpucontext again", 0, || {
        domctl(XEN_DOMCTL_SETVCPUCONTEXT, &mut number, &mut body)
    });
    answers("domctl getvcpucontext", 0, || {
        domctl(XEN_DOMCTL_GETVCPUCONTEXT, &mut number, &mut body)
    });
    let _ = (mmu_update_for, mmuext_op);
}

struct Context(core::cell::UnsafeCell<[u64; 646]>);
// SAFETY: one vCPU.
unsafe impl Sync for Context {}

fn frame_infos(id: u16, frames: &[u64; 1024]) {
    let mut asked = *frames;
    let mut body = XenDomctlGetpageframeinfo3 {
        num: 1024,
        array: address_of(&mut asked),
    };
    let mut number = id;
    answers("domctl getpageframeinfo3 of 1024", 0, || {
        domctl(XEN_DOMCTL_GETPAGEFRAMEINFO3, &mut number, &mut body)
    });
}

/// Many small domains.
fn crowd() {
    const MANY: usize = 200;
    let mut ids = [0_u16; MANY];
    let mut made = 0;
    row("domctl createdomain, 200 times", || {
        for id in &mut ids {
            let (rc, number) = create(1);
            if rc != 0 {
                break;
            }
            *id = number;
            made += 1;
        }
        made == MANY
    });
    row("sysctl getdomaininfolist of 200", || {
        host::list_domains() as usize > made
    });
    row("domctl getdomaininfo", || {
        let mut id = ids[made - 1];
        let mut info = XenDomctlGetdomaininfo::new_zeroed();
        domctl(XEN_DOMCTL_GETDOMAININFO, &mut id, &mut info) == 0
    });
    row("domctl destroydomain, 200 times", || {
        ids[..made].iter_mut().all(|id| {
            let mut nothing = 0_u64;
            domctl(XEN_DOMCTL_DESTROYDOMAIN, id, &mut nothing) == 0
        })
    });
}
