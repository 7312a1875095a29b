//! The socket on which `ox` asks.
//!
//! A thread for each connection, [`MOST_CONNECTIONS`] at most. It does itself what concerns no
//! single domain or changes nothing; the rest it gives to the domain's thread and waits.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::daemon::Daemon;
use super::protocol::{
    Answer, DomainEvent, DomainEventKind, Event, Failure, FailureCode, Request, Response, receive,
    send,
};
use super::registry::MOST_TASKS;
use super::registry::NotTaken;
use super::worker::Task;
use super::{control, restoring};
use crate::config::{BadValue, DomainConfig, DomainName};
use crate::stream;
use crate::sys::DomId;

/// Connections at a time.
pub const MOST_CONNECTIONS: usize = 64;

/// How long a client may take to read or to send the rest of a message it has begun.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens on a socket that only root can reach.
///
/// # Errors
/// The folder or the socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // The lock says that no other daemon listens: it is a dead one's.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves for ever.
pub fn serve(daemon: &Arc<Daemon>, listener: &UnixListener) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection");
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            refuse(stream);
            continue;
        }
        let (daemon, open) = (Arc::clone(daemon), Arc::clone(&open));
        let spawned = std::thread::Builder::new()
            .name("connection".into())
            .spawn(move || {
                if let Err(error) = (Connection { daemon, stream }).run() {
                    tracing::debug!(%error, "connection ended");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a connection");
        }
    }
}

fn refuse(mut stream: UnixStream) {
    let failure = Failure::new(
        FailureCode::InUse,
        format!("oxd serves {MOST_CONNECTIONS} connections already: try again"),
    );
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let _ = send(&mut stream, &Answer::End(Err(failure)));
}

struct Connection {
    daemon: Arc<Daemon>,
    stream: UnixStream,
}

