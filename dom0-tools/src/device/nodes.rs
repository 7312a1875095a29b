//! What devices look like in xenstore.
//!
//! ```text
//! /local/domain/N/device/KIND/ID      frontend: the guest's, who serves it may read
//! /local/domain/B/backend/KIND/N/ID   backend: of domain B, which serves it; the guest may read
//! /libxl/N/device/KIND/ID             copy for tools alone: what the guest cannot change
//! ```
//!
//! The third is what this toolstack believes: everything under a frontend is the guest's to
//! rewrite. Paths and keys are those of Xen's toolstack, so that Linux and Debian's tools
//! find them.
//!
//! Sources: Xen `docs/misc/xenstore-paths.pandoc`, `include/public/io/{xenbus,blkif,netif}.h`.

use std::fmt;
use std::time::Duration;

pub use crate::store::client::Error as StoreFailure;
pub use crate::store::permissions::{Permissions, Right};
use crate::sys::DomId;

/// The tools' domain. It serves consoles, and all devices that name no other domain.
pub const TOOLS_DOMAIN: DomId = DomId::DOM0;

/// A node to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Absolute path.
    pub path: String,
    /// What it says; a directory says nothing.
    pub value: String,
    /// Who may do what; as the parent if absent.
    pub access: Option<Permissions>,
}

impl Node {
    /// A node with its parent's permissions.
    pub fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
            access: None,
        }
    }

    /// A directory with permissions of its own.
    pub fn directory(path: impl Into<String>, access: Permissions) -> Self {
        Self {
            path: path.into(),
            value: String::new(),
            access: Some(access),
        }
    }
}

/// What devices and domains need of xenstore. A node that is not there is `None` or empty,
/// never an error.
pub trait Nodes {
    /// What a node says; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// The store's.
    fn read(&self, path: &str) -> Result<Option<String>, StoreFailure>;

    /// Names of the children.
    ///
    /// # Errors
    /// The store's.
    fn list(&self, path: &str) -> Result<Vec<String>, StoreFailure>;

    /// Writes all of them or none.
    ///
    /// # Errors
    /// The store's.
    fn write(&self, nodes: &[Node]) -> Result<(), StoreFailure>;

    /// Writes one node if it is there; says whether it was.
    ///
    /// # Errors
    /// The store's.
    fn update(&self, path: &str, value: &str) -> Result<bool, StoreFailure>;

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// The store's.
    fn remove(&self, path: &str) -> Result<(), StoreFailure>;

    /// Waits until `done` says something or `limit` is over (then `None`); `done` is asked at
    /// first and after every change at or below `path`.
    ///
    /// # Errors
    /// The store's, and those of `done`.
    fn wait<T>(
        &self,
        path: &str,
        limit: Duration,
        done: impl FnMut(&Self) -> Result<Option<T>, StoreFailure>,
    ) -> Result<Option<T>, StoreFailure>
    where
        Self: Sized;
}

/// Kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Disk.
    Vbd,
    /// Network card.
    Vif,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Vbd, Self::Vif];

    /// The word in paths.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vif => "vif",
        }
    }
}

/// One device of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Whose.
    pub domain: DomId,
    /// What it is.
    pub kind: Kind,
    /// Its number: for a disk the number of [`vbd`](super::vbd), for a card from 0.
    pub id: u32,
    /// Which domain serves it.
    pub served_by: DomId,
}

impl Device {
    /// Where the guest's half is.
    pub fn frontend(&self) -> String {
        format!("{}/{}", frontends(self.domain, self.kind), self.id)
    }

    /// Where the half of the domain that serves it is.
    pub fn backend(&self) -> String {
        let folder = backends(self.served_by, self.domain, self.kind);
        format!("{folder}/{}", self.id)
    }

    /// Whether dom0 serves it: whatever else stands in its backend's nodes, another domain may
    /// have written.
    pub fn is_local(&self) -> bool {
        self.served_by == TOOLS_DOMAIN
    }

    /// Where the tools' copy is.
    pub fn record(&self) -> String {
        format!("{}/{}", records(self.domain, self.kind), self.id)
    }

