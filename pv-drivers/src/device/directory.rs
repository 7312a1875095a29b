//! What a domain is to serve: the devices that the toolstack lists in the domain's own directory.
//!
//! ```text
//! backend/KIND/GUEST/NUMBER   made by the toolstack, owned by the domain that serves
//! ```
//!
//! A [`Directory`] begins to serve what appears there and drops what has gone. The end of a device is
//! asked for by `online` = 0; some toolstacks (`xl`) then leave it to this domain to remove its half
//! when it has closed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::xenbus::State;
use super::{Clock, Refused, Store, Watch};

/// Devices that are served at most; more are refused.
pub const MOST: usize = 64;

/// From a device's end to the removal of its half. A toolstack that waits for the end must see it
/// first, and some take a half that has gone for one that failed.
const LINGER: Duration = Duration::from_secs(2);

/// What serves one device.
pub trait Backend {
    /// Does what there is to do; does not wait. Returns whether there was something.
    fn poll(&mut self) -> bool;

    /// Whether it serves no longer, unless its frontend begins anew.
    fn is_over(&self) -> bool;

    /// Serves no longer, and says so.
    fn close(&mut self);
}

/// A device of the directory.
struct Entry<B> {
    /// None: it could not be served, and will not be.
    backend: Option<B>,
    /// Whether it was over at the last look.
    over: bool,
    /// When its nodes are to be removed, once it is over for good.
    removal: Option<Duration>,
}

/// All devices of a kind that this domain is to serve.
pub struct Directory<P: Store + Clock, B> {
    platform: P,
    folder: String,
    watch: P::Watch,
    /// The nodes are still to be looked at.
    stirred: bool,
    entries: BTreeMap<String, Entry<B>>,
}

impl<P: Store + Clock, B> fmt::Debug for Directory<P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({}: {})", self.folder, self.entries.len())
    }
}

impl<P: Store + Clock, B: Backend> Directory<P, B> {
    /// The devices of a kind, as `vbd` or `vif`; there may be none yet.
    ///
    /// # Errors
    /// The store's.
    pub fn open(platform: P, kind: &str) -> Result<Self, Refused> {
        let folder = format!("backend/{kind}");
        Ok(Self {
            watch: platform.watch(&folder)?,
            stirred: true,
            platform,
            folder,
            entries: BTreeMap::new(),
        })
    }

    /// How many devices are served.
    pub fn len(&self) -> usize {
        self.served().count()
    }

