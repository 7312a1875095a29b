//! Where everything of a new domain goes, in pseudo-physical frames and virtual addresses.
//!
//! The *boot region* starts at VIRT_BASE and maps PFN 0 upward: low memory, kernel, initrd (if it
//! is mapped), P2M list (unless the kernel names an address for it), start info, the domU's
//! rings, page tables, one stack page, and slack up to a multiple of 4 MiB. Frames of an unmapped
//! initrd follow, then the tables and frames of a P2M list with an address of its own. Everything
//! else is plain memory.

use crate::kernel::is_guest_range;
use crate::table::{self, Entries, Region};
use crate::{Error, KernelImage, PAGE_SHIFT, PAGE_SIZE};
use xen_abi::arch_x86::Dom0VgaConsoleInfo;
use xen_abi::features::XENFEAT_DOM0;
use xen_abi::xen::StartInfo;

/// The boot region ends at a multiple of this many bytes.
const END_ALIGN: u64 = 4 << 20;
/// At least this many bytes are free at the boot region's end.
const END_SLACK: u64 = 512 << 10;
/// Most pages a domain may have: 2^31, 8 TiB. Keeps all sums below far from overflow.
const MAX_PAGES: u64 = 1 << 31;

/// Who the domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The hardware domain: no rings, console information after the start info.
    Dom0,
    /// Any other domain: a xenstore and a console ring.
    DomU,
}

/// What the builder wants.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Who the domain is.
    pub kind: Kind,
    /// All pages the domain gets.
    pub nr_pages: u64,
    /// Bytes of the initrd; 0 if there is none.
    pub initrd_size: u64,
}

/// A run of pseudo-physical frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Frames {
    /// First PFN.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Frames {
    /// First PFN after the run.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Whether the run has that PFN.
    #[must_use]
    pub const fn contains(&self, pfn: u64) -> bool {
        pfn >= self.first && pfn < self.end()
    }
}

/// A run of frames and its virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The frames.
    pub frames: Frames,
    /// Address of the first one.
    pub va: u64,
}

/// The initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// Its frames.
    pub frames: Frames,
    /// Bytes.
    pub size: u64,
    /// Its address, if it is mapped.
    pub va: Option<u64>,
}

/// The layout of a new domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who the domain is.
    pub kind: Kind,
    /// All pages of the domain: PFNs 0 to `nr_pages - 1`.
    pub nr_pages: u64,
    /// First address of the boot region, that of PFN 0.
    pub v_start: u64,
    /// First address after the boot region.
    pub v_end: u64,
    /// Initial rip.
    pub entry: u64,
    /// Page to fill with hypercall stubs, if the kernel wants one.
    pub hypercall_page: Option<Mapped>,
    /// The initrd, if there is one.
    pub initrd: Option<Initrd>,
    /// The P2M list: `nr_pages` 64-bit MFNs. The rest of its last frame is to be filled with ones.
    pub p2m: Mapped,
    /// Page tables of the P2M list; empty if the list is in the boot region.
    pub p2m_tables: Frames,
    /// The start info page; initial rsi.
    pub start_info: Mapped,
    /// The xenstore ring (domU).
    pub xenstore: Option<Mapped>,
    /// The console ring (domU).
    pub console: Option<Mapped>,
    /// The boot region's page tables, the L4 table first.
    pub page_tables: Mapped,
    /// The stack page.
    pub stack: Mapped,
    /// First PFN that nothing of the above uses and the boot region does not map.
    pub first_free_pfn: u64,
}

/// Hands out consecutive addresses of the boot region.
struct Cursor {
    base: u64,
    next: u64,
}

impl Cursor {
    fn take(&mut self, bytes: u64) -> Mapped {
        let va = self.next;
        let count = bytes.div_ceil(PAGE_SIZE);
        self.next += count << PAGE_SHIFT;
        let first = (va - self.base) >> PAGE_SHIFT;
        Mapped {
            frames: Frames { first, count },
            va,
        }
    }
}