    /// The device's nodes: both halves with both links between them, and the tools' copy of
    /// the backend's.
    pub fn nodes(&self, frontend: &[(&str, String)], backend: &[(&str, String)]) -> Vec<Node> {
        let (front, back, record) = (self.frontend(), self.backend(), self.record());
        let guest = Permissions::read_by(self.domain, self.served_by);
        let host = Permissions::read_by(self.served_by, self.domain);
        let mut nodes = vec![
            Node::directory(&record, Permissions::only(TOOLS_DOMAIN)),
            Node::new(format!("{record}/frontend"), &front),
            Node::new(format!("{record}/backend"), &back),
        ];
        let mut backend_nodes = vec![
            ("frontend", front.clone()),
            ("frontend-id", self.domain.to_string()),
            ("online", "1".into()),
            ("state", State::Initialising.to_string()),
        ];
        backend_nodes.extend(backend.iter().cloned());
        for (key, value) in &backend_nodes {
            if !matches!(*key, "frontend" | "online" | "state") {
                nodes.push(Node::new(format!("{record}/{key}"), value));
            }
        }
        nodes.push(Node::directory(&front, guest));
        let frontend_nodes = [
            ("backend", back.clone()),
            ("backend-id", self.served_by.to_string()),
            ("state", State::Initialising.to_string()),
        ];
        for (key, value) in frontend_nodes.iter().chain(frontend) {
            nodes.push(Node::new(format!("{front}/{key}"), value));
        }
        nodes.push(Node::directory(&back, host));
        for (key, value) in backend_nodes {
            nodes.push(Node::new(format!("{back}/{key}"), value));
        }
        nodes
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} of domain {}",
            self.kind.word(),
            self.id,
            self.domain
        )
    }
}

/// Directory of a domain in the store.
pub fn domain_path(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// Directory of the tools' notes on a domain.
pub fn tools_path(domain: DomId) -> String {
    format!("/libxl/{domain}")
}

/// Directory of a domain's frontends of a kind.
pub fn frontends(domain: DomId, kind: Kind) -> String {
    format!("{}/device/{}", domain_path(domain), kind.word())
}

/// Directory of the backends of a kind that one domain has for another.
pub fn backends(served_by: DomId, domain: DomId, kind: Kind) -> String {
    let home = domain_path(served_by);
    format!("{home}/backend/{}/{domain}", kind.word())
}

/// Directory of the tools' copies.
pub fn records(domain: DomId, kind: Kind) -> String {
    format!("{}/device/{}", tools_path(domain), kind.word())
}

/// The devices of a kind that the tools know of, by number.
///
/// # Errors
/// The store's.
pub fn devices(store: &impl Nodes, domain: DomId, kind: Kind) -> Result<Vec<Device>, StoreFailure> {
    let folder = records(domain, kind);
    let mut found = Vec::new();
    for name in store.list(&folder)? {
        let Ok(id) = name.parse() else { continue };
        let backend = store.read(&format!("{folder}/{name}/backend"))?;
        found.push(Device {
            domain,
            kind,
            id,
            served_by: backend.as_deref().and_then(owner).unwrap_or(TOOLS_DOMAIN),
        });
    }
    found.sort_unstable();
    Ok(found)
}

/// The device of that number, if the tools know of it.
///
/// # Errors
/// The store's.
pub fn device(
    store: &impl Nodes,
    domain: DomId,
    kind: Kind,
    id: u32,
) -> Result<Option<Device>, StoreFailure> {
    let all = devices(store, domain, kind)?;
    Ok(all.into_iter().find(|device| device.id == id))
}

/// The domain in whose directory a path is.
fn owner(path: &str) -> Option<DomId> {
    let rest = path.strip_prefix("/local/domain/")?;
    rest.split('/').next()?.parse().ok().map(DomId)
}

/// State of one half of a device (`enum xenbus_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// 1: begins.
    Initialising,
    /// 2: waits for what it needs to know.
    InitWait,
    /// 3: has said its part.
    Initialised,
    /// 4: works.
    Connected,
    /// 5: ends.
    Closing,
    /// 6: has ended.
    Closed,
    /// 7: changes.
    Reconfiguring,
    /// 8: has changed.
    Reconfigured,
    /// Not a number of a state, or not there.
    Unknown,
}

impl State {
    /// What a node says. Whatever is no state is [`State::Unknown`]: half of these nodes are
    /// written by guests.
    pub fn parse(text: Option<&str>) -> Self {
        match text.map(str::trim) {
            Some("1") => Self::Initialising,
            Some("2") => Self::InitWait,
            Some("3") => Self::Initialised,
            Some("4") => Self::Connected,
            Some("5") => Self::Closing,
            Some("6") => Self::Closed,
            Some("7") => Self::Reconfiguring,
            Some("8") => Self::Reconfigured,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self {
            Self::Unknown => 0,
            Self::Initialising => 1,
            Self::InitWait => 2,
            Self::Initialised => 3,
            Self::Connected => 4,
            Self::Closing => 5,
            Self::Closed => 6,
            Self::Reconfiguring => 7,
            Self::Reconfigured => 8,
        };
        write!(f, "{number}")
    }
}

/// State of a half whose directory is given.
///
/// # Errors
/// The store's.
pub fn state(store: &impl Nodes, half: &str) -> Result<State, StoreFailure> {
    Ok(State::parse(
        store.read(&format!("{half}/state"))?.as_deref(),
    ))
}
