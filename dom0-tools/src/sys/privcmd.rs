//! Hypercalls, and mappings of frames that are not dom0's.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::memory::Region;
use super::{Access, Buffer, DomId, Mfn, SharedPages, ioctl_number};

/// The way to the hypervisor.
pub trait Privcmd: Send + Sync {
    /// A zeroed buffer of at least `bytes` bytes for [`Privcmd::hypercall`].
    ///
    /// # Errors
    /// `ENOMEM` above all.
    fn buffer(&self, bytes: usize) -> io::Result<Buffer>;

    /// Makes a hypercall. Addresses among the arguments, and in what they lead to, are those of
    /// `buffer`'s slots.
    ///
    /// The result has all 64 bits.
    ///
    /// # Errors
    /// What the hypervisor answered, or why the kernel did not ask it.
    fn hypercall(&self, number: u64, arguments: [u64; 5], buffer: &mut Buffer) -> io::Result<u64>;

    /// Maps frames of a domain one after another. [`DomId::XEN`] owns the hypervisor's tables.
    ///
    /// # Errors
    /// If nothing could be mapped at all; a frame that could not leaves a hole, see [`Foreign`].
    fn map_foreign(&self, domain: DomId, frames: &[Mfn], access: Access) -> io::Result<Foreign>;

    /// Maps what the hypervisor keeps for a domain, read-write.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, if the hypervisor or the kernel knows no such thing.
    fn map_resource(&self, domain: DomId, resource: Resource) -> io::Result<SharedPages>;
}

/// A mapping of frames of a domain, of which some may have failed.
#[derive(Debug)]
pub struct Foreign {
    /// The pages, in the order of the frames. One that failed is a hole: touching it ends the
    /// process (`SIGBUS`).
    pub pages: SharedPages,
    /// Frames that failed, by index, with their errno (positive).
    pub failed: Vec<(usize, i32)>,
}

impl Foreign {
    /// The mapping, if every frame could be mapped.
    ///
    /// # Errors
    /// That of the first frame that could not.
    pub fn whole(self) -> io::Result<SharedPages> {
        match self.failed.first() {
            None => Ok(self.pages),
            Some(&(_, errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What [`Privcmd::map_resource`] maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `XENMEM_RESOURCE_*`.
    pub kind: u16,
    /// Which of that kind.
    pub id: u32,
    /// First frame.
    pub first: u32,
    /// How many frames.
    pub frames: u32,
}

/// Linux's `/dev/xen/privcmd`.
#[derive(Debug)]
pub struct LinuxPrivcmd {
    device: File,
    /// `/dev/xen/hypercall`, where the kernel has it.
    buffers: Option<File>,
}

// Source of the numbers and structs: Linux `include/uapi/xen/privcmd.h`.
const HYPERCALL: libc::c_ulong = ioctl_number(b'P', 0, size_of::<HypercallArgs>());
const MMAPBATCH_V2: libc::c_ulong = ioctl_number(b'P', 4, size_of::<MmapBatchArgs>());
const MMAP_RESOURCE: libc::c_ulong = ioctl_number(b'P', 7, size_of::<MmapResourceArgs>());

#[repr(C)]
struct HypercallArgs {
    number: u64,
    arguments: [u64; 5],
}

#[repr(C)]
struct MmapBatchArgs {
    frames: u32,
    domain: u16,
    address: u64,
    mfns: *const u64,
    errors: *mut i32,
}

#[repr(C)]
struct MmapResourceArgs {
    domain: u16,
    kind: u32,
    id: u32,
    first: u32,
    frames: u64,
    address: u64,
}

impl LinuxPrivcmd {
    /// Opens the device.
    ///
    /// # Errors
    /// `ENOENT`: not in dom0, or module `xen-privcmd` is missing. `EACCES`: not root.
    pub fn open() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        Ok(Self {
            device: options.open("/dev/xen/privcmd")?,
            buffers: options.open("/dev/xen/hypercall").ok(),
        })
    }

    /// Makes an ioctl; its result has all 64 bits.
    ///
    /// # Safety
    /// `argument` is what the ioctl wants, and what it points to is valid for what the kernel
    /// does with it.
    unsafe fn ioctl<T>(&self, number: libc::c_ulong, argument: &mut T) -> io::Result<u64> {
        // `libc::ioctl` would cut the result to 32 bits.
        // SAFETY: the caller's promise.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                self.device.as_raw_fd(),
                number,
                std::ptr::from_mut(argument),
            )
        };
        if rc == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(rc.cast_unsigned())
        }
    }
}

impl Privcmd for LinuxPrivcmd {
    fn buffer(&self, bytes: usize) -> io::Result<Buffer> {
        match &self.buffers {
            Some(device) => Buffer::of_device(device.as_fd(), bytes),
            None => Buffer::locked(bytes),
        }
    }

    fn hypercall(&self, number: u64, arguments: [u64; 5], _: &mut Buffer) -> io::Result<u64> {
        let mut call = HypercallArgs { number, arguments };
        // SAFETY: the kernel reads the struct only. What the hypervisor writes lies in the buffer,
        // which is borrowed exclusively. (A hypercall of dom0 can change any memory of the
        // machine; like writing `/dev/mem`, that is outside of what Rust promises.)
        unsafe { self.ioctl(HYPERCALL, &mut call) }
    }

    fn map_foreign(&self, domain: DomId, frames: &[Mfn], access: Access) -> io::Result<Foreign> {
        let region = Region::of_file(self.device.as_fd(), 0, frames.len(), access.protection())?;
        let mfns: Vec<u64> = frames.iter().map(|mfn| mfn.0).collect();
        let mut errors = vec![0_i32; frames.len()];
        let mut call = MmapBatchArgs {
            frames: u32::try_from(frames.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            domain: domain.0,
            address: region.start().as_ptr().addr() as u64,
            mfns: mfns.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        // SAFETY: both arrays have as many elements as the struct says, and the region as many
        // pages; nothing refers to the pages yet.
        match unsafe { self.ioctl(MMAPBATCH_V2, &mut call) } {
            Ok(_) => {}
            // Some frames are paged out: told frame by frame, like other failures.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
        let failed = errors.iter().enumerate().filter(|&(_, &e)| e != 0);
        Ok(Foreign {
            failed: failed.map(|(n, &e)| (n, e.saturating_abs())).collect(),
            pages: SharedPages::new(region, access),
        })
    }

    fn map_resource(&self, domain: DomId, resource: Resource) -> io::Result<SharedPages> {
        let access = Access::Write;
        let pages = resource.frames as usize;
        let region = Region::of_file(self.device.as_fd(), 0, pages, access.protection())?;
        let mut call = MmapResourceArgs {
            domain: domain.0,
            kind: u32::from(resource.kind),
            id: resource.id,
            first: resource.first,
            frames: u64::from(resource.frames),
            address: region.start().as_ptr().addr() as u64,
        };
        // SAFETY: the region has as many pages as the struct says; nothing refers to them yet.
        unsafe { self.ioctl(MMAP_RESOURCE, &mut call) }?;
        Ok(SharedPages::new(region, access))
    }
}
