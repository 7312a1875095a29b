//! Event channels of dom0 that a program holds.
#![allow(unsafe_code, reason = "ioctls")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{DomId, Port, ioctl_number};

/// Event channels. A port is bound until [`Evtchn::unbind`] or until the whole is dropped.
pub trait Evtchn: Send + Sync {
    /// Binds a virtual interrupt (`VIRQ_*`).
    ///
    /// # Errors
    /// `EEXIST`: another program has it.
    fn bind_virq(&self, virq: u32) -> io::Result<Port>;

    /// Binds to a port that a domain keeps for dom0. The local port is pending once right away.
    ///
    /// # Errors
    /// `EINVAL`: the domain keeps no such port. `ESRCH`: no such domain.
    fn bind_interdomain(&self, domain: DomId, remote: Port) -> io::Result<Port>;

    /// A new port that a domain may bind to.
    ///
    /// # Errors
    /// `ENOSPC`: no port is free.
    fn bind_unbound(&self, domain: DomId) -> io::Result<Port>;

    /// Gives a port back.
    ///
    /// # Errors
    /// `ENOTCONN`: not bound here.
    fn unbind(&self, port: Port) -> io::Result<()>;

    /// Sends an event through a port.
    ///
    /// # Errors
    /// `ENOTCONN`: not bound here.
    fn notify(&self, port: Port) -> io::Result<()>;

    /// A port with an event, if there is one; never waits. It stays masked until
    /// [`Evtchn::unmask`].
    ///
    /// # Errors
    /// `EFBIG`: more events than the kernel kept.
    fn pending(&self) -> io::Result<Option<Port>>;

    /// Permits the next event of a port.
    ///
    /// # Errors
    /// Those of writing to the device.
    fn unmask(&self, port: Port) -> io::Result<()>;

    /// Readable when [`Evtchn::pending`] has a port.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// Linux's `/dev/xen/evtchn`.
#[derive(Debug)]
pub struct LinuxEvtchn {
    device: File,
}

// Source of the numbers and structs: Linux `include/uapi/xen/evtchn.h`.
const BIND_VIRQ: libc::c_ulong = ioctl_number(b'E', 0, 4);
const BIND_INTERDOMAIN: libc::c_ulong = ioctl_number(b'E', 1, 8);
const BIND_UNBOUND: libc::c_ulong = ioctl_number(b'E', 2, 4);
const UNBIND: libc::c_ulong = ioctl_number(b'E', 3, 4);
const NOTIFY: libc::c_ulong = ioctl_number(b'E', 4, 4);

impl LinuxEvtchn {
    /// Opens the device.
    ///
    /// # Errors
    /// `ENOENT`: not on Xen, or module `xen-evtchn` is missing. `EACCES`: not root.
    pub fn open() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(libc::O_NONBLOCK);
        Ok(Self {
            device: options.open("/dev/xen/evtchn")?,
        })
    }

    /// Makes an ioctl whose argument is a few words.
    fn ioctl<const WORDS: usize>(
        &self,
        number: libc::c_ulong,
        mut words: [u32; WORDS],
    ) -> io::Result<Port> {
        // SAFETY: the kernel reads and writes as many bytes as the number says, which are those of
        // the array (`WORDS` above).
        let rc = unsafe { libc::ioctl(self.device.as_raw_fd(), number, words.as_mut_ptr()) };
        u32::try_from(rc)
            .map(Port)
            .map_err(|_| io::Error::last_os_error())
    }
}

impl Evtchn for LinuxEvtchn {
    fn bind_virq(&self, virq: u32) -> io::Result<Port> {
        self.ioctl(BIND_VIRQ, [virq])
    }

    fn bind_interdomain(&self, domain: DomId, remote: Port) -> io::Result<Port> {
        self.ioctl(BIND_INTERDOMAIN, [u32::from(domain.0), remote.0])
    }

    fn bind_unbound(&self, domain: DomId) -> io::Result<Port> {
        self.ioctl(BIND_UNBOUND, [u32::from(domain.0)])
    }

    fn unbind(&self, port: Port) -> io::Result<()> {
        self.ioctl(UNBIND, [port.0]).map(drop)
    }

    fn notify(&self, port: Port) -> io::Result<()> {
        self.ioctl(NOTIFY, [port.0]).map(drop)
    }

    fn pending(&self) -> io::Result<Option<Port>> {
        let mut port = [0; 4];
        match (&self.device).read(&mut port) {
            Ok(4) => Ok(Some(Port(u32::from_ne_bytes(port)))),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn unmask(&self, port: Port) -> io::Result<()> {
        (&self.device).write_all(&port.0.to_ne_bytes())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
