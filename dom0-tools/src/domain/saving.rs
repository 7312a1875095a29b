//! A running domain into a file, alone or with its disks, and what becomes of it then.
//!
//! ```text
//!  ask ──► suspended ──► work ─┬─► it ends    (save)
//!   │                          └─► it goes on (checkpoint, snapshot, whatever failed)
//!   └─► took no note, or did not suspend itself: it has never stopped, or goes on late
//! ```
//!
//! Before it is asked a note is made on disk, so that a domain which suspends itself late, or
//! whose daemon is killed meanwhile, goes on all the same; another one names the file.

use std::path::Path;
use std::time::Duration;

use super::control::order;
use super::life::{Input, Phase};
use super::machine::Machine;
use super::protocol::{AfterSave, DomainEventKind, Event, Failure, FailureCode, Response};
use super::worker::Worker;
use crate::config::{BadValue, SnapshotName};
use crate::ctl::{DomainInfo, ShutdownReason};
use crate::device::nodes::{Kind, Nodes, devices};
use crate::device::vbd;
use crate::stream::{self, file};
use crate::sys::{DomId, PAGE_SIZE};

/// How long a guest may take to suspend itself once it has taken note. Xen's toolstack waits a
/// minute, which is little for one that is busy on a slow machine.
const SUSPEND_LIMIT: Duration = Duration::from_secs(180);

/// What suspending asks of the machine.
trait Stops {
    /// What the domain is.
    fn info(&self, domain: DomId) -> Result<DomainInfo, Failure>;

    /// Stops it beside its being suspended.
    fn pause(&self, domain: DomId) -> Result<(), Failure>;

    /// Lets it go on where it is.
    fn resume(&self, domain: DomId) -> Result<(), Failure>;
}

impl Stops for Machine {
    fn info(&self, domain: DomId) -> Result<DomainInfo, Failure> {
        Ok(self.xen.domain_info(domain)?)
    }

    fn pause(&self, domain: DomId) -> Result<(), Failure> {
        Ok(self.xen.pause(domain)?)
    }

    fn resume(&self, domain: DomId) -> Result<(), Failure> {
        Ok(Self::resume(self, domain)?)
    }
}

/// How far a save came.
#[derive(Debug, PartialEq, Eq)]
enum Outcome<T> {
    /// It is done, and the domain is as was asked.
    Done(T),
    /// It failed, and the domain goes on.
    Failed(Failure),
    /// The domain was asked, and may suspend itself yet.
    Late(Failure),
}

