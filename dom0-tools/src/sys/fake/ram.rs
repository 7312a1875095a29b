//! Frames of a machine that is none: a file in memory.
#![allow(unsafe_code, reason = "memfd_create has no safe form in the library")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::FileExt;

use super::super::memory::Region;
use super::super::{Access, Mfn, PAGE_SIZE, SharedPages};

/// All frames, from 0.
pub(super) struct Ram {
    file: File,
    frames: u64,
}

impl Ram {
    /// Zeroed frames.
    pub fn new(frames: u64) -> io::Result<Self> {
        // SAFETY: the name is a C string; the call touches no other memory.
        let fd = unsafe { libc::memfd_create(c"machine".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(frames * PAGE_SIZE as u64)?;
        Ok(Self { file, frames })
    }

    /// Writes at a machine address.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.file
            .write_all_at(bytes, address)
            .expect("memory of the fake machine");
    }

    /// Reads from a machine address.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        self.file
            .read_exact_at(into, address)
            .expect("memory of the fake machine");
    }

    /// Maps frames one after another.
    pub fn map(&self, frames: &[Mfn], access: Access) -> io::Result<SharedPages> {
        let mut region = Region::reserved(frames.len())?;
        for (page, mfn) in frames.iter().enumerate() {
            if mfn.0 >= self.frames {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let offset = mfn.0 * PAGE_SIZE as u64;
            region.replace_page(page, self.file.as_fd(), offset, access.protection())?;
        }
        Ok(SharedPages::new(region, access))
    }
}
