//! The thread that moves the bytes of all consoles.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pv_drivers::ring::ConsoleBackend;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::log::Log;
use super::pump::{Input, Limit, Output};
use super::terminal::Terminal;
use crate::sys::{DomId, Evtchn, Port, SharedPages};

/// Most bytes taken out of one guest's ring at once: a whole ring.
pub const ROUND_BYTES: usize = 2048;

/// Rounds of a guest in each [`PERIOD`].
pub const ROUNDS: u32 = 100;

/// See [`ROUNDS`]. Together they are 2 MiB/s, more than any terminal shows.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Ports looked at before terminals and commands get their turn.
const PORTS_AT_ONCE: usize = 256;

/// Commands that may wait.
const MOST_COMMANDS: usize = 64;

/// Why a console is not served.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// One of its parts.
    #[error("console of domain {domain}: {what}: {error}")]
    Part {
        /// Whose.
        domain: DomId,
        /// Which part.
        what: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The thread has ended.
    #[error("the console service has ended; restart oxd")]
    Ended,
}

/// A domain's console to serve.
#[derive(Debug)]
pub struct Request {
    /// Whose.
    pub domain: DomId,
    /// Name of its log, without ending.
    pub log: String,
    /// Its ring page.
    pub ring: SharedPages,
    /// Its port.
    pub port: Port,
}

enum Command {
    Open(Request, SyncSender<Result<String, ConsoleError>>),
    Close(DomId, SyncSender<()>),
}

/// The service, as others see it. It ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Consoles {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
}

impl Consoles {
    /// Starts the service; logs go to `folder`.
    ///
    /// # Errors
    /// No thread, no file descriptor.
    pub fn start(evtchn: Arc<dyn Evtchn>, folder: PathBuf) -> io::Result<(Self, JoinHandle<()>)> {
        let (commands, receiver) = sync_channel(MOST_COMMANDS);
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let service = Service {
            evtchn,
            folder,
            commands: receiver,
            wake: Arc::clone(&wake),
            consoles: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("consoles".into())
            .spawn(move || service.run())?;
        Ok((Self { commands, wake }, thread))
    }

    /// Serves a console; returns the name of its terminal. One that is served already is
    /// served anew.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn open(&self, request: Request) -> Result<String, ConsoleError> {
        let (sender, receiver) = sync_channel(1);
        self.send(Command::Open(request, sender))?;
        receiver.recv().map_err(|_| ConsoleError::Ended)?
    }

    /// Serves a domain's console no more: ring unmapped, port closed, terminal gone.
    pub fn close(&self, domain: DomId) {
        let (sender, receiver) = sync_channel(1);
        if self.send(Command::Close(domain, sender)).is_ok() {
            // It has ended, and its consoles with it.
            let _ = receiver.recv();
        }
    }

    fn send(&self, command: Command) -> Result<(), ConsoleError> {
        self.commands
            .send(command)
            .map_err(|_| ConsoleError::Ended)?;
        self.ring_bell();
        Ok(())
    }

    fn ring_bell(&self) {
        // It can only be full, and then the service wakes as well.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Consoles {
    fn drop(&mut self) {
        // So that the service sees that the channel has ended.
        self.ring_bell();
    }
}

struct Service {
    evtchn: Arc<dyn Evtchn>,
    folder: PathBuf,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    consoles: BTreeMap<DomId, Console>,
}

/// One console.
struct Console {
    domain: DomId,
    evtchn: Arc<dyn Evtchn>,
    ring: ConsoleBackend<SharedPages>,
    /// The guest made its ring impossible: nothing is read from it any more.
    broken: bool,
    port: Port,
    terminal: Terminal,
    log: Log,
    output: Output,
    input: Input,
    limit: Limit,
    /// Its port stays masked until then.
    masked: Option<Instant>,
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Err(error) = self.evtchn.unbind(self.port) {
            tracing::warn!(domain = self.domain.0, %error, "console's port not closed");
        }
    }
}

