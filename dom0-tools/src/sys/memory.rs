//! Memory regions obtained by `mmap`, given back when dropped.
#![allow(unsafe_code, reason = "mmap")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use super::PAGE_SIZE;

/// A region of whole pages from `mmap`.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is an address range of the process, bound to no thread. It gives out a raw
// pointer only; who uses that answers for races.
unsafe impl Send for Region {}
// SAFETY: as above; no method changes the region through a shared reference.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `pages` pages of a device or file from a byte offset, shared.
    pub fn of_file(
        file: BorrowedFd<'_>,
        offset: u64,
        pages: usize,
        protection: libc::c_int,
    ) -> io::Result<Self> {
        Self::map(
            file.as_raw_fd(),
            offset,
            pages,
            protection,
            libc::MAP_SHARED,
        )
    }

    /// Maps `pages` fresh zeroed pages, locked in memory and not inherited by children.
    pub fn locked(pages: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED | libc::MAP_POPULATE;
        let region = Self::map(-1, 0, pages, libc::PROT_READ | libc::PROT_WRITE, flags)?;
        // SAFETY: the range is this region's own. A child that shared the pages after a fork could
        // make the kernel copy them while the hypervisor uses their old frames.
        let rc = unsafe {
            libc::madvise(
                region.start.as_ptr().cast(),
                region.bytes,
                libc::MADV_DONTFORK,
            )
        };
        if rc == 0 {
            Ok(region)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Reserves addresses for `pages` pages without any memory.
    pub fn reserved(pages: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(-1, 0, pages, libc::PROT_NONE, flags)
    }

    fn map(
        fd: libc::c_int,
        offset: u64,
        pages: usize,
        protection: libc::c_int,
        flags: libc::c_int,
    ) -> io::Result<Self> {
        let bytes = pages
            .checked_mul(PAGE_SIZE)
            .filter(|&bytes| bytes != 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: without `MAP_FIXED` the kernel chooses addresses that nothing uses.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Replaces page `page` of the region by one page of a file.
    pub fn replace_page(
        &mut self,
        page: usize,
        file: BorrowedFd<'_>,
        offset: u64,
        protection: libc::c_int,
    ) -> io::Result<()> {
        let at = page
            .checked_mul(PAGE_SIZE)
            .filter(|&at| at < self.bytes)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the page lies in this region, whose addresses belong to nobody else.
        let rc = unsafe {
            libc::mmap(
                self.start.as_ptr().add(at).cast(),
                PAGE_SIZE,
                protection,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset,
            )
        };
        if rc == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// First byte.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is this region's own, and no reference into it outlives the region.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
