//! The frame table against everything that refers to frames.

use super::stop;
use crate::addr::Mfn;
use crate::domain::{Domain, VcpuState, registry};
use crate::mm::frame_table::FrameType;
use crate::mm::{heap, host};
use crate::pv_mm::audit::{self, Held};

/// Findings shown; a mistake made once tends to be made often.
const SHOWN: u64 = 20;

const WRITABLE: Held = Held::Type(FrameType::Writable);

/// Recounts every reference and says whether the frame table agrees.
pub fn verify() {
    stop::with_others_stopped(|| {
        // Named again each time: the tables are locked meanwhile, and the locks of some
        // come after the heap's.
        let name_others = |count: &mut dyn FnMut(Mfn, Held)| {
            for domain in registry::all() {
                of_domain(&domain, count);
            }
        };
        let mut others = 0;
        name_others(&mut |_, _| others += 1);
        let mut found = 0;
        let summary = audit::audit(host::get(), &name_others, |finding| {
            found += 1;
            if found <= SHOWN {
                log::error!("frame table: {finding:?}");
                describe(finding);
            }
        });
        if summary.findings == 0 {
            log::info!(
                "frame table: consistent ({} frames, {} page tables, {} other references)",
                summary.frames,
                summary.tables,
                others
            );
        } else {
            log::error!("frame table: {} differences", summary.findings);
        }
    });
}

/// Shows the record of the frame a finding is about.
fn describe(finding: audit::Finding) {
    use audit::Finding;
    let mfn = match finding {
        Finding::Refs { mfn, .. }
        | Finding::TypeRefs { mfn, .. }
        | Finding::WrongType { mfn, .. }
        | Finding::BadSlot { mfn }
        | Finding::Unnoted { mfn, .. }
        | Finding::FreeList { mfn } => mfn,
        Finding::Total { .. } | Finding::NoMemory => return,
    };
    if let Some(frame) = host::get().frames.get(mfn) {
        log::error!("    {:?}; {:?}", frame.count(), frame.kind());
    }
}

/// Shows how much memory is free and how much each domain has.
pub fn memory() {
    let mm = host::get();
    log::info!(
        "{} frames free; of these no domain gets {}; heap: {} KiB",
        mm.alloc.free_frames(),
        mm.reserve(),
        heap::size() >> 10
    );
    for domain in registry::all() {
        if let Some(account) = mm.accounts.get(domain.id) {
            log::info!(
                "domain {}: {} frames of {}",
                domain.id.0,
                account.total(),
                account.max()
            );
        }
    }
}

/// Names what a domain's tables and its vCPUs hold, none of which is loaded.
fn of_domain(domain: &Domain, each: &mut dyn FnMut(Mfn, Held)) {
    let mut shared = |mfn| {
        each(mfn, Held::Ref);
        each(mfn, WRITABLE);
    };
    if domain.life.has_pages() {
        shared(domain.shared_info);
    }
    domain.grants.for_each_frame(&mut shared);
    domain.for_each_device_grant(&mut |mfn, readonly| {
        each(mfn, if readonly { Held::Ref } else { WRITABLE });
    });
    domain.events.for_each_frame(|mfn| each(mfn, WRITABLE));
    if let Some(mfn) = domain.pirq_eoi.frame()
        && domain.life.has_pages()
    {
        each(mfn, WRITABLE);
    }
    for vcpu in domain.vcpus() {
        if let Some(mfn) = vcpu.info_frame() {
            each(mfn, WRITABLE);
        }
        of_state(&vcpu.state.lock(), each);
    }
}

/// Names what a vCPU's state holds.
fn of_state(state: &VcpuState, each: &mut dyn FnMut(Mfn, Held)) {
    let roots = [state.kernel_root, state.user_root];
    for mfn in roots.into_iter().flatten() {
        each(mfn, Held::Type(FrameType::L4));
    }
    for mfn in state.gdt_frames.iter().chain(&state.ldt_frames).flatten() {
        each(*mfn, Held::Type(FrameType::Descriptors));
    }
    for left in state.unfinished.iter() {
        each(left.mfn, Held::Type(FrameType::table(left.level)));
    }
}
