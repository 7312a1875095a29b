//! A kernel file into a new domain's memory, page tables and first vCPU.
//!
//! [`NewDomain`] is a domain in the making: whatever goes wrong before [`NewDomain::keep`], dropping
//! it leaves no domain behind. [`Kernel`] is an untrusted kernel file, unpacked and checked.
//! [`build`] brings the two together, step by step.
//!
//! Dom0 maps a few MiB of the domain at a time and touches only pages that need content: what the
//! hypervisor hands out holds nothing of other domains.

mod boot;
mod error;
mod image;
mod kernel;
mod memory;
mod new_domain;

use std::io::Read;

use pv_image::plan::Kind;
use pv_image::start_info::{Links, Ring, start_info};
use pv_image::{Plan, Request as PlanRequest};
use xen_abi::memory::{E820_RAM, E820Entry};

use crate::ctl::{self, DomainInfo, Xen};
use crate::sys::{DomId, Mfn, PAGE_SIZE, Port};

pub(crate) use boot::grant_rings;
pub use error::Error;
pub use kernel::Kernel;
pub use memory::GuestMemory;
pub use new_domain::NewDomain;

use error::Result;

/// Memory beyond what it has that a domain may take, in KiB: for what its kernel allocates apart.
///
/// `xl` permits as much.
pub const SLACK_KIB: u64 = 1024;

/// What a domain is built from.
#[derive(Debug)]
pub struct Request<'a, R> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its initial RAM disk and how many bytes that has.
    pub initrd: Option<(R, u64)>,
    /// Its kernel's command line.
    pub command_line: &'a [u8],
    /// Memory it begins with, pages.
    pub pages: u64,
    /// Memory it may grow to, pages; at least `pages`.
    pub max_pages: u64,
    /// vCPUs, as it was made for.
    pub vcpus: u32,
    /// Who serves its xenstore ring.
    pub store: DomId,
    /// Who serves its console.
    pub console: DomId,
}

/// How the tools reach a new domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Frame and port of its xenstore ring.
    pub store: Link,
    /// Frame and port of its console.
    pub console: Link,
}

/// A ring page of a domain, and the domain's port that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Frame.
    pub mfn: Mfn,
    /// The domain's port, free to bind.
    pub port: Port,
}

/// Builds a new domain; it is ready to run, and still paused.
///
/// # Errors
/// [`Error`]; the domain is then good for nothing but being dropped.
pub fn build<R: Read>(domain: &NewDomain, request: Request<'_, R>) -> Result<Built> {
    let (xen, id) = (domain.xen(), domain.id());
    let image = request.kernel.image()?;
    let plan = plan(&image, &request)?;
    prepare(xen, id, request.vcpus, request.pages, request.max_pages)?;
    let info = xen.domain_info(id)?;
    let memory = GuestMemory::allocate(xen, id, plan.nr_pages)?;
    let built = links(xen, id, &plan, &memory, &request)?;
    image::load_kernel(&memory, &image)?;
    if let (Some(place), Some((reader, _))) = (&plan.initrd, request.initrd) {
        image::load_initrd(&memory, place, reader)?;
    }
    image::write_p2m(&memory, &plan)?;
    image::write_tables(&memory, &plan)?;
    let ring = |link: Link| Ring {
        mfn: link.mfn.0,
        port: link.port.0,
    };
    let ends = Links::DomU {
        store: ring(built.store),
        console: ring(built.console),
    };
    let shared_info = info.shared_info.0 * PAGE_SIZE as u64;
    let start = start_info(&plan, shared_info, ends, request.command_line);
    image::write_boot_pages(&memory, &plan, &start)?;
    finish(xen, &info, &plan, &memory)?;
    grant_rings(xen, id, &built, request.store, request.console)?;
    Ok(built)
}

/// Lays the domain out, before anything is made.
fn plan<R>(image: &pv_image::KernelImage<'_>, request: &Request<'_, R>) -> Result<Plan> {
    let most = xen_abi::xen::MAX_GUEST_CMDLINE - 1;
    if request.command_line.len() > most {
        return Err(Error::CommandLine {
            bytes: request.command_line.len(),
            most,
        });
    }
    let wanted = PlanRequest {
        kind: Kind::DomU,
        nr_pages: request.pages,
        initrd_size: request.initrd.as_ref().map_or(0, |(_, bytes)| *bytes),
    };
    Ok(Plan::new(image, &wanted)?)
}

/// vCPUs, and limits of memory.
pub(crate) fn prepare(
    xen: &Xen,
    id: DomId,
    vcpus: u32,
    pages: u64,
    max_pages: u64,
) -> ctl::Result<()> {
    const PAGE_KIB: u64 = PAGE_SIZE as u64 / 1024;
    xen.set_max_vcpus(id, vcpus)?;
    let kib = pages.saturating_mul(PAGE_KIB).saturating_add(SLACK_KIB);
    xen.set_max_memory(id, kib)?;
    let bytes = max_pages.max(pages).saturating_mul(PAGE_SIZE as u64);
    xen.set_memory_map(id, &[E820Entry::new(0, bytes, E820_RAM)])
}

/// Makes the ports, and finds the frames of the rings.
fn links<R>(
    xen: &Xen,
    id: DomId,
    plan: &Plan,
    memory: &GuestMemory<'_>,
    request: &Request<'_, R>,
) -> Result<Built> {
    let frame = |mapped: Option<pv_image::plan::Mapped>| {
        let pfn = mapped.ok_or(pv_image::Error::BadAddress)?.frames.first;
        memory.mfn(pfn)
    };
    Ok(Built {
        store: Link {
            mfn: frame(plan.xenstore)?,
            port: xen.alloc_unbound(id, request.store)?,
        },
        console: Link {
            mfn: frame(plan.console)?,
            port: xen.alloc_unbound(id, request.console)?,
        },
    })
}

/// What the hypervisor does once all is written: it checks the page tables, and takes the first
/// vCPU's state. Nothing of the domain may be mapped here any more.
fn finish(xen: &Xen, info: &DomainInfo, plan: &Plan, memory: &GuestMemory<'_>) -> Result<()> {
    let id = info.domain;
    let l4 = memory.mfn(plan.page_tables.frames.first)?;
    if let Some(page) = plan.hypercall_page {
        xen.hypercall_page(id, memory.mfn(page.frames.first)?)?;
    }
    xen.pin_tables(id, &[(l4, 4)])?;
    boot::mask_events(xen, id, info.shared_info)?;
    boot::start_first_vcpu(xen, id, plan, l4)
}
