//! Mappings of pages that another domain granted to dom0.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::memory::Region;
use super::{Access, DomId, GrantRef, SharedPages, ioctl_number};

/// Mappings of granted pages.
pub trait GntDev: Send + Sync {
    /// Maps granted pages one after another.
    ///
    /// # Errors
    /// `EINVAL`: a grant does not permit it. `ENOMEM`: more than the device may hold.
    fn map(&self, grants: &[(DomId, GrantRef)], access: Access) -> io::Result<SharedPages>;

    /// How many pages may be mapped at once.
    ///
    /// # Errors
    /// `EINVAL`: this kernel has a fixed limit.
    fn set_max(&self, pages: u32) -> io::Result<()>;
}

/// Linux's `/dev/xen/gntdev`.
#[derive(Debug)]
pub struct LinuxGntDev {
    // Shared with the mappings, which end by an ioctl.
    device: Arc<File>,
}

// Source of the numbers and structs: Linux `include/uapi/xen/gntdev.h`.
const MAP: libc::c_ulong = ioctl_number(b'G', 0, 24);
const UNMAP: libc::c_ulong = ioctl_number(b'G', 1, size_of::<UnmapArgs>());
const SET_MAX: libc::c_ulong = ioctl_number(b'G', 3, 4);

/// Bytes of the head of the argument of `MAP`: count, padding, and the index it answers.
const MAP_HEAD_WORDS: usize = 4;

#[repr(C)]
struct UnmapArgs {
    index: u64,
    count: u32,
    pad: u32,
}

impl LinuxGntDev {
    /// Opens the device.
    ///
    /// # Errors
    /// `ENOENT`: not on Xen, or module `xen-gntdev` is missing. `EACCES`: not root.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/xen/gntdev")?;
        Ok(Self {
            device: Arc::new(file),
        })
    }
}

impl GntDev for LinuxGntDev {
    fn map(&self, grants: &[(DomId, GrantRef)], access: Access) -> io::Result<SharedPages> {
        let count = u32::try_from(grants.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut words = vec![0_u32; MAP_HEAD_WORDS];
        words[0] = count;
        words.extend(grants.iter().flat_map(|&(d, r)| [u32::from(d.0), r.0]));
        // SAFETY: the kernel reads the head and as many pairs as it says, and writes the index
        // into the head; the array has them all.
        if unsafe { libc::ioctl(self.device.as_raw_fd(), MAP, words.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let index = u64::from(words[2]) | u64::from(words[3]) << 32;
        let mapped = Region::of_file(
            self.device.as_fd(),
            index,
            grants.len(),
            access.protection(),
        );
        match mapped {
            Ok(region) => {
                let device = Arc::clone(&self.device);
                let release = move || release(&device, index, count);
                Ok(SharedPages::new(region, access).then(release))
            }
            Err(error) => {
                release(&self.device, index, count);
                Err(error)
            }
        }
    }

    fn set_max(&self, pages: u32) -> io::Result<()> {
        let mut argument = pages;
        // SAFETY: the kernel reads one word.
        match unsafe { libc::ioctl(self.device.as_raw_fd(), SET_MAX, &raw mut argument) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Tells the device to forget grants; they are no longer mapped.
fn release(device: &File, index: u64, count: u32) {
    let mut call = UnmapArgs {
        index,
        count,
        pad: 0,
    };
    // SAFETY: the kernel reads the struct only. It cannot fail: the index is the device's own.
    unsafe { libc::ioctl(device.as_raw_fd(), UNMAP, &raw mut call) };
}
