//! A domain from a `pv-image` plan: its memory, p2m, `start_info`, first page tables
//! and first vCPU (dom0 now, static partitions later).

mod memory;
pub mod screen;

use crate::access::Roles;
use crate::addr::{DomId, GuestVa, Mfn, Pfn};
use crate::arch::FrameMem;
use crate::arch::regs::GuestRegs;
use crate::domain::life::Life;
use crate::domain::{Domain, Parts, Vcpu, create};
use crate::event::PortTable;
use crate::fallible::{Arc, NoMemory};
use crate::grant::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, GrantTable};
use crate::mm::shared_page::SharedPage;
use crate::mm::{HostMm, frame_io};
use crate::pv_mm::run::{Halt, Runner};
use crate::pv_mm::{Budget, Rights, Unfinished, pin, promote};
use memory::Memory;
use pv_image::start_info::{Links, start_info};
use pv_image::{KernelImage, Plan, plan};
use xen_abi::arch_x86::{Dom0VgaConsoleInfo, FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use zerocopy::IntoBytes;

/// Most event channels of a domain (FIFO interface). Source: Xen
/// `include/public/event_channel.h`.
const MAX_PORT: u32 = 131_071;

/// What dom0 is made of.
#[derive(Debug)]
pub struct Request<'a> {
    /// The unpacked kernel.
    pub kernel: &'a [u8],
    /// The initial ramdisk; empty if there is none.
    pub initrd: &'a [u8],
    /// Its command line.
    pub command_line: &'a [u8],
    /// Frames it gets.
    pub nr_pages: u64,
    /// Virtual CPUs it may have.
    pub vcpus: u16,
    /// Physical interrupts of the host.
    pub pirqs: usize,
    /// The screen it may use, if there is one.
    pub screen: Option<Dom0VgaConsoleInfo>,
}

/// Why the domain could not be built.
#[derive(Debug)]
pub enum BuildError {
    /// The kernel cannot be used.
    Image(pv_image::Error),
    /// The host lacks memory.
    NoMemory,
    /// Its own first page tables were refused: an error of ours or a kernel whose
    /// layout we misunderstood.
    PageTables,
}

impl From<pv_image::Error> for BuildError {
    fn from(error: pv_image::Error) -> Self {
        Self::Image(error)
    }
}

impl From<NoMemory> for BuildError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Builds dom0, ready to run on its first vCPU.
///
/// # Errors
/// See [`BuildError`].
pub fn dom0(mm: &'static HostMm, request: &Request<'_>) -> Result<Arc<Domain>, BuildError> {
    let image = KernelImage::parse(request.kernel)?;
    let plan = Plan::new(
        &image,
        &plan::Request {
            kind: plan::Kind::Dom0,
            nr_pages: request.nr_pages,
            initrd_size: request.initrd.len() as u64,
        },
    )?;
    log::info!(
        "dom0 kernel at {:#x}-{:#x}, entry {:#x}, region ends {:#x}, {} pages",
        image.start,
        image.end,
        plan.entry,
        plan.v_end,
        plan.nr_pages
    );
    let id = DomId::DOM0;
    mm.accounts.open(id)?.set_max(request.nr_pages.max(1));
    let memory = Memory::allocate(mm, id, plan.nr_pages)?;
    load(mm, &memory, &image, &plan, request);
    let shared = mm.alloc_shared(id).ok_or(BuildError::NoMemory)?;
    let events = PortTable::new(id, usize::from(request.vcpus), request.pirqs, MAX_PORT)
        .map_err(|_| BuildError::NoMemory)?;
    let domain = Domain::new(Parts {
        id,
        roles: Roles::DOM0,
        shared_info: shared,
        shared: SharedPage::new(&mm.mem, shared),
        events,
        grants: GrantTable::new(id, DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES),
        max_vcpus: request.vcpus.into(),
        life: Life::new(0),
    });
    let domain = Arc::new(domain)?;
    domain.grow_grants(1).map_err(|_| BuildError::NoMemory)?;
    write_start_info(mm, &memory, &plan, shared, request);
    memory.write_p2m(mm, &plan);
    let root = write_tables(mm, &memory, &plan, &domain.rights())?;
    create::make_vcpus(&domain, request.vcpus.into()).map_err(|_| BuildError::NoMemory)?;
    start_vcpu(&domain.vcpus()[0], &plan, root);
    Ok(domain)
}

