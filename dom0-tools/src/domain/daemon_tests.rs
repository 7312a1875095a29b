//! A daemon that is killed, or whose calls to the hypervisor fail, at any of them: the next one
//! finds every guest, and nothing half made.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::*;
use crate::build::NewDomain;
use crate::ctl::CreateDomain;
use crate::domain::protocol::{AfterSave, Answer, Request, Response};
use crate::domain::registry::MOST_TASKS;
use crate::domain::restoring::Saved;
use crate::store::server::{Devices, Options, Server};
use crate::stream::{self, file};
use crate::sys::fake::{Machine as FakeMachine, guest};
use crate::sys::{Access, Buffer, Foreign, Mfn, Pfn, Privcmd, Resource, SharedPages};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What happens to a daemon that calls the hypervisor.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    /// After so many calls it is killed: its threads do nothing any more.
    Killed(usize),
    /// The call after so many fails.
    Fails(usize),
}

/// A daemon's way to the hypervisor.
struct Tampered {
    machine: FakeMachine,
    fate: Mutex<Fate>,
}

impl Tampered {
    fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    fn get(&self) -> Fate {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_killed(&self) -> bool {
        matches!(self.get(), Fate::Killed(0))
    }

    fn call(&self) -> std::io::Result<()> {
        let fate = self.get();
        match fate {
            Fate::Nothing => {}
            Fate::Killed(0) => loop {
                thread::park();
            },
            Fate::Killed(left) => {
                self.set(Fate::Killed(left - 1));
                if left == 1 {
                    return self.call();
                }
            }
            Fate::Fails(0) => {
                self.set(Fate::Nothing);
                return Err(std::io::Error::from_raw_os_error(libc::EPERM));
            }
            Fate::Fails(left) => self.set(Fate::Fails(left - 1)),
        }
        Ok(())
    }
}

impl Privcmd for Tampered {
    fn buffer(&self, bytes: usize) -> std::io::Result<Buffer> {
        self.machine.buffer(bytes)
    }

    fn hypercall(
        &self,
        number: u64,
        arguments: [u64; 5],
        buffer: &mut Buffer,
    ) -> std::io::Result<u64> {
        self.call()?;
        self.machine.hypercall(number, arguments, buffer)
    }

    fn map_foreign(
        &self,
        domain: DomId,
        frames: &[Mfn],
        access: Access,
    ) -> std::io::Result<Foreign> {
        self.call()?;
        self.machine.map_foreign(domain, frames, access)
    }

    fn map_resource(&self, domain: DomId, resource: Resource) -> std::io::Result<SharedPages> {
        self.call()?;
        self.machine.map_resource(domain, resource)
    }
}

/// A machine with xenstore, on which daemons come and go, and a file of its guest.
struct Host {
    machine: FakeMachine,
    folder: tempfile::TempDir,
    free: u64,
    stop: Arc<AtomicBool>,
    _server: Server,
}

const CONFIG: &str = "name = \"g\"\nkernel = \"/k\"\nmemory = \"1M\"\nuuid = \"00000000-0000-4000-8000-000000000009\"\n";

impl Host {
    fn new() -> Self {
        let machine = FakeMachine::new();
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            sockets: folder.path().join("store"),
            journal: folder.path().join("journal"),
            quota: Default::default(),
        };
        std::fs::create_dir_all(&options.sockets).unwrap();
        let devices = Devices {
            evtchn: Arc::new(machine.evtchn()),
            gntdev: Arc::new(machine.clone()),
            xenbus: Arc::new(machine.clone()),
            hypervisor: Box::new(Xen::new(Arc::new(machine.clone()))),
        };
        let host = Self {
            _server: Server::start(&options, Some(devices)).unwrap(),
            free: machine.free_frames(),
            machine,
            folder,
            stop: Arc::default(),
        };
        host.write_first();
        host.start_kernels();
        host
    }

    /// A file of the guest, as if another host had written it.
    fn write_first(&self) {
        let xen = Xen::new(Arc::new(self.machine.clone()));
        let domain = NewDomain::create(&xen, None, &CreateDomain::default()).unwrap();
        xen.set_max_memory(domain.id(), guest::PAGES * 4).unwrap();
        let at: Vec<Pfn> = (0..guest::PAGES).map(Pfn).collect();
        xen.populate(domain.id(), &at, 0).unwrap();
        self.machine.fill_guest(domain.id());
        self.machine.guest_suspends(domain.id());
        file::write(&self.file("first"), "", CONFIG, |mut to| {
            stream::save(&xen, domain.id(), &mut to, &mut |_, _| {})
        })
        .unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn link(&self) -> Link {
        Link::at(&self.folder.path().join("store/socket")).unwrap()
    }

    /// Kernels of guests: they suspend themselves when they are asked to.
    fn start_kernels(&self) {
        let (machine, link, stop) = (self.machine.clone(), self.link(), Arc::clone(&self.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
                for domain in (1..3).map(DomId) {
                    let path = format!("/local/domain/{domain}/control/shutdown");
                    let word = link.read(&path).ok().flatten();
                    if word.as_deref() == Some("suspend") {
                        link.update(&path, "").unwrap();
                        machine.guest_suspends(domain);
                    }
                }
            }
        });
    }