impl Connection {
    fn run(mut self) -> Result<(), super::protocol::WireError> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        while let Some(request) = receive::<Request>(&mut self.stream)? {
            tracing::debug!(?request, "request");
            let result = self.answer(request);
            send(&mut self.stream, &Answer::End(result))?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Hello => Ok(Response::Hello {
                version: env!("CARGO_PKG_VERSION").into(),
                pid: std::process::id(),
            }),
            Request::Create { config, paused } => self.create(&config, paused),
            Request::Shutdown { domain, how, wait } => {
                let domain = DomId(domain);
                self.known(domain)?;
                let (_, ends) = self.daemon.events.listen();
                let response = control::shutdown(&self.daemon.store, domain, how)?;
                if wait {
                    self.await_end(domain, &ends);
                }
                Ok(response)
            }
            Request::Events {
                domain,
                past,
                follow,
            } => self.events(domain, past, follow),
            Request::Destroy { domain } => self.destroy(DomId(domain)),
            Request::DumpCore { domain, file } => self.dump(DomId(domain), file),
            Request::Rename { domain, .. }
            | Request::VcpuSet { domain, .. }
            | Request::MemSet { domain, .. }
            | Request::MemMax { domain, .. }
            | Request::BlockAttach { domain, .. }
            | Request::BlockDetach { domain, .. }
            | Request::NetworkAttach { domain, .. }
            | Request::NetworkDetach { domain, .. }
            | Request::Config { domain }
            | Request::Save { domain, .. }
            | Request::SnapshotCreate { domain, .. } => self.give(DomId(domain), request),
            Request::SnapshotList { domain } => {
                let domain = domain.as_deref().map(parsed).transpose()?;
                let list = self.daemon.persist.snapshots().list(domain.as_ref());
                Ok(Response::Snapshots(list))
            }
            Request::SnapshotDelete { domain, name } => {
                let (domain, name) = (parsed(&domain)?, parsed(&name)?);
                self.daemon.persist.snapshots().delete(&domain, &name)?;
                Ok(Response::Done)
            }
            Request::Restore {
                file,
                config,
                paused,
            } => self.restore(Path::new(&file), config.as_deref(), paused),
            Request::SnapshotRevert { domain, name } => self.revert(&domain, &name),
        }
    }

    fn create(&mut self, config: &str, paused: bool) -> Result<Response, Failure> {
        let config = configuration(config)?;
        let mut progress = told(&mut self.stream);
        let domain = self.daemon.create(config, paused, &mut progress)?;
        Ok(Response::Created { domain: domain.0 })
    }

    fn restore(
        &mut self,
        file: &Path,
        config: Option<&str>,
        paused: bool,
    ) -> Result<Response, Failure> {
        let config = config.map(configuration).transpose()?;
        let saved = restoring::Saved::open(file, config)?;
        let mut progress = told(&mut self.stream);
        let domain = saved.restore(&self.daemon, paused, &mut progress)?;
        Ok(Response::Created { domain: domain.0 })
    }

    /// Nothing ends before it is sure that the snapshot is whole.
    fn revert(&mut self, domain: &str, name: &str) -> Result<Response, Failure> {
        let (domain, name): (DomainName, _) = (parsed(domain)?, parsed(name)?);
        let snapshots = self.daemon.persist.snapshots();
        let (manifest, folder) = snapshots.read(&domain, &name)?;
        let config = manifest.config.clone();
        let saved = restoring::Saved::open(&manifest.memory(&folder), Some(config))?;
        if let Some(running) = self.daemon.registry.named(&domain) {
            self.destroy(running.domain)?;
        }
        // Whoever has them now may use the disks.
        self.daemon.check_name(&self.daemon.store, &domain)?;
        if let Some(uuid) = saved.uuid() {
            let free = self.daemon.registry.reserve(&domain, uuid);
            drop(free.map_err(|text| Failure::new(FailureCode::InUse, text))?);
        }
        let mut progress = told(&mut self.stream);
        progress("putting disks back", 0, 0);
        manifest.restore_disks(&folder)?;
        let domain = saved.restore(&self.daemon, false, &mut progress)?;
        Ok(Response::Created { domain: domain.0 })
    }

    fn known(&self, domain: DomId) -> Result<(), Failure> {
        let info = self.daemon.xen.domain_info(domain)?;
        if domain == DomId::DOM0 {
            return Err(Failure::new(
                FailureCode::Denied,
                "domain 0 is the one this runs in: use `poweroff` or `reboot`",
            ));
        }
        if info.dying {
            return Err(Failure::new(
                FailureCode::NotFound,
                format!("domain {domain} is being destroyed"),
            ));
        }
        Ok(())
    }

    /// Has the domain's thread do it, and passes on what it tells meanwhile.
    fn give(&mut self, domain: DomId, request: Request) -> Result<Response, Failure> {
        let Some(entry) = self.daemon.registry.get(domain) else {
            self.known(domain)?;
            return Err(Failure::new(
                FailureCode::Unsupported,
                format!("domain {domain} was made by another toolstack: use that one"),
            ));
        };
        let (reply, answers) = sync_channel(MOST_TASKS);
        entry
            .give(Task::Do(request, reply))
            .map_err(|why| match why {
                NotTaken::Busy => Failure::new(
                    FailureCode::InUse,
                    format!("domain {domain} is busy: try again"),
                ),
                NotTaken::Gone => gone(domain),
            })?;
        for answer in answers {
            match answer {
                Answer::End(result) => return result,
                // Who has gone away does not stop it.
                Answer::Event(_) => drop(send(&mut self.stream, &answer)),
            }
        }
        Err(gone(domain))
    }

    /// Also of domains that another toolstack made: who asks for the end means it.
    fn destroy(&mut self, domain: DomId) -> Result<Response, Failure> {
        if self.daemon.registry.get(domain).is_some() {
            return self.give(domain, Request::Destroy { domain: domain.0 });
        }
        self.known(domain)?;
        let machine = self.daemon.machine();
        machine.destroy(domain)?;
        machine.clean(domain);
        machine.await_gone(domain)?;
        self.daemon
            .events
            .tell(domain, "", DomainEventKind::Destroyed);
        Ok(Response::Done)
    }

    /// Also of domains that another toolstack made, or that are kept after they crashed: it changes
    /// nothing.
    fn dump(&mut self, domain: DomId, file: String) -> Result<Response, Failure> {
        if self.daemon.registry.get(domain).is_some() {
            let request = Request::DumpCore {
                domain: domain.0,
                file,
            };
            return self.give(domain, request);
        }
        self.known(domain)?;
        let path = Path::new(&file);
        stream::dump(&self.daemon.xen, domain, path, &mut |_, _| {})
            .map_err(|error| Failure::of_file(path, &error))?;
        Ok(Response::Done)
    }

    fn await_end(&self, domain: DomId, events: &Receiver<DomainEvent>) {
        let there = || self.daemon.xen.domain_info(domain).is_ok();
        while there() {
            match events.recv() {
                Ok(event) if event.domain != domain.0 => {}
                Ok(event) => {
                    if matches!(
                        event.what,
                        DomainEventKind::Destroyed
                            | DomainEventKind::Shutdown(_)
                            | DomainEventKind::Restarted(_)
                    ) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn events(
        &mut self,
        domain: Option<u16>,
        past: bool,
        follow: bool,
    ) -> Result<Response, Failure> {
        let (before, events) = self.daemon.events.listen();
        let wanted = |event: &DomainEvent| domain.is_none_or(|domain| event.domain == domain);
        let mut tell = |event: DomainEvent| {
            let answer = Answer::Event(Event::Domain(event));
            send(&mut self.stream, &answer)
                .map_err(|error| Failure::new(FailureCode::Failed, error.to_string()))
        };
        if past {
            for event in before.into_iter().filter(|event| wanted(event)) {
                tell(event)?;
            }
        }
        if follow {
            for event in events.iter().filter(|event| wanted(event)) {
                tell(event)?;
            }
        }
        Ok(Response::Done)
    }
}

fn configuration(text: &str) -> Result<DomainConfig, Failure> {
    DomainConfig::from_toml(text, "configuration")
        .map_err(|error| Failure::new(FailureCode::BadConfig, error.to_string()))
}

/// Tells a client how far it is. One that has gone away does not stop it.
fn told(stream: &mut UnixStream) -> impl FnMut(&str, u64, u64) {
    move |what, done, of| {
        let what = what.into();
        let event = Event::Progress { what, done, of };
        let _ = send(stream, &Answer::Event(event));
    }
}

/// A name out of a message, checked again: it becomes part of a path.
fn parsed<T: FromStr<Err = BadValue>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|error: BadValue| Failure::new(FailureCode::BadConfig, error.to_string()))
}

fn gone(domain: DomId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("domain {domain} has ended"))
}