    /// Whether none is served.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn served(&self) -> impl Iterator<Item = &B> {
        self.entries
            .values()
            .filter_map(|entry| entry.backend.as_ref())
    }

    /// Begins with new devices, by `open`, which is told where a device's nodes are or says why it
    /// cannot serve it; drops those that have gone, and has each do what there is to do. Returns
    /// whether there was something.
    ///
    /// # Errors
    /// The store's: ask again later.
    pub fn poll(
        &mut self,
        mut open: impl FnMut(&str) -> Result<B, String>,
    ) -> Result<bool, Refused> {
        self.stirred |= self.watch.fired();
        if self.stirred {
            self.look(&mut open)?;
        }
        let mut busy = false;
        for backend in self.backends() {
            busy |= backend.poll();
        }
        self.remove_ended()?;
        self.stirred = false;
        Ok(busy)
    }

    /// When to call [`poll`](Self::poll) at the latest, without an event.
    pub fn due(&self) -> Option<Duration> {
        let removals = self.entries.values().filter_map(|entry| entry.removal);
        removals.min()
    }

    /// Serves none any longer, and says so.
    pub fn close(&mut self) {
        self.backends().for_each(Backend::close);
    }

    fn backends(&mut self) -> impl Iterator<Item = &mut B> {
        self.entries
            .values_mut()
            .filter_map(|entry| entry.backend.as_mut())
    }

    fn look(&mut self, open: &mut impl FnMut(&str) -> Result<B, String>) -> Result<(), Refused> {
        let homes = self.homes()?;
        self.entries.retain(|home, _| homes.contains(home));
        for home in homes {
            if self.entries.contains_key(&home) {
                continue;
            }
            let opened = if self.entries.len() < MOST {
                open(&home)
            } else {
                Err("no more devices can be served".into())
            };
            let backend = match opened {
                Ok(backend) => Some(backend),
                Err(why) => {
                    self.refuse(&home, &why)?;
                    None
                }
            };
            let entry = Entry {
                backend,
                over: false,
                removal: None,
            };
            self.entries.insert(home, entry);
        }
        Ok(())
    }

    /// Where the nodes of all devices are.
    fn homes(&self) -> Result<Vec<String>, Refused> {
        let mut homes = Vec::new();
        for guest in self.platform.list(&self.folder)? {
            let folder = format!("{}/{guest}", self.folder);
            let numbers = self.platform.list(&folder)?;
            homes.extend(numbers.iter().map(|number| format!("{folder}/{number}")));
        }
        Ok(homes)
    }

    /// Says that a device will not be served, and why, where toolstacks look for it.
    fn refuse(&self, home: &str, why: &str) -> Result<(), Refused> {
        self.platform.write(&format!("error/{home}/error"), why)?;
        let closed = format!("{}", State::Closed as u8);
        self.platform.write(&format!("{home}/state"), &closed)
    }

    /// Removes the nodes of devices that are over for good, and have been for a while.
    fn remove_ended(&mut self) -> Result<(), Refused> {
        let now = self.platform.now();
        for (home, entry) in &mut self.entries {
            let was_over = entry.over;
            entry.over = entry.backend.as_ref().is_none_or(Backend::is_over);
            match entry.removal {
                _ if !entry.over => entry.removal = None,
                Some(time) if time <= now => {
                    // At first: if it fails, this is not tried without pause.
                    entry.removal = None;
                    self.platform.remove(home)?;
                }
                None if self.stirred || !was_over => {
                    let online = self.platform.read(&format!("{home}/online"))?;
                    let wanted = online.is_some_and(|online| online.trim() != "0");
                    entry.removal = (!wanted).then_some(now + LINGER);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::backend::{Medium, MediumError, Options, Server};
    use crate::device::DomId;
    use crate::device::testing::{Domain, Machine};

    const DOM0: DomId = DomId(0);
    const DRIVER: DomId = DomId(2);
    const GUEST: DomId = DomId(3);

    struct Nothing;

    impl Medium for Nothing {
        fn sectors(&self) -> u64 {
            8
        }

        fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), MediumError> {
            Ok(())
        }

        fn write(&mut self, _: u64, _: &[u8]) -> Result<(), MediumError> {
            Ok(())
        }

        fn flush(&mut self) -> Result<(), MediumError> {
            Ok(())
        }
    }

    type Disks = Directory<Domain, Server<Domain, Nothing>>;

    struct Scene {
        machine: Machine,
        disks: Disks,
    }

    impl Scene {
        fn new() -> Self {
            let machine = Machine::new();
            let disks = Directory::open(machine.domain(DRIVER), "vbd").unwrap();
            Self { machine, disks }
        }

        fn plug(&self, id: u32) -> String {
            self.machine.plug("vbd", id, GUEST, DRIVER);
            let home = format!("/local/domain/2/backend/vbd/3/{id}");
            self.write(&format!("{home}/online"), "1");
            home
        }

        fn write(&self, path: &str, value: &str) {
            self.machine.domain(DOM0).write(path, value).unwrap();
        }

        fn read(&self, path: &str) -> Option<String> {
            self.machine.domain(DOM0).read(path).unwrap()
        }

        fn poll(&mut self) {
            let platform = self.machine.domain(DRIVER);
            self.disks
                .poll(|home| {
                    Server::open(platform.clone(), home, Nothing, Options::default())
                        .map_err(|why| format!("{why}"))
                })
                .unwrap();
        }
    }

    #[test]
    fn devices_are_served_as_they_come_and_dropped_as_they_go() {
        let mut scene = Scene::new();
        scene.poll();
        assert!(scene.disks.is_empty());
        let (first, second) = (scene.plug(51712), scene.plug(51728));
        scene.poll();
        assert_eq!(scene.disks.len(), 2);
        for home in [&first, &second] {
            assert_eq!(scene.read(&format!("{home}/state")).as_deref(), Some("2"));
        }
        scene.machine.domain(DOM0).remove(&first).unwrap();
        scene.poll();
        assert_eq!(scene.disks.len(), 1);
        assert_eq!(scene.read(&format!("{first}/state")), None);
    }

    #[test]
    fn a_half_that_is_over_for_good_is_removed_after_a_while() {
        let mut scene = Scene::new();
        let home = scene.plug(51712);
        scene.poll();
        // The guest has let go, and may come back.
        scene.write("/local/domain/3/device/vbd/51712/state", "6");
        scene.poll();
        scene.machine.pass(LINGER * 2);
        scene.poll();
        assert_eq!(scene.read(&format!("{home}/state")).as_deref(), Some("6"));
        // Not if the device is to end.
        scene.write(&format!("{home}/online"), "0");
        scene.poll();
        let due = scene.disks.due().unwrap();
        assert_eq!(scene.read(&format!("{home}/state")).as_deref(), Some("6"));
        scene.machine.pass(LINGER);
        assert!(due <= scene.machine.domain(DRIVER).now());
        scene.poll();
        assert_eq!(scene.read(&format!("{home}/state")), None);
        scene.poll();
        assert!(scene.disks.is_empty() && scene.disks.due().is_none());
    }

    #[test]
    fn what_cannot_be_served_is_refused_once() {
        let mut scene = Scene::new();
        let home = scene.plug(51712);
        let mut tries = 0;
        for _ in 0..3 {
            scene
                .disks
                .poll(|_| {
                    tries += 1;
                    Err("too large".into())
                })
                .unwrap();
        }
        assert_eq!(tries, 1);
        assert_eq!(scene.read(&format!("{home}/state")).as_deref(), Some("6"));
        assert!(scene.disks.due().is_none());
        // Nor does it stay when it is to end.
        scene.write(&format!("{home}/online"), "0");
        scene.poll();
        scene.machine.pass(LINGER);
        scene.poll();
        assert_eq!(scene.read(&format!("{home}/state")), None);
        let why = "/local/domain/2/error/backend/vbd/3/51712/error";
        assert_eq!(scene.read(why).as_deref(), Some("too large"));
    }

    #[test]
    fn all_are_closed_before_the_domain_ends() {
        let mut scene = Scene::new();
        let home = scene.plug(51712);
        scene.poll();
        scene.disks.close();
        assert_eq!(scene.read(&format!("{home}/state")).as_deref(), Some("6"));
    }
}
