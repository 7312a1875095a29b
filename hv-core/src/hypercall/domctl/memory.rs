//! What tools that save a domain ask of its memory.

use super::{After, Request};
use crate::addr::{GuestVa, Mfn};
use crate::domain::Domain;
use crate::hypercall::{Call, Error};
use crate::mm::frame_table::FrameType;
use crate::mm::host;
use xen_abi::domctl as abi;

/// Most frames of one call. Source: Xen 4.17, `XEN_DOMCTL_getpageframeinfo3`.
const MOST: u64 = 1024;

/// `getpageframeinfo3`: replaces each frame number by what the frame is.
///
/// `E2BIG`: more than 1024. `EFAULT`.
pub(super) fn frame_types(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let list: abi::XenDomctlGetpageframeinfo3 = request.body();
    if list.num > MOST {
        return Err(Error::TooBig);
    }
    let space = call.guest();
    for n in 0..list.num {
        let at = GuestVa(list.array).add(n * 8);
        let raw: u64 = space.read(at)?;
        space.write(at, &u64::from(kind(domain, raw)))?;
    }
    Ok(After::Done)
}

/// What a frame of the domain's is, as bits of `XEN_DOMCTL_PFINFO_*`.
fn kind(domain: &Domain, raw: u64) -> u32 {
    let mm = host::get();
    let Some(frame) = Mfn::from_guest(raw).and_then(|mfn| mm.frames.get(mfn)) else {
        return abi::XEN_DOMCTL_PFINFO_XTAB;
    };
    let (count, kind) = (frame.count(), frame.kind());
    let theirs = count.owner() == domain.id && !count.is_free() && count.refs() != 0;
    // What the hypervisor made for the domain is not part of what is saved.
    if !theirs || count.is_hypervisor() {
        return abi::XEN_DOMCTL_PFINFO_XTAB;
    }
    let level = match kind.ty() {
        FrameType::L1 | FrameType::L2 | FrameType::L3 | FrameType::L4 if kind.count() > 0 => {
            u32::from(kind.ty().level().unwrap_or(0))
        }
        _ => return abi::XEN_DOMCTL_PFINFO_NOTAB,
    };
    let pinned = if kind.is_pinned() {
        abi::XEN_DOMCTL_PFINFO_LPINTAB
    } else {
        0
    };
    (level * abi::XEN_DOMCTL_PFINFO_L1TAB) | pinned
}

/// `shadow_op`. There is no shadow mode, as in a Xen that is built without it.
///
/// `EINVAL`: to end it. `EOPNOTSUPP`: to begin it.
pub(super) fn shadow(request: &Request) -> Result<After, Error> {
    let op: abi::XenDomctlShadowOp = request.body();
    Err(if op.op == abi::XEN_DOMCTL_SHADOW_OP_OFF {
        Error::Invalid
    } else {
        Error::NotSupported
    })
}