    fn daemon(&self) -> (Arc<Daemon>, Arc<Tampered>) {
        let way = Arc::new(Tampered {
            machine: self.machine.clone(),
            fate: Mutex::new(Fate::Nothing),
        });
        let daemon = Daemon {
            xen: Xen::new(way.clone()),
            store: self.link(),
            consoles: None,
            gntdev: Arc::new(self.machine.clone()),
            events: Events::default(),
            registry: Registry::default(),
            persist: Persist::open(&self.folder.path().join("lib")).unwrap(),
            dumps: self.folder.path().join("dump"),
            started: Instant::now(),
        };
        (Arc::new(daemon), way)
    }

    /// What the hypervisor says of a domain's UUID.
    fn machine_handle(&self, domain: DomId) -> [u8; 16] {
        let xen = Xen::new(Arc::new(self.machine.clone()));
        xen.domain_info(domain).unwrap().handle
    }

    /// One that has taken over, and watches.
    fn next_daemon(&self) -> Arc<Daemon> {
        let (daemon, _) = self.daemon();
        daemon.recover().unwrap();
        let watching = Arc::clone(&daemon);
        thread::spawn(move || watching.watch());
        daemon
    }

    fn restored(&self, daemon: &Arc<Daemon>) -> DomId {
        restore(daemon, &self.file("first")).unwrap()
    }

    /// No domain, and nothing of one, now or soon.
    fn assert_empty(&self, when: &str) {
        let begun = Instant::now();
        while let Some(left) = self.left() {
            assert!(begun.elapsed() < LIMIT, "{when}: {left}");
            thread::sleep(PAUSE);
        }
    }

    /// Something of a domain.
    fn left(&self) -> Option<String> {
        let (domains, free) = (self.machine.domains(), self.machine.free_frames());
        if (domains, free) != (0, self.free) {
            return Some(format!("{domains} domains, {free} free frames"));
        }
        let link = self.link();
        for path in ["/local/domain", "/libxl", "/vm"] {
            let names = link.list(path).unwrap();
            if names.iter().any(|name| name != "0") {
                return Some(format!("{path} has {names:?}"));
            }
        }
        for part in ["making", "domains", "saving", "writing", "ending"] {
            let notes = self.folder.path().join("lib").join(part);
            if std::fs::read_dir(notes).unwrap().count() != 0 {
                return Some(format!("a note in {part}"));
            }
        }
        None
    }

    /// A guest that runs, and which the daemon has in its hands: it can be saved, and ends.
    fn assert_alive(&self, daemon: &Arc<Daemon>, domain: DomId, when: &str) {
        until(when, || self.machine.stopped(domain).is_none());
        assert!(daemon.registry.get(domain).is_some(), "{when}: not adopted");
        assert!(self.machine.guest_is_whole(domain), "{when}");
        let last = self.file("last");
        let begun = Instant::now();
        while let Err(failure) = save(daemon, domain, &last, AfterSave::Destroy) {
            // Asked before, it may have suspended itself just now; it goes on.
            let late = failure.text.contains("stopped already");
            assert!(late && begun.elapsed() < LIMIT, "{when}: {}", failure.text);
            thread::sleep(PAUSE);
        }
        file::open(&last).expect(when);
        self.assert_empty(when);
    }