/// Has a domain suspend itself, does `work` meanwhile, and has it be as `then` says. Whatever
/// fails, it goes on.
fn suspended<T>(
    machine: &impl Stops,
    store: &impl Nodes,
    domain: DomId,
    then: AfterSave,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Outcome<T> {
    match suspend(machine, store, domain) {
        Outcome::Done(()) => {}
        Outcome::Failed(failure) => return Outcome::Failed(failure),
        Outcome::Late(failure) => return Outcome::Late(failure),
    }
    let goes_on = || {
        let resumed = machine.resume(domain);
        resumed.map_err(|failure| {
            let text = format!("domain {domain} does not go on: {}", failure.text);
            Failure::new(failure.code, text)
        })
    };
    let done = work().and_then(|value| {
        if then == AfterSave::Pause {
            machine.pause(domain)?;
        }
        Ok(value)
    });
    match done {
        Ok(value) if then == AfterSave::Destroy => Outcome::Done(value),
        Ok(value) => match goes_on() {
            Ok(()) => Outcome::Done(value),
            Err(failure) => Outcome::Late(failure),
        },
        Err(failure) => match goes_on() {
            Ok(()) => Outcome::Failed(failure),
            Err(more) => Outcome::Late(Failure::new(
                failure.code,
                format!("{}; and {}", failure.text, more.text),
            )),
        },
    }
}

/// Has a domain suspend itself.
fn suspend(machine: &impl Stops, store: &impl Nodes, domain: DomId) -> Outcome<()> {
    match machine.info(domain) {
        Err(failure) => return Outcome::Failed(failure),
        // It could take no note.
        Ok(info) if info.paused => {
            let text = format!("domain {domain} is paused: let it go on with `ox unpause` first");
            return Outcome::Failed(Failure::new(FailureCode::Failed, text));
        }
        Ok(info) => {
            if let Some(reason) = info.shutdown {
                let text = format!("domain {domain} has stopped already: {reason}");
                return Outcome::Failed(Failure::new(FailureCode::Failed, text));
            }
        }
    }
    if let Err(failure) = order(store, domain, "suspend") {
        // Nobody knows whether it read the word just before that was taken back.
        return Outcome::Late(failure);
    }
    let stopped = store.wait("@releaseDomain", SUSPEND_LIMIT, |_| {
        Ok(match machine.info(domain) {
            Ok(info) if info.dying => Some(Err(gone(domain))),
            Ok(info) => info.shutdown.map(Ok),
            Err(failure) => Some(Err(failure)),
        })
    });
    match stopped {
        Ok(Some(Ok(ShutdownReason::SUSPEND))) => Outcome::Done(()),
        Ok(Some(Ok(reason))) => {
            let text = format!("domain {domain} did not suspend itself but ended: {reason}");
            Outcome::Failed(Failure::new(FailureCode::Failed, text))
        }
        Ok(Some(Err(failure))) if failure.code == FailureCode::NotFound => Outcome::Failed(failure),
        Ok(Some(Err(failure))) => Outcome::Late(failure),
        Ok(None) => {
            let text = format!(
                "domain {domain} took note of `suspend`, but did not suspend itself in {} s: see what its kernel says",
                SUSPEND_LIMIT.as_secs()
            );
            Outcome::Late(Failure::new(FailureCode::TimedOut, text))
        }
        Err(failure) => Outcome::Late(failure.into()),
    }
}

fn gone(domain: DomId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("domain {domain} has ended"))
}

