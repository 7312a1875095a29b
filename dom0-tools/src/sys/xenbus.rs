//! The xenstore ring of dom0's own kernel, for the program that serves xenstore.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::memory::Region;
use super::{Access, Port, SharedPages, ioctl_number};

/// The kernel's side of xenstore.
pub trait XenbusBackend: Send + Sync {
    /// The ring page that the kernel made for its requests, and the kernel's port that goes with
    /// it: dom0 binds it as an interdomain port of [`DomId::DOM0`](super::DomId::DOM0).
    ///
    /// # Errors
    /// `ENODEV` or `ENOENT`: the kernel has none, as xenstore is served elsewhere.
    fn ring(&self) -> io::Result<(SharedPages, Port)>;
}

/// Linux's `/dev/xen/xenbus_backend`, or its older form in `/proc/xen`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxXenbusBackend;

/// Source: Linux `include/uapi/xen/xenbus_dev.h`.
const EVTCHN: libc::c_ulong = ioctl_number(b'B', 0, 0);

impl XenbusBackend for LinuxXenbusBackend {
    fn ring(&self) -> io::Result<(SharedPages, Port)> {
        let device = read_write("/dev/xen/xenbus_backend");
        match device {
            Ok(device) => Ok((page(&device)?, port(&device)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let text = std::fs::read_to_string("/proc/xen/xsd_port")?;
                let number = text.trim().parse();
                let port = number.map_err(|_| io::ErrorKind::InvalidData)?;
                Ok((page(&read_write("/proc/xen/xsd_kva")?)?, Port(port)))
            }
            Err(e) => Err(e),
        }
    }
}

fn read_write(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn page(device: &File) -> io::Result<SharedPages> {
    let access = Access::Write;
    let region = Region::of_file(device.as_fd(), 0, 1, access.protection())?;
    Ok(SharedPages::new(region, access))
}

fn port(device: &File) -> io::Result<Port> {
    // SAFETY: this ioctl has no argument.
    let rc = unsafe { libc::ioctl(device.as_raw_fd(), EVTCHN, 0) };
    u32::try_from(rc)
        .map(Port)
        .map_err(|_| io::Error::last_os_error())
}
