//! Loop devices: a file as a block device of dom0.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A file as block device, for as long as this is held or somebody else has the device open.
///
/// The kernel gives the device back when its last user closes it (`LO_FLAGS_AUTOCLEAR`), so
/// that none is left behind whatever becomes of this process.
#[derive(Debug)]
pub struct LoopDevice {
    number: u32,
    device: File,
}

// Source of the numbers, structs and flags: Linux `include/uapi/linux/loop.h`.
const CTL_GET_FREE: libc::c_ulong = 0x4c82;
const CONFIGURE: libc::c_ulong = 0x4c0a;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Bytes of a file's name that the kernel keeps for others to read.
const NAME_BYTES: usize = 64;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: u32,
    key_bytes: u32,
    flags: u32,
    file_name: [u8; NAME_BYTES],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304, "struct loop_config");

/// How often a free device may be taken by somebody else before we have it.
const ATTEMPTS: u32 = 64;

impl LoopDevice {
    /// Makes `file`, whose name is shown to whoever lists loop devices, a block device. It
    /// bypasses dom0's page cache if its file system can.
    ///
    /// # Errors
    /// The kernel's; `EBUSY` if free devices are always snatched away.
    pub fn attach(file: &File, name: &Path, writable: bool) -> io::Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        for _ in 0..ATTEMPTS {
            // SAFETY: the call takes no argument.
            let free = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE) };
            let number = u32::try_from(free).map_err(|_| io::Error::last_os_error())?;
            let device = OpenOptions::new()
                .read(true)
                .write(writable)
                .open(path_of(number))?;
            match configure(&device, file, name, writable) {
                Ok(()) => return Ok(Self { number, device }),
                // Another process was quicker.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_of(self.number)
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn path_of(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn configure(device: &File, file: &File, name: &Path, writable: bool) -> io::Result<()> {
    let mut config = Config {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption: 0,
        key_bytes: 0,
        flags: AUTOCLEAR | DIRECT_IO | if writable { 0 } else { READ_ONLY },
        file_name: [0; NAME_BYTES],
        crypt_name: [0; 64],
        key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    let name = name.as_os_str().as_encoded_bytes();
    // The last byte stays zero.
    let shown = name.len().min(NAME_BYTES - 1);
    config.file_name[..shown].copy_from_slice(&name[..shown]);
    // SAFETY: the kernel reads the struct only.
    match unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw mut config) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
