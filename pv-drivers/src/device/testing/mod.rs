//! A machine of ordinary memory, for tests and fuzzers on a host: domains that share pages, event
//! channels, one store, one clock.
//!
//! Everything happens on one thread: while a domain [waits](Clock::wait), the function given to
//! [`Machine::meanwhile`] stands for all others, and the clock goes on. Nothing here checks what
//! domains may do to each other's nodes: a test plays a hostile backend by [`Domain::store`]-ing
//! nonsense through another domain, and by [`Machine::page`].

use std::collections::BTreeMap;
use std::fmt;
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

mod pages;

use super::{Access, Channel, Channels, Clock, DomId, GrantRef, Port, Refused, Store, Watch};
use crate::ring::testing::TestPage;

pub use pages::{Mapped, Shared};

type Hook = Box<dyn FnMut() + Send>;

/// One page's grant.
struct Grant {
    page: Arc<TestPage>,
    owner: DomId,
    peer: DomId,
    access: Access,
    /// The owner still shares it.
    live: bool,
}

struct End {
    peer: DomId,
    /// The other end, once connected.
    other: Option<(DomId, u32)>,
    sent: u64,
}

struct Observed {
    domain: DomId,
    path: String,
    fired: Arc<AtomicBool>,
}

#[derive(Default)]
struct World {
    grants: BTreeMap<u32, Grant>,
    next_grant: u32,
    most_grants: Option<usize>,
    ends: BTreeMap<(DomId, u32), End>,
    next_port: u32,
    nodes: BTreeMap<String, String>,
    watches: BTreeMap<u64, Observed>,
    next_watch: u64,
    now: Duration,
    /// Domains that have an event they have not waited for.
    stirred: Vec<DomId>,
    /// Waits of domains that end at once: an event comes at every moment.
    storms: BTreeMap<DomId, u32>,
    refuse_store: bool,
    incarnations: BTreeMap<DomId, u32>,
    /// What a node says that is read, after so many others were.
    lie: Option<(usize, Option<String>)>,
}

impl World {
    fn stir(&mut self, domain: DomId) {
        if !self.stirred.contains(&domain) {
            self.stirred.push(domain);
        }
    }

    fn changed(&mut self, path: &str) {
        let mut stirred = Vec::new();
        for watch in self.watches.values() {
            if is_within(path, &watch.path) || is_within(&watch.path, path) {
                watch.fired.store(true, Ordering::Relaxed);
                stirred.push(watch.domain);
            }
        }
        for domain in stirred {
            self.stir(domain);
        }
    }
}

/// Whether a path is the folder or lies in it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The machine. Clones are the same one.
#[derive(Clone, Default)]
pub struct Machine {
    world: Arc<Mutex<World>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    /// An empty machine at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One domain's view.
    #[must_use]
    pub fn domain(&self, id: DomId) -> Domain {
        Domain {
            machine: self.clone(),
            id,
        }
    }

    /// What all others do while a domain waits. It must not hold the machine's last clone alive
    /// through itself for ever: [`rest`](Self::rest) ends it.
    pub fn meanwhile(&self, others: impl FnMut() + Send + 'static) {
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        *hook = Some(Box::new(others));
    }

    /// Nobody does anything while a domain waits.
    pub fn rest(&self) {
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        *hook = None;
    }

    /// Makes the nodes of a device as a toolstack does: `kind` is `vbd` or `vif`.
    pub fn plug(&self, kind: &str, id: u32, frontend: DomId, backend: DomId) {
        let front = format!("/local/domain/{}/device/{kind}/{id}", frontend.0);
        let back = format!(
            "/local/domain/{}/backend/{kind}/{}/{id}",
            backend.0, frontend.0
        );
        let dom0 = self.domain(DomId(0));
        for (path, value) in [
            (format!("{front}/backend"), back.clone()),
            (format!("{front}/backend-id"), backend.0.to_string()),
            (format!("{front}/state"), "1".into()),
            (format!("{back}/frontend"), front.clone()),
            (format!("{back}/frontend-id"), frontend.0.to_string()),
            (format!("{back}/state"), "1".into()),
        ] {
            dom0.write(&path, &value).expect("a store that answers");
        }
    }

    /// At most so many pages may be shared at a time.
    pub fn limit_grants(&self, most: usize) {
        self.world().most_grants = Some(most);
    }

    /// A domain was saved and restored: its grants and channels are of no use from now on. Whoever
    /// calls this [plugs](Self::plug) its devices anew.
    pub fn restore(&self, domain: DomId) {
        let mut world = self.world();
        *world.incarnations.entry(domain).or_default() += 1;
        world.ends.retain(|(owner, _), _| *owner != domain);
        for grant in world.grants.values_mut().filter(|g| g.owner == domain) {
            grant.live = false;
        }
        world.stir(domain);
    }

