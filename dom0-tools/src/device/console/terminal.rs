//! A pseudo-terminal in raw mode whose master is ours.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal; whoever opens [`Terminal::name`] sees what is written here.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    name: String,
    // Held open, so that the master is not hung up while nobody else has it open.
    _slave: OwnedFd,
}

impl Terminal {
    /// Makes one.
    ///
    /// # Errors
    /// The kernel's: `/dev/pts` is not mounted, or there are too many.
    pub fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            &*name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut attributes: Termios = tcgetattr(&slave)?;
        attributes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &attributes)?;
        let open = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, open | OFlags::NONBLOCK)?;
        Ok(Self {
            master,
            name: name.to_string_lossy().into_owned(),
            _slave: slave,
        })
    }

    /// What to open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes what fits now.
    ///
    /// # Errors
    /// The kernel's, except that nothing fits: that is 0.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        or_nothing(rustix::io::write(&self.master, bytes))
    }

    /// Reads what is there now.
    ///
    /// # Errors
    /// The kernel's, except that nothing is there: that is 0.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        or_nothing(rustix::io::read(&self.master, into))
    }
}

fn or_nothing(result: rustix::io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        other => Ok(other?),
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_pass_as_they_are() {
        let terminal = Terminal::open().unwrap();
        let mut other = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(terminal.name())
            .unwrap();
        let said = b"a\nb\x03\x04\r";
        assert_eq!(terminal.write(said).unwrap(), said.len());
        let mut got = [0; 6];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, said);
        other.write_all(said).unwrap();
        let mut got = [0; 64];
        assert_eq!(terminal.read(&mut got).unwrap(), said.len());
        assert_eq!(terminal.read(&mut got).unwrap(), 0);
    }
}
