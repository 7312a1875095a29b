//! Two halves of a device that find each other and agree by nodes in the store.
//!
//! Source: Xen `include/public/io/xenbus.h`; the paths are those of every toolstack.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use super::{DomId, Refused, Store, Watch};

/// State of one half of a device (`enum xenbus_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not there, or not a number of a state.
    Unknown = 0,
    /// Begins.
    Initialising = 1,
    /// Waits for what the other half has to say.
    InitWait = 2,
    /// Has said its part.
    Initialised = 3,
    /// Works.
    Connected = 4,
    /// Ends.
    Closing = 5,
    /// Has ended.
    Closed = 6,
    /// Changes.
    Reconfiguring = 7,
    /// Has changed.
    Reconfigured = 8,
}

impl State {
    /// What a node says. Whatever is no state is [`State::Unknown`].
    #[must_use]
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

    /// Whether a half in this state serves no longer, or not yet.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Unknown | Self::Closing | Self::Closed)
    }
}

/// Why a device's nodes are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store.
    Refused(Refused),
    /// A node that must be there is not.
    Missing(&'static str),
    /// A node's value cannot be.
    Bad(&'static str),
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Missing(node) => write!(f, "the device has no node `{node}`"),
            Self::Bad(node) => write!(f, "the device's node `{node}` has an impossible value"),
        }
    }
}

impl core::error::Error for Fault {}

/// Which half one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that uses the device.
    Frontend,
    /// The one that serves it.
    Backend,
}

impl Side {
    /// The nodes by which a half finds the other one: its folder, its domain.
    const fn links(self) -> (&'static str, &'static str) {
        match self {
            Self::Frontend => ("backend", "backend-id"),
            Self::Backend => ("frontend", "frontend-id"),
        }
    }
}

/// One half's view of the nodes of both.
pub struct Half<P: Store> {
    platform: P,
    side: Side,
    home: String,
    other: Other<P>,
}

/// The other half, as one's own nodes name it.
struct Other<P: Store> {
    folder: String,
    domain: DomId,
    watch: P::Watch,
}

impl<P: Store> Other<P> {
    fn find(platform: &P, side: Side, home: &str) -> Result<Self, Fault> {
        let (folder, domain) = side.links();
        let read = |name: &'static str| {
            let value = platform.read(&format!("{home}/{name}"))?;
            value.ok_or(Fault::Missing(name))
        };
        let other = read(folder)?;
        if !other.starts_with('/') {
            return Err(Fault::Bad(folder));
        }
        let peer = read(domain)?;
        let peer = peer.trim().parse().map_err(|_| Fault::Bad(domain))?;
        Ok(Self {
            watch: platform.watch(&format!("{other}/state"))?,
            folder: other,
            domain: DomId(peer),
        })
    }
}

impl<P: Store> fmt::Debug for Half<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Half({})", self.home)
    }
}

impl<P: Store> Half<P> {
    /// The half whose own nodes are in the folder `home`, as `device/vbd/51712` or
    /// `backend/vif/3/0`.
    ///
    /// # Errors
    /// [`Fault`]: the toolstack has made no such device.
    pub fn open(platform: P, side: Side, home: &str) -> Result<Self, Fault> {
        Ok(Self {
            other: Other::find(&platform, side, home)?,
            platform,
            side,
            home: home.into(),
        })
    }

    /// Finds the other half again, where one's own nodes now say it is.
    ///
    /// # Errors
    /// [`Fault`]: there is no such device any more; nothing has changed.
    pub fn reopen(&mut self) -> Result<(), Fault> {
        self.other = Other::find(&self.platform, self.side, &self.home)?;
        Ok(())
    }

    /// The surroundings.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// The other half's domain.
    pub const fn peer(&self) -> DomId {
        self.other.domain
    }

    /// Whether the other half's state may have changed since this was asked last.
    pub fn stirred(&self) -> bool {
        self.other.watch.fired()
    }

    /// The other half's state.
    ///
    /// # Errors
    /// [`Refused::Store`].
    pub fn state(&self) -> Result<State, Refused> {
        Ok(State::parse(self.peer_text("state")?.as_deref()))
    }

    /// Sets one's own state.
    ///
    /// # Errors
    /// The store's.
    pub fn switch(&self, state: State) -> Result<(), Refused> {
        self.put("state", state as u8)
    }

    /// Sets one of one's own nodes.
    ///
    /// # Errors
    /// The store's.
    pub fn put(&self, name: &str, value: impl fmt::Display) -> Result<(), Refused> {
        let path = format!("{}/{name}", self.home);
        self.platform.write(&path, &format!("{value}"))
    }

    /// Removes one of one's own nodes.
    ///
    /// # Errors
    /// The store's.
    pub fn remove(&self, name: &str) -> Result<(), Refused> {
        self.platform.remove(&format!("{}/{name}", self.home))
    }

    /// A node of one's own.
    ///
    /// # Errors
    /// The store's.
    pub fn own_text(&self, name: &str) -> Result<Option<String>, Refused> {
        self.platform.read(&format!("{}/{name}", self.home))
    }

    /// A node of the other half.
    ///
    /// # Errors
    /// The store's.
    pub fn peer_text(&self, name: &str) -> Result<Option<String>, Refused> {
        self.platform.read(&format!("{}/{name}", self.other.folder))
    }

    /// A number among the other half's nodes; none if it is not there.
    ///
    /// # Errors
    /// [`Fault::Bad`]: not such a number.
    pub fn peer_number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Fault> {
        self.peer_text(name)?
            .map(|text| text.trim().parse().map_err(|_| Fault::Bad(name)))
            .transpose()
    }

    /// Whether the other half has a feature: a number other than 0. None there, or no number: no.
    ///
    /// # Errors
    /// The store's.
    pub fn peer_has(&self, name: &'static str) -> Result<bool, Refused> {
        match self.peer_number::<u32>(name) {
            Ok(number) => Ok(number.unwrap_or(0) != 0),
            Err(Fault::Refused(refused)) => Err(refused),
            Err(_) => Ok(false),
        }
    }
}