    /// From now on the store answers nobody, or again everybody.
    pub fn refuse_store(&self, refuse: bool) {
        self.world().refuse_store = refuse;
    }

    /// The grants that are shared now, or still mapped after their owner let go.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantRef> {
        let mut world = self.world();
        world
            .grants
            .retain(|_, grant| grant.live || Arc::strong_count(&grant.page) > 1);
        world.grants.keys().copied().map(GrantRef).collect()
    }

    /// A shared page's memory, for a peer that scribbles.
    #[must_use]
    pub fn page(&self, grant: GrantRef) -> Option<Arc<TestPage>> {
        let world = self.world();
        let grant = world.grants.get(&grant.0)?;
        Some(Arc::clone(&grant.page))
    }

    /// Events that a domain sent on a channel so far.
    #[must_use]
    pub fn sent(&self, domain: DomId, port: Port) -> u64 {
        self.world()
            .ends
            .get(&(domain, port.0))
            .map_or(0, |end| end.sent)
    }

    /// Sends a domain an event for no reason, at each of its next `waits`.
    pub fn storm(&self, domain: DomId, waits: u32) {
        let mut world = self.world();
        world.stir(domain);
        world.storms.insert(domain, waits);
    }

    /// The read of a node after so many others finds this there, or nothing: values that change
    /// from one look to the next.
    pub fn lie(&self, after: usize, value: Option<&str>) {
        self.world().lie = Some((after, value.map(Into::into)));
    }

    /// No storm and no lie any more.
    pub fn calm(&self) {
        let mut world = self.world();
        world.storms.clear();
        world.lie = None;
    }

    /// A grant's owner takes it back while others use it: what is mapped stays so, nothing more
    /// is mapped or copied.
    pub fn revoke(&self, grant: GrantRef) {
        if let Some(grant) = self.world().grants.get_mut(&grant.0) {
            grant.live = false;
        }
    }

    /// A domain's ends of all channels are closed, as when it dies.
    pub fn hang_up(&self, domain: DomId) {
        self.world().ends.retain(|(owner, _), _| *owner != domain);
    }

    /// Moves the clock.
    pub fn pass(&self, time: Duration) {
        self.world().now += time;
    }
}

/// A domain of the machine.
#[derive(Clone, Debug)]
pub struct Domain {
    machine: Machine,
    id: DomId,
}

impl Domain {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.id
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            path.into()
        } else {
            format!("/local/domain/{}/{path}", self.id.0)
        }
    }

    /// The world, if the store answers.
    fn store(&self) -> Result<MutexGuard<'_, World>, Refused> {
        let world = self.machine.world();
        if world.refuse_store {
            Err(Refused::Store)
        } else {
            Ok(world)
        }
    }

    fn foreign(&self, peer: DomId, grant: GrantRef) -> Result<(Arc<TestPage>, Access), Refused> {
        let world = self.machine.world();
        match world.grants.get(&grant.0) {
            Some(found) if found.live && found.owner == peer && found.peer == self.id => {
                Ok((Arc::clone(&found.page), found.access))
            }
            _ => Err(Refused::Denied),
        }
    }
}

/// One end of a channel.
#[derive(Debug)]
pub struct Line {
    machine: Machine,
    domain: DomId,
    port: u32,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.machine.world().ends.remove(&(self.domain, self.port));
    }
}

impl Channel for Line {
    fn port(&self) -> Port {
        Port(self.port)
    }

    fn notify(&self) {
        let mut world = self.machine.world();
        let Some(end) = world.ends.get_mut(&(self.domain, self.port)) else {
            return;
        };
        end.sent += 1;
        if let Some(other) = end.other
            && world.ends.contains_key(&other)
        {
            world.stir(other.0);
        }
    }
}

impl Domain {
    fn line(&self, peer: DomId, other: Option<(DomId, u32)>) -> Line {
        let mut world = self.machine.world();
        world.next_port += 1;
        let port = world.next_port;
        let end = End {
            peer,
            other,
            sent: 0,
        };
        world.ends.insert((self.id, port), end);
        if let Some(other) = other
            && let Some(end) = world.ends.get_mut(&other)
        {
            end.other = Some((self.id, port));
        }
        Line {
            machine: self.machine.clone(),
            domain: self.id,
            port,
        }
    }
}

impl Channels for Domain {
    type Channel = Line;

    fn offer(&self, peer: DomId) -> Result<Line, Refused> {
        Ok(self.line(peer, None))
    }
}

/// A watch.
#[derive(Debug)]
pub struct Lookout {
    machine: Machine,
    id: u64,
    fired: Arc<AtomicBool>,
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.machine.world().watches.remove(&self.id);
    }
}