impl Plan {
    /// Lays out a domain.
    ///
    /// # Errors
    /// [`Error::TooLittleMemory`] (also for absurdly much), [`Error::BadAddress`] if the boot
    /// region or the P2M list would leave the guest's addresses or share an L4 entry,
    /// [`Error::NotADom0Kernel`].
    pub fn new(image: &KernelImage<'_>, request: &Request) -> Result<Self, Error> {
        let &Request {
            kind,
            nr_pages,
            initrd_size,
        } = request;
        let v_start = image.virt_base;
        if nr_pages > MAX_PAGES
            || (image.end - v_start).div_ceil(PAGE_SIZE) > nr_pages
            || initrd_size.div_ceil(PAGE_SIZE) > nr_pages
        {
            return Err(Error::TooLittleMemory);
        }
        check_kind(image, kind)?;
        let mapped_initrd = initrd_size != 0 && !image.notes.mod_start_pfn;
        let p2m_size = nr_pages * size_of::<u64>() as u64;
        let kernel_end = image.end.checked_next_multiple_of(PAGE_SIZE);
        let kernel_end = kernel_end.ok_or(Error::BadAddress)?;
        // Leaves room for all that follows, so that no sum below can overflow.
        if u64::MAX - kernel_end < initrd_size + 4 * p2m_size + 4 * END_ALIGN {
            return Err(Error::BadAddress);
        }
        let mut cursor = Cursor {
            base: v_start,
            next: kernel_end,
        };
        let initrd_inside = mapped_initrd.then(|| cursor.take(initrd_size));
        let p2m_inside = match image.notes.init_p2m {
            Some(_) => None,
            None => Some(cursor.take(p2m_size)),
        };
        let start_info = cursor.take(start_info_size(kind));
        let rings = match kind {
            Kind::Dom0 => None,
            Kind::DomU => Some((cursor.take(PAGE_SIZE), cursor.take(PAGE_SIZE))),
        };
        let (page_tables, stack, v_end) = finish_boot_region(&mut cursor);
        let mut next_pfn = (v_end - v_start) >> PAGE_SHIFT;
        let initrd = place_initrd(initrd_size, initrd_inside, &mut next_pfn);
        let (p2m, p2m_tables) = place_p2m(image, p2m_size, p2m_inside, &mut next_pfn)?;
        let plan = Self {
            kind,
            nr_pages,
            v_start,
            v_end,
            entry: image.entry,
            hypercall_page: image.notes.hypercall_page.map(|va| Mapped {
                frames: Frames {
                    first: image.pfn(va),
                    count: 1,
                },
                va,
            }),
            initrd,
            p2m,
            p2m_tables,
            start_info,
            xenstore: rings.map(|(xenstore, _)| xenstore),
            console: rings.map(|(_, console)| console),
            page_tables,
            stack,
            first_free_pfn: next_pfn,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Error> {
        if self.first_free_pfn > self.nr_pages {
            return Err(Error::TooLittleMemory);
        }
        if !is_guest_range(self.v_start, self.v_end) {
            return Err(Error::BadAddress);
        }
        if self.p2m_tables.count != 0 {
            let region = self.p2m_region();
            let l4 = |va: u64| va >> table::shift(4);
            let boot = self.boot_region();
            // The two regions have tables of their own, so they must not meet in the L4 table.
            let apart = l4(region.last()) < l4(boot.va) || l4(boot.last()) < l4(region.va);
            if !is_guest_range(region.va, region.last() + PAGE_SIZE) || !apart {
                return Err(Error::BadAddress);
            }
        }
        Ok(())
    }

    /// Frames that the boot region maps, from PFN 0.
    #[must_use]
    pub const fn boot_frames(&self) -> u64 {
        (self.v_end - self.v_start) >> PAGE_SHIFT
    }

    /// Initial rsp: the end of the stack page.
    #[must_use]
    pub const fn stack_top(&self) -> u64 {
        self.stack.va + PAGE_SIZE
    }

    /// First and number of the frames that hold the P2M list and its page tables, as the start
    /// info reports them; zeroes if the list is in the boot region.
    #[must_use]
    pub const fn p2m_frames(&self) -> Frames {
        if self.p2m_tables.count == 0 {
            Frames { first: 0, count: 0 }
        } else {
            Frames {
                first: self.p2m_tables.first,
                count: self.p2m_tables.count + self.p2m.frames.count,
            }
        }
    }

    /// Virtual address of a frame of the boot region.
    #[must_use]
    pub const fn va(&self, pfn: u64) -> u64 {
        self.v_start + (pfn << PAGE_SHIFT)
    }

    pub(crate) const fn boot_region(&self) -> Region {
        Region {
            va: self.v_start,
            pages: self.boot_frames(),
            first_pfn: 0,
            // After the L4 table.
            tables: self.page_tables.frames.first + 1,
        }
    }

    pub(crate) const fn p2m_region(&self) -> Region {
        Region {
            va: self.p2m.va,
            pages: if self.p2m_tables.count == 0 {
                0
            } else {
                self.p2m.frames.count
            },
            first_pfn: self.p2m.frames.first,
            tables: self.p2m_tables.first,
        }
    }

    /// All page tables with their levels, the L4 table first.
    pub fn tables(&self) -> impl Iterator<Item = table::Table> + use<> {
        let l4 = table::Table {
            pfn: self.page_tables.frames.first,
            level: 4,
        };
        core::iter::once(l4)
            .chain(self.boot_region().tables())
            .chain(self.p2m_region().tables())
    }

    /// All entries of the page tables that are not zero, table by table.
    ///
    /// Every page of the boot region and of the P2M list is mapped, page tables read-only.
    #[must_use]
    pub fn entries(&self) -> Entries {
        Entries::new(self)
    }
}

/// What a kernel's notes demand of the kind of domain.
fn check_kind(image: &KernelImage<'_>, kind: Kind) -> Result<(), Error> {
    let supported = image.notes.supported_features.unwrap_or(u32::MAX);
    if kind == Kind::Dom0 && supported & 1 << XENFEAT_DOM0 == 0 {
        return Err(Error::NotADom0Kernel);
    }
    Ok(())
}

/// Bytes of the start info, in dom0 with the console information after it.
const fn start_info_size(kind: Kind) -> u64 {
    match kind {
        Kind::Dom0 => (size_of::<StartInfo>() + size_of::<Dom0VgaConsoleInfo>()) as u64,
        Kind::DomU => size_of::<StartInfo>() as u64,
    }
}

/// Places page tables and stack, finds the region's end: more tables may need more tables.
fn finish_boot_region(cursor: &mut Cursor) -> (Mapped, Mapped, u64) {
    let v_start = cursor.base;
    let mut count = 4;
    loop {
        let mut trial = Cursor {
            base: v_start,
            next: cursor.next,
        };
        let page_tables = trial.take(count << PAGE_SHIFT);
        let stack = trial.take(PAGE_SIZE);
        let mut v_end = trial.next.next_multiple_of(END_ALIGN);
        if v_end - trial.next < END_SLACK {
            v_end += END_ALIGN;
        }
        let region = Region {
            va: v_start,
            pages: (v_end - v_start) >> PAGE_SHIFT,
            first_pfn: 0,
            tables: 0,
        };
        let needed = 1 + region.table_count();
        if needed <= count {
            *cursor = trial;
            return (page_tables, stack, v_end);
        }
        count = needed;
    }
}

/// Frames of the initrd: in the boot region, or the next ones.
fn place_initrd(size: u64, inside: Option<Mapped>, next_pfn: &mut u64) -> Option<Initrd> {
    if size == 0 {
        return None;
    }
    let initrd = match inside {
        Some(mapped) => Initrd {
            frames: mapped.frames,
            size,
            va: Some(mapped.va),
        },
        None => {
            let frames = Frames {
                first: *next_pfn,
                count: size.div_ceil(PAGE_SIZE),
            };
            *next_pfn = frames.end();
            Initrd {
                frames,
                size,
                va: None,
            }
        }
    };
    Some(initrd)
}

/// Frames of the P2M list and of its tables: in the boot region, or the next ones.
fn place_p2m(
    image: &KernelImage<'_>,
    size: u64,
    inside: Option<Mapped>,
    next_pfn: &mut u64,
) -> Result<(Mapped, Frames), Error> {
    let va = match (inside, image.notes.init_p2m) {
        (Some(mapped), _) => return Ok((mapped, Frames::default())),
        (None, va) => va.ok_or(Error::BadAddress)?,
    };
    let pages = size.div_ceil(PAGE_SIZE);
    if va.checked_add(pages << PAGE_SHIFT).is_none() {
        return Err(Error::BadAddress);
    }
    let region = Region {
        va,
        pages,
        first_pfn: 0,
        tables: 0,
    };
    let tables = Frames {
        first: *next_pfn,
        count: region.table_count(),
    };
    let frames = Frames {
        first: tables.end(),
        count: pages,
    };
    *next_pfn = frames.end();
    Ok((Mapped { frames, va }, tables))
}