/// Does `work` while the worker's domain is suspended.
fn while_suspended<T>(
    worker: &mut Worker,
    then: AfterSave,
    work: impl FnOnce(&Worker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let domain = worker.entry.domain;
    if worker.phase() != Phase::Alive {
        return Err(gone(domain));
    }
    if worker.entry.config().nomigrate {
        let text = format!(
            "domain {domain} is never saved: its configuration says so with the key nomigrate"
        );
        return Err(Failure::new(FailureCode::Denied, text));
    }
    let (uuid, persist) = (worker.entry.uuid(), &worker.daemon.persist);
    // One that was asked before, and may suspend itself yet on that account.
    let late = persist.is_saving(uuid);
    persist.mark_saving(uuid).map_err(not_noted)?;
    worker.input(Input::SaveBegun);
    let store = worker.machine.store.clone();
    let outcome = suspended(&worker.machine, &store, domain, then, || work(worker));
    match outcome {
        Outcome::Done(value) => {
            if then == AfterSave::Destroy {
                worker.input(Input::Saved);
            } else {
                worker.input(Input::SaveEnded);
                worker.daemon.persist.unmark_saving(uuid);
            }
            Ok(value)
        }
        Outcome::Failed(failure) => {
            worker.input(Input::SaveEnded);
            if !late {
                worker.daemon.persist.unmark_saving(uuid);
            }
            Err(failure)
        }
        Outcome::Late(failure) => {
            worker.input(Input::SaveEnded);
            Err(failure)
        }
    }
}

fn not_noted(error: std::io::Error) -> Failure {
    let text = format!("{}: {error}", super::persist::FOLDER);
    Failure::new(FailureCode::Failed, text)
}

/// Does `work`, which writes `file`, with a note on disk, by which a later daemon finds what is
/// left of the file if this one is killed.
fn while_noted<T>(
    worker: &mut Worker,
    file: &Path,
    work: impl FnOnce(&mut Worker) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let uuid = worker.entry.uuid();
    let noted = worker.daemon.persist.mark_writing(uuid, file);
    noted.map_err(not_noted)?;
    let done = work(worker);
    worker.daemon.persist.unmark_writing(uuid);
    done
}

/// Writes the suspended domain.
fn write(worker: &Worker, path: &Path, tell: &dyn Fn(Event)) -> Result<(), Failure> {
    let (xen, domain) = (&worker.machine.xen, worker.entry.domain);
    let config = worker.entry.config();
    let mut progress = telling("saving memory", tell);
    file::write(path, &config.to_xl(), &config.to_toml(), |mut to| {
        stream::save(xen, domain, &mut to, &mut progress)
    })
    .map(drop)
    .map_err(|error| Failure::of_file(path, &error))
}

/// Saves the worker's domain into a file.
///
/// # Errors
/// Each with its kind; there is no new file then, and the domain goes on.
pub fn save(
    worker: &mut Worker,
    path: &str,
    then: AfterSave,
    tell: &dyn Fn(Event),
) -> Result<Response, Failure> {
    let file = Path::new(path);
    while_noted(worker, file, |worker| {
        while_suspended(worker, then, |worker| {
            write(worker, file, tell)?;
            worker.tell(DomainEventKind::Saved(path.to_owned()));
            Ok(())
        })
    })?;
    Ok(Response::Done)
}

/// Writes the worker's domain, which may run or have stopped, into a file for debuggers.
///
/// # Errors
/// Each with its kind; there is no new file then.
pub fn dump(worker: &mut Worker, file: &Path, tell: &dyn Fn(Event)) -> Result<Response, Failure> {
    while_noted(worker, file, |worker| {
        let mut progress = telling("dumping memory", tell);
        let (xen, domain) = (&worker.machine.xen, worker.entry.domain);
        stream::dump(xen, domain, file, &mut progress)
            .map_err(|error| Failure::of_file(file, &error))
    })?;
    let path = file.display().to_string();
    worker.tell(DomainEventKind::Dumped(path));
    Ok(Response::Done)
}

/// Tells how many pages of how many are done, in bytes.
fn telling<'a>(what: &'static str, tell: &'a dyn Fn(Event)) -> impl FnMut(u64, u64) + 'a {
    const PAGE: u64 = PAGE_SIZE as u64;
    move |done, of| {
        let what = what.into();
        let (done, of) = (done * PAGE, of * PAGE);
        tell(Event::Progress { what, done, of });
    }
}

/// Keeps memory and disks of the worker's domain under a name; it goes on.
///
/// # Errors
/// Each with its kind; there is no snapshot then, and the domain goes on.
pub fn snapshot(
    worker: &mut Worker,
    name: &str,
    tell: &dyn Fn(Event),
) -> Result<Response, Failure> {
    let name: SnapshotName = name
        .parse()
        .map_err(|error: BadValue| Failure::new(FailureCode::BadConfig, error.to_string()))?;
    let info = worker.machine.xen.domain_info(worker.entry.domain)?;
    let config = worker.entry.config();
    let snapshots = worker.daemon.persist.snapshots();
    let mut making = snapshots.begin(&name, &config, info.memory_kib())?;
    while_suspended(worker, AfterSave::Run, |worker| {
        write(worker, &making.memory(), tell)?;
        let what = "copying disks".into();
        let (done, of) = (0, 0);
        tell(Event::Progress { what, done, of });
        let store = &worker.machine.store;
        for device in devices(store, worker.entry.domain, Kind::Vbd)? {
            vbd::flush(store, device)?;
        }
        Ok(making.copy_disks()?)
    })?;
    making.finish()?;
    Ok(Response::Done)
}

#[cfg(test)]
#[path = "saving_tests.rs"]
mod tests;