impl Service {
    fn run(mut self) {
        while self.obey() {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    // Nothing of it comes from a guest. Not at full speed in any case.
                    tracing::error!(%error, "consoles");
                    std::thread::sleep(PERIOD);
                    continue;
                }
            };
            if ready.events {
                self.events();
            }
            let now = Instant::now();
            for console in self.consoles.values_mut() {
                if console.masked.is_some_and(|until| until <= now) {
                    console.masked = None;
                    console.round(now);
                }
            }
            for (domain, flags) in ready.terminals {
                if let Some(console) = self.consoles.get_mut(&domain) {
                    console.serve_terminal(flags);
                }
            }
        }
    }

    /// Does what was asked; `false` if nobody can ask any more.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(request, reply)) => {
                    let result = self.open(request);
                    // Who asked may have gone.
                    let _ = reply.send(result);
                }
                Ok(Command::Close(domain, reply)) => {
                    self.consoles.remove(&domain);
                    let _ = reply.send(());
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn open(&mut self, request: Request) -> Result<String, ConsoleError> {
        let Request {
            domain,
            log,
            ring,
            port,
        } = request;
        // An older one holds the port.
        self.consoles.remove(&domain);
        let part = |what| {
            move |error| ConsoleError::Part {
                domain,
                what,
                error,
            }
        };
        let terminal = Terminal::open().map_err(part("terminal"))?;
        let port = self
            .evtchn
            .bind_interdomain(domain, port)
            .map_err(part("event channel"))?;
        let now = Instant::now();
        let mut console = Console {
            domain,
            evtchn: Arc::clone(&self.evtchn),
            ring: ConsoleBackend::attach(ring),
            broken: false,
            port,
            terminal,
            log: Log::open(&self.folder, &log),
            output: Output::default(),
            input: Input::default(),
            limit: Limit::new(ROUNDS, PERIOD, now),
            masked: None,
        };
        let name = console.terminal.name().to_owned();
        // What it said before.
        console.round(now);
        self.consoles.insert(domain, console);
        Ok(name)
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(&*self.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(self.evtchn.fd(), PollFlags::IN),
        ];
        for console in self.consoles.values() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, console.input.room() > 0);
            flags.set(PollFlags::OUT, !console.output.is_empty());
            fds.push(PollFd::from_borrowed_fd(console.terminal.as_fd(), flags));
        }
        let next = self.consoles.values().filter_map(|c| c.masked).min();
        let now = Instant::now();
        let limit = next.map(|at| at.saturating_duration_since(now));
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            // It is non-blocking; what it says does not matter.
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        let terminals = self
            .consoles
            .keys()
            .zip(&fds[2..])
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(domain, fd)| (*domain, fd.revents()))
            .collect();
        Ok(Ready {
            events: !fds[1].revents().is_empty(),
            terminals,
        })
    }

    fn events(&mut self) {
        let now = Instant::now();
        for _ in 0..PORTS_AT_ONCE {
            match self.evtchn.pending() {
                Ok(Some(port)) => {
                    let console = self.consoles.values_mut().find(|c| c.port == port);
                    if let Some(console) = console {
                        console.round(now);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "consoles' event channels");
                    return;
                }
            }
        }
    }
}

/// What can be done without waiting.
struct Ready {
    events: bool,
    terminals: Vec<(DomId, PollFlags)>,
}

impl Console {
    /// Moves what the ring has and can take; then the guest may say that there is more, unless
    /// it has done so too often.
    fn round(&mut self, now: Instant) {
        self.take();
        self.give();
        match self.limit.round(now) {
            Ok(()) => {
                if let Err(error) = self.evtchn.unmask(self.port) {
                    tracing::warn!(domain = self.domain.0, %error, "console's port");
                }
            }
            Err(until) => self.masked = Some(until),
        }
    }

    fn take(&mut self) {
        if self.broken {
            return;
        }
        let mut bytes = [0; ROUND_BYTES];
        match self.ring.take(&mut bytes) {
            Ok(0) => {}
            Ok(count) => {
                self.log.write(&bytes[..count]);
                self.output.push(&bytes[..count]);
                self.notify();
            }
            Err(_) => self.give_up(),
        }
    }

    fn give(&mut self) {
        if self.broken || self.input.next().is_empty() {
            return;
        }
        match self.ring.put(self.input.next()) {
            Ok(0) => {}
            Ok(count) => {
                self.input.took(count);
                self.notify();
            }
            Err(_) => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        self.broken = true;
        tracing::warn!(
            domain = self.domain.0,
            "the console ring's indices are impossible: it is served no more"
        );
    }

    fn notify(&self) {
        if let Err(error) = self.evtchn.notify(self.port) {
            tracing::warn!(domain = self.domain.0, %error, "console's port");
        }
    }

    fn serve_terminal(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) && !self.output.is_empty() {
            match self.terminal.write(self.output.next()) {
                Ok(count) => self.output.took(count),
                Err(error) => tracing::warn!(domain = self.domain.0, %error, "terminal"),
            }
        }
        if flags.contains(PollFlags::IN) {
            let mut typed = [0; 1024];
            let room = self.input.room().min(typed.len());
            match self.terminal.read(&mut typed[..room]) {
                Ok(count) => {
                    self.input.push(&typed[..count]);
                    self.give();
                }
                Err(error) => tracing::warn!(domain = self.domain.0, %error, "terminal"),
            }
        }
    }
}