    /// Nothing is beside a file but perhaps the file, and that is whole.
    fn assert_whole(&self, path: &Path, when: &str) {
        let left = self.file(&format!(".{}.partial", path.file_name().unwrap().display()));
        assert!(!left.exists(), "{when}: {}", left.display());
        if path.exists() {
            file::open(path).expect(when);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn until(when: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{when}: it never came true");
        thread::sleep(PAUSE);
    }
}

fn restore(daemon: &Arc<Daemon>, path: &Path) -> Result<DomId, Failure> {
    Saved::open(path, None)?.restore(daemon, false, &mut |_, _, _| {})
}

/// Asks a domain's thread.
fn ask(daemon: &Daemon, domain: DomId, request: Request) -> Receiver<Answer> {
    let (reply, answers) = sync_channel(MOST_TASKS);
    let entry = daemon
        .registry
        .get(domain)
        .expect("a domain of this daemon");
    entry.give(Task::Do(request, reply)).unwrap();
    answers
}

/// The last answer; none if the daemon is killed before.
fn answered(
    answers: &Receiver<Answer>,
    way: Option<&Tampered>,
) -> Option<Result<Response, Failure>> {
    let begun = Instant::now();
    loop {
        match answers.recv_timeout(PAUSE) {
            Ok(Answer::End(result)) => return Some(result),
            Ok(Answer::Event(_)) => {}
            Err(RecvTimeoutError::Timeout) if way.is_some_and(Tampered::is_killed) => return None,
            Err(RecvTimeoutError::Timeout) => assert!(begun.elapsed() < LIMIT, "no answer"),
            Err(RecvTimeoutError::Disconnected) => panic!("no answer will come"),
        }
    }
}

fn save(daemon: &Daemon, domain: DomId, path: &Path, then: AfterSave) -> Result<Response, Failure> {
    let request = Request::Save {
        domain: domain.0,
        file: path.display().to_string(),
        then,
    };
    answered(&ask(daemon, domain, request), None).expect("nobody is killed")
}

/// Has a daemon be killed at each call it makes for a request, one after another; `check` looks at
/// what the next one makes of it.
fn killed_at_each_call(
    request: impl Fn(&Host, DomId) -> Request,
    check: impl Fn(&Host, &Arc<Daemon>, DomId, &str),
) {
    let host = Host::new();
    for calls in 1.. {
        let when = format!("killed at call {calls}");
        let (daemon, way) = host.daemon();
        let domain = host.restored(&daemon);
        way.set(Fate::Killed(calls));
        let answer = answered(&ask(&daemon, domain, request(&host, domain)), Some(&way));
        let next = host.next_daemon();
        check(&host, &next, domain, &when);
        if let Some(result) = answer {
            result.unwrap();
            assert!(calls > 2, "only {calls} calls");
            return;
        }
    }
}

#[test]
fn killed_while_it_saves() {
    let request = |host: &Host, domain: DomId| Request::Save {
        domain: domain.0,
        file: host.file("g.save").display().to_string(),
        then: AfterSave::Destroy,
    };
    killed_at_each_call(request, |host, next, domain, when| {
        let path = host.file("g.save");
        host.assert_whole(&path, when);
        if next.registry.get(domain).is_some() {
            host.assert_alive(next, domain, when);
        } else {
            assert!(path.exists(), "{when}: neither domain nor file");
            host.assert_empty(when);
        }
        let _ = std::fs::remove_file(path);
    });
}

#[test]
fn killed_while_it_makes_a_checkpoint() {
    for then in [AfterSave::Run, AfterSave::Pause] {
        let request = |host: &Host, domain: DomId| Request::Save {
            domain: domain.0,
            file: host.file("g.save").display().to_string(),
            then,
        };
        killed_at_each_call(request, |host, next, domain, when| {
            host.assert_whole(&host.file("g.save"), when);
            until(when, || host.machine.stopped(domain).is_none());
            if next.xen.domain_info(domain).unwrap().paused {
                assert_eq!(then, AfterSave::Pause, "{when}");
                next.xen.unpause(domain).unwrap();
            }
            host.assert_alive(next, domain, when);
        });
    }
}

#[test]
fn killed_while_it_makes_a_snapshot() {
    let request = |_: &Host, domain: DomId| Request::SnapshotCreate {
        domain: domain.0,
        name: "one".into(),
    };
    killed_at_each_call(request, |host, next, domain, when| {
        let snapshots = next.persist.snapshots();
        let name = &"one".parse().unwrap();
        for _ in snapshots.list(None) {
            let (manifest, folder) = snapshots.read(&"g".parse().unwrap(), name).unwrap();
            file::open(&manifest.memory(&folder)).expect(when);
            snapshots.delete(&"g".parse().unwrap(), name).unwrap();
        }
        let folder = host.folder.path().join("lib/snapshots/g");
        let left = std::fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{when}");
        host.assert_alive(next, domain, when);
    });
}

#[test]
fn killed_while_it_destroys() {
    let request = |_: &Host, domain: DomId| Request::Destroy { domain: domain.0 };
    killed_at_each_call(request, |host, next, domain, when| {
        // The request had not come to it.
        if next.registry.get(domain).is_some() {
            host.assert_alive(next, domain, when);
        } else {
            host.assert_empty(when);
        }
    });
}

#[test]
fn killed_while_it_dumps_a_running_domain() {
    let request = |host: &Host, domain: DomId| {
        host.machine.guest_shows_list(domain);
        let file = host.file("g.core").display().to_string();
        let domain = domain.0;
        Request::DumpCore { domain, file }
    };
    killed_at_each_call(request, |host, next, domain, when| {
        assert!(!host.file(".g.core.partial").exists(), "{when}");
        let _ = std::fs::remove_file(host.file("g.core"));
        host.assert_alive(next, domain, when);
    });
}

#[test]
fn killed_while_it_restores() {
    let host = Host::new();
    for calls in 1.. {
        let when = format!("killed at call {calls}");
        let (daemon, way) = host.daemon();
        way.set(Fate::Killed(calls));
        let path = host.file("first");
        let restoring = thread::spawn(move || restore(&daemon, &path));
        until(&when, || restoring.is_finished() || way.is_killed());
        let done = restoring.is_finished();
        let next = host.next_daemon();
        match next.xen.domains().unwrap().first() {
            None => host.assert_empty(&when),
            // Complete, and let run.
            Some(info) => {
                assert!(!info.paused, "{when}");
                host.assert_alive(&next, info.domain, &when);
            }
        }
        if done {
            restoring.join().unwrap().unwrap();
            return;
        }
    }
}

#[test]
fn a_restore_fails_at_any_call_and_nothing_is_left() {
    let host = Host::new();
    for calls in 0.. {
        let when = format!("call {calls} failed");
        let (daemon, way) = host.daemon();
        way.set(Fate::Fails(calls));
        let result = restore(&daemon, &host.file("first"));
        let unused = matches!(way.get(), Fate::Fails(_));
        way.set(Fate::Nothing);
        match result {
            Err(failure) => {
                assert!(failure.text.len() > 10, "{when}: {}", failure.text);
                assert!(daemon.registry.all().is_empty(), "{when}");
            }
            // What failed was not needed.
            Ok(domain) => {
                let request = Request::Destroy { domain: domain.0 };
                let answer = answered(&ask(&daemon, domain, request), None);
                answer.expect("nobody is killed").expect(&when);
            }
        }
        host.assert_empty(&when);
        if unused {
            assert!(calls > 20, "only {calls} calls");
            return;
        }
    }
}

#[test]
fn a_save_fails_at_any_call_and_the_guest_goes_on() {
    let host = Host::new();
    let next = host.next_daemon();
    let path = host.file("g.save");
    std::fs::copy(host.file("first"), &path).unwrap();
    let old = std::fs::read(&path).unwrap();
    for calls in 0.. {
        let when = format!("call {calls} failed");
        let (daemon, way) = host.daemon();
        let domain = host.restored(&daemon);
        way.set(Fate::Fails(calls));
        let result = save(&daemon, domain, &path, AfterSave::Run);
        let unused = matches!(way.get(), Fate::Fails(_));
        way.set(Fate::Nothing);
        host.assert_whole(&path, &when);
        until(&when, || {
            // Somebody looks now and then.
            let _ = daemon.registry.get(domain).unwrap().give(Task::Look);
            host.machine.stopped(domain).is_none()
        });
        match &result {
            Ok(_) => std::fs::write(&path, &old).unwrap(),
            // The file may be complete when the guest cannot be let go on at first.
            Err(failure) if failure.text.contains("does not go on") => {
                std::fs::write(&path, &old).unwrap();
            }
            Err(failure) => {
                assert!(failure.text.len() > 10, "{when}: {}", failure.text);
                assert_eq!(std::fs::read(&path).unwrap(), old, "{when}");
            }
        }
        host.assert_alive(&daemon, domain, &when);
        if unused {
            result.unwrap();
            assert!(calls > 20, "only {calls} calls");
            break;
        }
    }
    assert!(next.registry.all().is_empty());
}

#[test]
fn a_crash_is_dumped_and_started_anew_or_not() {
    let host = Host::new();
    let next = host.next_daemon();
    let domain = host.restored(&next);
    let entry = next.registry.get(domain).unwrap();
    host.machine.guest_shows_list(domain);
    entry.change(|config| config.on_crash = crate::config::Action::CoredumpDestroy);
    host.machine
        .guest_stops(domain, xen_abi::sched::SHUTDOWN_CRASH as u8);
    host.assert_empty("crashed");
    let dumps: Vec<_> = std::fs::read_dir(host.file("dump")).unwrap().collect();
    assert_eq!(dumps.len(), 1);
    let core = std::fs::read(dumps[0].as_ref().unwrap().path()).unwrap();
    assert_eq!(core[..4], *b"\x7fELF");
}

#[path = "keeping_tests.rs"]
mod keeping;
