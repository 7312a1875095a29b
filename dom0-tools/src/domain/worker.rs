//! One thread for each domain: it does what is asked of the domain, one thing after another,
//! and what the domain's own doings ask for.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use super::create::{How, Progress, Source};
use super::daemon::Daemon;
use super::life::{Input, Life, Order, Phase, Policy, Then};
use super::machine::Machine;
use super::protocol::{Answer, DomainEventKind, Event, Failure, FailureCode, Request, Response};
use super::registry::{Entry, MOST_TASKS};
use super::{control, keeping, saving};
use crate::config::DomainConfig;
use crate::ctl::ShutdownReason;
use crate::sys::DomId;

/// Something to do.
#[derive(Debug)]
pub enum Task {
    /// Something may have happened to the domain.
    Look,
    /// Somebody asks for something, and waits for the last answer; events come before it.
    Do(Request, SyncSender<Answer>),
}

/// The thread's own.
pub struct Worker {
    /// What all share.
    pub daemon: Arc<Daemon>,
    /// Its way to the machine.
    pub machine: Machine,
    /// What others know of the domain.
    pub entry: Arc<Entry>,
    life: Life,
    /// The configuration of a successor, if it is not that of this domain.
    owed: Option<DomainConfig>,
    /// Whether the end of its life was told.
    stopped_told: bool,
}

/// Looks after a complete domain from now on.
///
/// # Errors
/// No thread can be made.
pub fn start(
    daemon: &Arc<Daemon>,
    machine: Machine,
    domain: DomId,
    config: DomainConfig,
) -> std::io::Result<Arc<Entry>> {
    let (sender, tasks) = sync_channel(MOST_TASKS);
    let entry = Arc::new(Entry::new(domain, config, sender));
    let worker = Worker {
        daemon: Arc::clone(daemon),
        machine,
        entry: Arc::clone(&entry),
        life: Life::found(),
        owed: None,
        stopped_told: false,
    };
    daemon.registry.add(Arc::clone(&entry));
    let spawned = std::thread::Builder::new()
        .name(format!("domain {domain}"))
        .spawn(move || worker.run(&tasks));
    if let Err(error) = spawned {
        daemon.registry.remove(domain);
        return Err(error);
    }
    // It may have ended before anybody looked.
    let _ = entry.give(Task::Look);
    Ok(entry)
}

impl Worker {
    fn run(mut self, tasks: &Receiver<Task>) {
        while self.life.phase() != Phase::Gone {
            let Ok(task) = tasks.recv() else { return };
            if let Task::Do(request, reply) = task {
                // One that does not listen misses some.
                let tell = |event| drop(reply.try_send(Answer::Event(event)));
                let result = self.answer(request, &tell);
                // Who asked may have gone.
                let _ = reply.send(Answer::End(result));
            }
            self.look();
        }
        // Those who came too late get their answer by the channel's end.
    }

    fn answer(&mut self, request: Request, tell: &dyn Fn(Event)) -> Result<Response, Failure> {
        if matches!(self.life.phase(), Phase::Ending(_) | Phase::Gone) {
            return Err(Failure::new(FailureCode::NotFound, "the domain has ended"));
        }
        match request {
            Request::Destroy { .. } => {
                self.input(Input::Destroy);
                Ok(Response::Done)
            }
            other => control::answer(self, other, tell),
        }
    }

    /// Looks at the domain, and does what follows from it.
    fn look(&mut self) {
        let input = match self.machine.xen.domain_info(self.entry.domain) {
            Err(error) if error.is_no_domain() => Input::Vanished,
            Err(error) => {
                tracing::warn!(domain = self.entry.domain.0, %error, "look");
                return;
            }
            Ok(info) if info.dying => Input::Vanished,
            Ok(info) => match info.shutdown {
                Some(ShutdownReason::SUSPEND) if self.goes_on_late() => return,
                Some(reason) => {
                    if !self.stopped_told {
                        self.stopped_told = true;
                        self.tell(DomainEventKind::Shutdown(reason.to_string()));
                    }
                    Input::Stopped(reason)
                }
                None => {
                    self.stopped_told = false;
                    return;
                }
            },
        };
        self.input(input);
    }

    /// Where it is in its life.
    pub const fn phase(&self) -> Phase {
        self.life.phase()
    }

