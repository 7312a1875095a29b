//! The start info page.

use crate::plan::{Kind, Plan};
use xen_abi::xen::{
    MAX_GUEST_CMDLINE, SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, SIF_VIRT_P2M_4TOOLS,
    StartInfo,
};
use zerocopy::FromZeros;

/// A ring page of a domU and its event channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Machine frame.
    pub mfn: u64,
    /// The guest's port.
    pub port: u32,
}

/// What dom0 or a domU is given to talk to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Dom0: bytes of the console information that follows the start info; 0 for none.
    Dom0 {
        /// Bytes of `dom0_vga_console_info`.
        vga_info_size: u32,
    },
    /// A domU.
    DomU {
        /// The xenstore ring.
        store: Ring,
        /// The console ring.
        console: Ring,
    },
}

/// The start info of a planned domain.
///
/// `shared_info` is the machine address of its shared info page. A command line that is too long
/// is cut off.
#[must_use]
pub fn start_info(plan: &Plan, shared_info: u64, links: Links, cmd_line: &[u8]) -> StartInfo {
    let mut info = StartInfo::new_zeroed();
    let (magic, mut flags): (&[u8], u32) = match plan.kind {
        Kind::Dom0 => (b"xen-3.0-x86_64p", SIF_PRIVILEGED | SIF_INITDOMAIN),
        Kind::DomU => (b"xen-3.0-x86_64", SIF_VIRT_P2M_4TOOLS),
    };
    info.magic[..magic.len()].copy_from_slice(magic);
    info.nr_pages = plan.nr_pages;
    info.shared_info = shared_info;
    match links {
        Links::Dom0 { vga_info_size: 0 } => {}
        Links::Dom0 { vga_info_size } => {
            info.set_dom0_console(size_of::<StartInfo>() as u32, vga_info_size);
        }
        Links::DomU { store, console } => {
            info.store_mfn = store.mfn;
            info.store_evtchn = store.port;
            info.console_mfn = console.mfn;
            info.console_evtchn = console.port;
        }
    }
    info.pt_base = plan.page_tables.va;
    info.nr_pt_frames = plan.page_tables.frames.count;
    info.mfn_list = plan.p2m.va;
    if let Some(initrd) = &plan.initrd {
        info.mod_len = initrd.size;
        info.mod_start = match initrd.va {
            Some(va) => va,
            None => {
                flags |= SIF_MOD_START_PFN;
                initrd.frames.first
            }
        };
    }
    info.flags = flags;
    let used = cmd_line.len().min(MAX_GUEST_CMDLINE - 1);
    info.cmd_line[..used].copy_from_slice(&cmd_line[..used]);
    let p2m = plan.p2m_frames();
    info.first_p2m_pfn = p2m.first;
    info.nr_p2m_frames = p2m.count;
    info
}