impl Watch for Lookout {
    fn fired(&self) -> bool {
        self.fired.swap(false, Ordering::Relaxed)
    }
}

impl Store for Domain {
    type Watch = Lookout;

    fn incarnation(&self) -> u32 {
        let world = self.machine.world();
        world.incarnations.get(&self.id).copied().unwrap_or(0)
    }

    fn read(&self, path: &str) -> Result<Option<String>, Refused> {
        let mut world = self.store()?;
        match &mut world.lie {
            Some((0, _)) => return Ok(world.lie.take().and_then(|(_, value)| value)),
            Some((after, _)) => *after -= 1,
            None => {}
        }
        Ok(world.nodes.get(&self.absolute(path)).cloned())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refused> {
        let folder = format!("{}/", self.absolute(path));
        let world = self.store()?;
        let mut names: Vec<String> = world
            .nodes
            .keys()
            .filter_map(|path| path.strip_prefix(&folder)?.split('/').next())
            .map(Into::into)
            .collect();
        names.dedup();
        Ok(names)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Refused> {
        let path = self.absolute(path);
        let mut world = self.store()?;
        world.nodes.insert(path.clone(), value.into());
        world.changed(&path);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Refused> {
        let path = self.absolute(path);
        let mut world = self.store()?;
        world.nodes.retain(|node, _| !is_within(node, &path));
        world.changed(&path);
        Ok(())
    }

    fn watch(&self, path: &str) -> Result<Lookout, Refused> {
        let fired = Arc::new(AtomicBool::new(true));
        let mut world = self.store()?;
        world.next_watch += 1;
        let id = world.next_watch;
        world.watches.insert(
            id,
            Observed {
                domain: self.id,
                path: self.absolute(path),
                fired: Arc::clone(&fired),
            },
        );
        Ok(Lookout {
            machine: self.machine.clone(),
            id,
            fired,
        })
    }
}

impl Clock for Domain {
    fn now(&self) -> Duration {
        self.machine.world().now
    }

    fn wait(&self, until: Duration) {
        // Taken out meanwhile: it may itself wait.
        let lock = || {
            self.machine
                .hook
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let hook = lock().take();
        if let Some(mut hook) = hook {
            hook();
            lock().get_or_insert(hook);
        }
        let mut world = self.machine.world();
        let before = world.stirred.len();
        world.stirred.retain(|domain| *domain != self.id);
        let stirred = world.stirred.len() != before;
        if let Some(waits) = world.storms.get_mut(&self.id) {
            match waits.checked_sub(1) {
                Some(left) => {
                    *waits = left;
                    world.stir(self.id);
                }
                None => drop(world.storms.remove(&self.id)),
            }
        }
        let left = until.saturating_sub(world.now);
        // Who waits for nothing is soon done; and in a storm of events time passes too.
        let step = if stirred {
            Duration::from_millis(1)
        } else {
            left / 8 + Duration::from_millis(1)
        };
        world.now += step.min(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Foreign, Pages, SharedPage};
    use crate::ring::Page;

    #[test]
    fn a_page_is_shared_until_it_is_dropped_and_kept_while_mapped() {
        let machine = Machine::new();
        let (guest, back) = (machine.domain(DomId(3)), machine.domain(DomId(0)));
        let page = guest.share(DomId(0), Access::Write).unwrap();
        let grant = page.grant();
        let mapped = back.map(DomId(3), grant).unwrap();
        mapped.write(7, b"hello");
        let mut text = [0; 5];
        page.read(7, &mut text);
        assert_eq!(&text, b"hello");
        assert!(machine.domain(DomId(1)).map(DomId(3), grant).is_err());
        drop(page);
        assert!(back.map(DomId(3), grant).is_err());
        assert_eq!(machine.grants(), [grant]);
        drop(mapped);
        assert!(machine.grants().is_empty());
    }

    #[test]
    fn waiting_ends_at_an_event_or_in_time() {
        let machine = Machine::new();
        let (guest, back) = (machine.domain(DomId(3)), machine.domain(DomId(0)));
        let line = guest.offer(DomId(0)).unwrap();
        let other = back.bind(DomId(3), line.port()).unwrap();
        other.notify();
        guest.wait(Duration::from_secs(1));
        assert_eq!(guest.now(), Duration::from_millis(1));
        for _ in 0..200 {
            guest.wait(Duration::from_secs(1));
        }
        assert_eq!(guest.now(), Duration::from_secs(1));
        let watch = guest.watch("a/b").unwrap();
        assert!(watch.fired());
        back.write("/local/domain/3/a/b/c", "1").unwrap();
        assert!(watch.fired());
        assert!(!watch.fired());
        assert_eq!(guest.list("a").unwrap(), ["b"]);
        assert_eq!(guest.read("a/b/c").unwrap().as_deref(), Some("1"));
    }
}