    /// Lets a domain go on that suspended itself when its save had been given up, or whose saving
    /// daemon was killed. Says whether it was one.
    fn goes_on_late(&self) -> bool {
        let uuid = self.entry.uuid();
        if self.phase() != Phase::Alive || !self.daemon.persist.is_saving(uuid) {
            return false;
        }
        match self.machine.resume(self.entry.domain) {
            Ok(()) => self.daemon.persist.unmark_saving(uuid),
            Err(error) => self.trouble(&format!("suspended, and does not go on: {error}")),
        }
        true
    }

    /// Something happened.
    pub fn input(&mut self, input: Input) {
        let policy = Policy::of(&self.entry.config());
        let before = self.life.phase();
        let orders = self.life.step(input, policy);
        self.note_successor(before);
        for order in orders {
            tracing::debug!(domain = self.entry.domain.0, ?order, "order");
            self.obey(order);
        }
    }

    /// Writes down that a successor is due, before the first step towards it, or is not any
    /// more: another daemon may have to go on.
    fn note_successor(&self, before: Phase) {
        let (uuid, persist) = (self.entry.uuid(), &self.daemon.persist);
        match (before, self.life.phase()) {
            (Phase::Ending(Then::Start), Phase::Ending(Then::Nothing)) => {
                persist.unmark_start(uuid);
            }
            (before, after @ Phase::Ending(Then::Start)) if before != after => {
                if let Err(error) = persist.mark_start(uuid, &self.entry.config()) {
                    self.trouble(&error.to_string());
                }
            }
            _ => {}
        }
    }

    fn obey(&mut self, order: Order) {
        let domain = self.entry.domain;
        match order {
            Order::Dump => {
                if let Err(failure) = self.dump() {
                    self.trouble(&format!("its memory is not dumped: {}", failure.text));
                }
            }
            Order::Rename => match keeping::make_room(self) {
                Ok(owed) => self.owed = Some(owed),
                Err(error) => self.trouble(&error.text),
            },
            Order::Destroy => {
                // Killed from here on, the next daemon finishes it: a domain without devices would
                // be of no use.
                if let Err(error) = self.daemon.persist.mark_ending(self.entry.uuid()) {
                    self.trouble(&error.to_string());
                }
                if let Err(error) = self.machine.destroy(domain) {
                    self.trouble(&error.to_string());
                }
            }
            Order::Release => {
                self.machine.clean(domain);
                match self.machine.await_gone(domain) {
                    Ok(true) => {}
                    Ok(false) => self.trouble("somebody still maps its memory: it is a zombie"),
                    Err(error) => self.trouble(&error.to_string()),
                }
                self.daemon.registry.remove(domain);
                self.daemon.persist.forget(self.entry.uuid());
                self.tell(DomainEventKind::Destroyed);
                self.input(Input::Released);
            }
            Order::Start => self.start_successor(),
        }
    }

    /// Writes what is left of a crashed domain into a file named for it and for now.
    fn dump(&mut self) -> Result<(), Failure> {
        let folder = self.daemon.dumps.clone();
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|error| {
            let text = format!("{}: {error}", folder.display());
            Failure::new(FailureCode::BadFile, text)
        })?;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let file = format!("{}-{}.core", self.entry.name(), now.replace(':', "-"));
        saving::dump(self, &folder.join(file), &|_| {}).map(drop)
    }

    fn start_successor(&mut self) {
        let own = || self.entry.config();
        let config = self.owed.take().unwrap_or_else(own);
        let uuid = config.uuid;
        match self.daemon.create(config, false, &mut |_, _, _| {}) {
            Ok(domain) => self.tell(DomainEventKind::Restarted(domain.0)),
            Err(failure) => self.trouble(&format!("not started anew: {}", failure.text)),
        }
        if let Some(uuid) = uuid {
            self.daemon.persist.unmark_start(uuid);
        }
    }

    /// Tells listeners.
    pub fn tell(&self, what: DomainEventKind) {
        let name = self.entry.name();
        self.daemon.events.tell(self.entry.domain, &name, what);
    }

    fn trouble(&self, text: &str) {
        tracing::warn!(domain = self.entry.domain.0, text, "trouble");
        self.tell(DomainEventKind::Trouble(text.to_owned()));
    }
}

/// Circumstances for [`super::create::create`].
pub fn how<'a>(
    uuid: crate::config::Uuid,
    paused: bool,
    source: Source<'a>,
    progress: Progress<'a>,
) -> How<'a> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    How {
        uuid,
        now: since.map_or(0, |time| time.as_secs()),
        paused,
        source,
        progress,
    }
}
