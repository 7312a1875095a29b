//! `xen_version` (17): who we are and what we offer. Says Xen 4.17, whose interface
//! this is.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{GuestVa, HYPERVISOR_START, PAGE_SIZE};
use crate::domain::Domain;
use crate::sync::Once;
use xen_abi::features::{
    XENFEAT_DIRECT_MAPPED, XENFEAT_DOM0, XENFEAT_GNTTAB_MAP_AVAIL_BITS, XENFEAT_HIGHMEM_ASSIST,
    XENFEAT_MEMORY_OP_VNODE_SUPPORTED, XENFEAT_MMU_PT_UPDATE_PRESERVE_AD,
    XENFEAT_PAE_PGDIR_ABOVE_4GB,
};
use xen_abi::version as abi;
use xen_abi::xen::VMASST_TYPE_PAE_EXTENDED_CR3;

/// What tools show after "4.17".
const EXTRA_VERSION: &str = ".7-oxen";
/// 64-bit PV guests only.
const CAPABILITIES: &str = "xen-3.0-x86_64 ";
/// Stands for the text a caller may not see.
const DENIED: &str = "<denied>";

static COMMAND_LINE: Once<&'static str> = Once::new();

/// Notes the hypervisor's command line, once, for tools to read.
pub fn set_command_line(text: &'static str) {
    COMMAND_LINE.call_once(|| text);
}

/// Answers question `args[0]` (`XENVER_*`), into memory at `args[1]` where the answer
/// is more than a number. Question 0 is also how kernels ask for pending events.
///
/// # Errors
/// `EFAULT`: memory not accessible. `EINVAL`: no such feature map, or a page-size
/// query with an argument. `EPERM`: build id asked by an unprivileged domain.
/// `ENODATA`: there is no build id. `ENOSYS`: no such question.
///
/// Source: Xen `include/public/version.h`.
#[inline]
pub fn xen_version(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let question = args[0] as u32;
    if question == abi::XENVER_VERSION {
        return Ok(Reply::Done(abi::XEN_VERSION_4_17.into()));
    }
    rest(call, question, GuestVa(args[1]))
}

fn rest(call: &Call<'_>, question: u32, at: GuestVa) -> HypercallResult {
    let guest = call.guest();
    match question {
        abi::XENVER_EXTRAVERSION => {
            guest.write_bytes(at, &text::<{ abi::XEN_EXTRAVERSION_LEN }>(EXTRA_VERSION))?;
        }
        abi::XENVER_COMPILE_INFO => guest.write(at, &compile_info())?,
        abi::XENVER_CAPABILITIES => {
            guest.write_bytes(
                at,
                &text::<{ abi::XEN_CAPABILITIES_INFO_LEN }>(CAPABILITIES),
            )?;
        }
        abi::XENVER_CHANGESET => {
            let version = env!("CARGO_PKG_VERSION");
            guest.write_bytes(at, &text::<{ abi::XEN_CHANGESET_INFO_LEN }>(version))?;
        }
        abi::XENVER_PLATFORM_PARAMETERS => {
            let virt_start = HYPERVISOR_START;
            guest.write(at, &abi::XenPlatformParameters { virt_start })?;
        }
        abi::XENVER_GET_FEATURES => {
            let mut info: abi::XenFeatureInfo = guest.read(at)?;
            if info.submap_idx != 0 {
                return Err(Error::Invalid);
            }
            info.submap = features(call.domain);
            guest.write(at, &info)?;
        }
        abi::XENVER_PAGESIZE => {
            if at.0 != 0 {
                return Err(Error::Invalid);
            }
            return Ok(Reply::Done(PAGE_SIZE));
        }
        abi::XENVER_GUEST_HANDLE => guest.write_bytes(at, &call.domain.handle())?,
        abi::XENVER_COMMANDLINE => {
            let line = if access::may_control_host(&call.domain.subject()) {
                COMMAND_LINE.get().copied().unwrap_or("")
            } else {
                DENIED
            };
            guest.write_bytes(at, &text::<{ abi::XEN_COMMANDLINE_LEN }>(line))?;
        }
        abi::XENVER_BUILD_ID => {
            return Err(if access::may_control_host(&call.domain.subject()) {
                Error::NoData
            } else {
                Error::NotPermitted
            });
        }
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

/// Feature map 0 as Xen 4.17 answers a 64-bit PV guest.
fn features(domain: &Domain) -> u32 {
    let mut map = 1 << XENFEAT_MMU_PT_UPDATE_PRESERVE_AD
        | 1 << XENFEAT_HIGHMEM_ASSIST
        | 1 << XENFEAT_GNTTAB_MAP_AVAIL_BITS
        | 1 << XENFEAT_MEMORY_OP_VNODE_SUPPORTED
        | 1 << XENFEAT_DIRECT_MAPPED;
    if domain.assists(VMASST_TYPE_PAE_EXTENDED_CR3) {
        map |= 1 << XENFEAT_PAE_PGDIR_ABOVE_4GB;
    }
    if domain.privileged {
        map |= 1 << XENFEAT_DOM0;
    }
    map
}

fn compile_info() -> abi::XenCompileInfo {
    abi::XenCompileInfo {
        compiler: text("rustc"),
        compile_by: text(""),
        compile_domain: text(""),
        compile_date: text(""),
    }
}

/// A NUL-terminated text of `N` bytes, cut if it is longer.
fn text<const N: usize>(value: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let len = value.len().min(N - 1);
    bytes[..len].copy_from_slice(&value.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_with_nul() {
        assert_eq!(text::<4>("ab"), *b"ab\0\0");
        assert_eq!(text::<4>("abcdef"), *b"abc\0");
        assert!(EXTRA_VERSION.len() < abi::XEN_EXTRAVERSION_LEN);
    }
}