/// Copies kernel and initrd into place.
fn load(mm: &HostMm, memory: &Memory, image: &KernelImage<'_>, plan: &Plan, request: &Request<'_>) {
    for segment in &image.segments {
        memory.write(mm, (segment.va - plan.v_start) as usize, segment.data);
    }
    if let Some(page) = &plan.hypercall_page {
        let mfn = memory.mfn(Pfn(page.frames.first));
        frame_io::write(&mm.mem, mfn, 0, &crate::domain::hypercall_page());
    }
    if let Some(initrd) = &plan.initrd {
        memory.write(mm, (initrd.frames.first << 12) as usize, request.initrd);
    }
}

fn write_start_info(mm: &HostMm, memory: &Memory, plan: &Plan, shared: Mfn, request: &Request<'_>) {
    let screen = request.screen.as_ref().map_or(&[][..], IntoBytes::as_bytes);
    let info = start_info(
        plan,
        shared.addr().raw(),
        Links::Dom0 {
            vga_info_size: screen.len() as u32,
        },
        request.command_line,
    );
    let mfn = memory.mfn(Pfn(plan.start_info.frames.first));
    frame_io::write(&mm.mem, mfn, 0, info.as_bytes());
    frame_io::write(&mm.mem, mfn, size_of_val(&info), screen);
}

/// Writes the boot page tables and makes them the domain's: validated like any guest's.
/// Returns the root, pinned and with a reference for the vCPU.
fn write_tables(
    mm: &HostMm,
    memory: &Memory,
    plan: &Plan,
    rights: &Rights<'_>,
) -> Result<Mfn, BuildError> {
    use core::sync::atomic::Ordering;
    for table in plan.tables() {
        frame_io::fill(&mm.mem, memory.mfn(Pfn(table.pfn)), 0);
    }
    for entry in plan.entries() {
        let table = memory.mfn(Pfn(entry.table.pfn));
        let target = memory.mfn(Pfn(entry.target));
        let value = target.addr().raw() | entry.flags();
        mm.mem.words(table)[entry.index].store(value, Ordering::Relaxed);
    }
    let root = memory.mfn(Pfn(plan.page_tables.frames.first));
    let mut unfinished = Unfinished::new();
    let mut runner = Runner {
        mm,
        unfinished: &mut unfinished,
        // Nobody waits for this CPU yet.
        pause: &|| false,
        budget: Budget::full(),
    };
    let refused = |why: Halt| {
        log::error!("dom0's first page tables are refused: {why:?}");
        BuildError::PageTables
    };
    runner
        .run(|budget| pin::pin(mm, rights, root, 4, budget))
        .map_err(refused)?;
    runner
        .run(|budget| promote::acquire_table(mm, rights, root, 4, budget))
        .map_err(refused)?;
    // A pause that is never needed interrupts nothing.
    let _ = runner.drain();
    Ok(root)
}

/// The first vCPU's state, as Xen's boot protocol states it.
fn start_vcpu(vcpu: &Vcpu, plan: &Plan, root: Mfn) {
    let mut state = vcpu.state.lock();
    state.regs = GuestRegs {
        rip: plan.entry,
        rsp: plan.stack_top(),
        rsi: plan.start_info.va,
        rflags: 0x202,
        cs: u64::from(FLAT_KERNEL_CS),
        ss: u64::from(FLAT_KERNEL_SS),
        ..GuestRegs::default()
    };
    state.kernel_mode = true;
    state.kernel_root = Some(root);
    state.ldt_base = GuestVa(0);
    vcpu.initialised
        .store(true, core::sync::atomic::Ordering::Release);
}
