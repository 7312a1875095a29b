//! `console`: the person's terminal and the domain's, joined.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::args::Console;
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::note;
use crate::cli::world::{World, find_guest};
use crate::sys::DomId;

/// Ctrl-] as a terminal sends it.
const LEAVE: u8 = 0x1d;

/// How long a new domain's console may take to be served.
const PATIENCE: Duration = Duration::from_secs(10);

/// `console`
///
/// # Errors
/// There is no such guest, or nobody serves its console.
pub fn console(world: &dyn World, args: &Console) -> Result<(), Fail> {
    let guest = find_guest(world, &args.domain, "console")?;
    if args.number != 0 {
        return Err(Fail::new(
            Exit::NotFound,
            format!("{} has no console {}: only 0", guest.name, args.number),
        ));
    }
    attach(world, guest.id, &guest.name)
}

/// Joins the terminals until one of them ends or Ctrl-] is typed.
///
/// # Errors
/// Nobody serves the console, or a terminal fails.
pub fn attach(world: &dyn World, id: DomId, name: &str) -> Result<(), Fail> {
    let path = tty(world, id, name)?;
    let mut guest = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(&path)
        .map_err(|error| Fail::file(&format!("console of {name}, {path}"), &error))?;
    let mut here = RawTerminal::of_stdin();
    if here.is_terminal() {
        note(&format!("console of {name}: Ctrl-] leaves\r"));
    }
    let end = join(&mut guest)?;
    here.restore();
    match end {
        End::Left if io::stdin().is_terminal() => note(""),
        End::Left => {}
        End::Closed => note(&format!("\nconsole of {name} is closed")),
    }
    Ok(())
}

/// The pseudo-terminal that whoever serves consoles has published; a moment is given for it.
fn tty(world: &dyn World, id: DomId, name: &str) -> Result<String, Fail> {
    let node = format!("/local/domain/{id}/console/tty");
    let begin = Instant::now();
    loop {
        if let Some(path) = world.read(&node)?.filter(|path| !path.is_empty()) {
            // The node is the console server's, and yet.
            return match path.starts_with("/dev/pts/") && !path.contains("..") {
                true => Ok(path),
                false => Err(Fail::new(
                    Exit::Failed,
                    format!("{node}: {path:?} is no terminal"),
                )),
            };
        }
        if begin.elapsed() > PATIENCE {
            return Err(Fail::new(
                Exit::Unreachable,
                format!("nobody serves the console of {name}: does oxd (or xenconsoled) run?"),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

enum End {
    Left,
    Closed,
}

fn join(guest: &mut File) -> Result<End, Fail> {
    let (mut typed, mut shown) = (io::stdin(), io::stdout());
    let mut buffer = [0; 4096];
    let mut more = true;
    loop {
        let (from_guest, from_here) = {
            let stdin = io::stdin();
            let interest = if more {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            let mut waiting = [
                PollFd::from_borrowed_fd(guest.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stdin.as_fd(), interest),
            ];
            // Without input there is nobody to wait for on the second.
            let count = if more { 2 } else { 1 };
            match poll(&mut waiting[..count], None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.map_err(io::Error::from)?,
            };
            (
                !waiting[0].revents().is_empty(),
                more && !waiting[1].revents().is_empty(),
            )
        };
        if from_guest {
            match guest.read(&mut buffer) {
                // EIO: the other end of the pseudo-terminal is closed.
                Ok(0) | Err(_) => return Ok(End::Closed),
                Ok(count) => {
                    shown.write_all(&buffer[..count])?;
                    shown.flush()?;
                }
            }
        }
        if from_here {
            let count = typed.read(&mut buffer)?;
            let bytes = &buffer[..count];
            more = count > 0;
            let leave = bytes.iter().position(|byte| *byte == LEAVE);
            if guest.write_all(&bytes[..leave.unwrap_or(count)]).is_err() {
                return Ok(End::Closed);
            }
            if leave.is_some() || (!more && io::stdin().is_terminal()) {
                return Ok(End::Left);
            }
        }
    }
}

/// Standard input, if it is a terminal, passing on every key; as it was before when dropped.
pub struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    /// Changes it.
    pub fn of_stdin() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
        }
        Self { before }
    }

    /// Was it one?
    pub const fn is_terminal(&self) -> bool {
        self.before.is_some()
    }

    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}
