//! The order in which a frontend and its backend come together and part, from either side.
//!
//! [`Phase::action`] is a table of where the frontend stands and what state the backend shows;
//! [`Link`] walks through it for a driver. [`Service`] is the backend's side.
//! Source: the state diagrams of Xen `include/public/io/blkif.h`.

use core::fmt;

use super::xenbus::{Fault, Half, Side, State};
use super::{Refused, Store};
use crate::ring::Corrupt;

/// Why a frontend is served no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontendError {
    /// It made a ring impossible, or a frame of slots that cannot be.
    Ring,
    /// What it says in the store is of no use.
    Nodes(Fault),
}

impl fmt::Display for FrontendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring => f.write_str("the frontend broke a ring"),
            Self::Nodes(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for FrontendError {}

impl<T: Into<Fault>> From<T> for FrontendError {
    fn from(fault: T) -> Self {
        Self::Nodes(fault.into())
    }
}

impl From<Corrupt> for FrontendError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Ring
    }
}

/// Where a frontend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The backend is not ready to hear of rings.
    Waiting,
    /// Rings are published; the backend is to connect.
    Published,
    /// It works.
    Connected,
    /// It is over, until somebody begins anew.
    Closed,
    /// To begin anew; the backend must let go of the old rings first.
    Leaving,
}

/// What a frontend is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Make rings and publish them.
    Publish,
    /// Read what the backend says of the device, and work.
    Finish,
    /// Read again what may have changed.
    Refresh,
    /// The backend is gone: fail what is outstanding.
    Close,
    /// The backend still has old rings: close, and then begin anew.
    Leave,
    /// The backend has let go: say [`State::Initialising`].
    Begin,
    /// The guest was restored: the backend is another one. Drop the rings and look for it.
    Move,
}

impl Phase {
    /// What to do when the backend shows this state.
    #[must_use]
    pub const fn action(self, backend: State) -> Action {
        use State::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};
        match (self, backend) {
            (Self::Waiting, InitWait | Initialised) => Action::Publish,
            (Self::Waiting, Connected) => Action::Leave,
            (Self::Published, Connected) => Action::Finish,
            (Self::Connected, Connected) => Action::Refresh,
            (Self::Published, Unknown | Closing | Closed)
            | (
                Self::Connected,
                Unknown | Closing | Closed | Initialising | InitWait | Initialised,
            ) => Action::Close,
            (Self::Leaving, Unknown | Closed | Initialising | InitWait) => Action::Begin,
            _ => Action::Nothing,
        }
    }
}

/// A frontend's half with where it stands.
pub struct Link<P: Store> {
    half: Half<P>,
    phase: Phase,
    /// The backend's state is still to be looked at.
    stirred: bool,
    /// The guest's incarnation whose backend this is.
    incarnation: u32,
    /// On the way from one backend to another, since the guest was restored.
    moving: bool,
}

impl<P: Store> fmt::Debug for Link<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?}, {:?})", self.half, self.phase)
    }
}

impl<P: Store> Link<P> {
    /// The frontend whose nodes are in `home`; it says that it begins.
    ///
    /// # Errors
    /// [`Fault`]: the toolstack has made no such device.
    pub fn open(platform: P, home: &str) -> Result<Self, Fault> {
        let incarnation = platform.incarnation();
        let half = Half::open(platform, Side::Frontend, home)?;
        half.switch(State::Initialising)?;
        Ok(Self {
            half,
            phase: Phase::Waiting,
            stirred: true,
            incarnation,
            moving: false,
        })
    }

    /// Finds the backend of this incarnation; the driver has no rings any more.
    ///
    /// # Errors
    /// [`Fault`]: there is no such device any more; it is looked for again at the next
    /// [`Action::Move`].
    pub fn moved(&mut self) -> Result<(), Fault> {
        let incarnation = self.half.platform().incarnation();
        self.half.reopen()?;
        self.half.switch(State::Initialising)?;
        self.phase = Phase::Waiting;
        self.stirred = true;
        self.incarnation = incarnation;
        self.moving = true;
        Ok(())
    }

    /// Whether the guest was restored, and the device has not come together with its new backend
    /// yet.
    pub fn is_moving(&self) -> bool {
        self.moving || self.is_elsewhere()
    }

    fn is_elsewhere(&self) -> bool {
        self.half.platform().incarnation() != self.incarnation
    }

    /// The nodes.
    pub const fn half(&self) -> &Half<P> {
        &self.half
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What the driver is to do now. It does so, tells by one of the methods below, and asks
    /// again; after [`Action::Nothing`] and [`Action::Refresh`] there is nothing more.
    ///
    /// # Errors
    /// The store's: ask again later.
    pub fn due(&mut self) -> Result<Action, Refused> {
        if self.is_elsewhere() {
            return Ok(Action::Move);
        }
        if self.half.stirred() {
            self.stirred = true;
        }
        if !self.stirred {
            return Ok(Action::Nothing);
        }
        let mut action = self.phase.action(self.half.state()?);
        if action == Action::Begin {
            self.half.switch(State::Initialising)?;
            self.phase = Phase::Waiting;
            action = self.phase.action(self.half.state()?);
        }
        if matches!(action, Action::Nothing | Action::Refresh) {
            self.stirred = false;
        }
        Ok(action)
    }

    /// The rings are published.
    ///
    /// # Errors
    /// The store's.
    pub fn published(&mut self, state: State) -> Result<(), Refused> {
        self.half.switch(state)?;
        self.phase = Phase::Published;
        Ok(())
    }

    /// The device works.
    ///
    /// # Errors
    /// The store's.
    pub fn connected(&mut self) -> Result<(), Refused> {
        self.half.switch(State::Connected)?;
        self.phase = Phase::Connected;
        self.moving = false;
        Ok(())
    }

    /// It is over; the driver has no rings any more.
    pub fn closed(&mut self) {
        self.phase = Phase::Closed;
        self.stirred = false;
        self.moving = false;
        // The store may be the reason; there is nobody else to tell.
        let _ = self.half.switch(State::Closed);
    }

    /// To begin anew; the driver has no rings any more.
    ///
    /// # Errors
    /// The store's.
    pub fn leave(&mut self) -> Result<(), Refused> {
        self.phase = Phase::Leaving;
        self.stirred = true;
        self.half.switch(State::Closed)
    }
}

/// What a backend is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    Nothing,
    /// Say what there is to offer, then [`Service::switch`] to [`State::InitWait`].
    Offer,
    /// Connect to the frontend's rings, then [`Service::switch`] to [`State::Connected`].
    Connect,
    /// The frontend has gone: drop its rings, then [`Service::switch`] to this state.
    Part(State),
}

/// A backend's half with its own state.
pub struct Service<P: Store> {
    half: Half<P>,
    state: State,
    /// The frontend's state is still to be looked at.
    stirred: bool,
}

impl<P: Store> fmt::Debug for Service<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({:?}, {:?})", self.half, self.state)
    }
}

impl<P: Store> Service<P> {
    /// The backend whose nodes are in `home`. It is to offer at once.
    ///
    /// # Errors
    /// [`Fault`]: the toolstack has made no such device.
    pub fn open(platform: P, home: &str) -> Result<Self, Fault> {
        Ok(Self {
            half: Half::open(platform, Side::Backend, home)?,
            state: State::Initialising,
            stirred: true,
        })
    }

    /// The nodes.
    pub const fn half(&self) -> &Half<P> {
        &self.half
    }

    /// Its own state, as the store shows it.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What there is to do; after [`Duty::Nothing`] there is nothing more.
    ///
    /// # Errors
    /// The store's: ask again later.
    pub fn due(&mut self) -> Result<Duty, Refused> {
        if self.half.stirred() {
            self.stirred = true;
        }
        if !self.stirred {
            return Ok(Duty::Nothing);
        }
        let duty = match (self.half.state()?, self.state) {
            (_, State::Initialising) => Duty::Offer,
            // From any other: a frontend that closed and came back before we looked.
            (State::Initialising, state) if state != State::InitWait => Duty::Offer,
            (State::Initialised | State::Connected, State::InitWait) => Duty::Connect,
            (State::Closing, State::Connected | State::InitWait) => Duty::Part(State::Closing),
            (State::Closed | State::Unknown, state) if state != State::Closed => {
                Duty::Part(State::Closed)
            }
            _ => Duty::Nothing,
        };
        if duty == Duty::Nothing {
            self.stirred = false;
        }
        Ok(duty)
    }

    /// Sets its own state.
    ///
    /// # Errors
    /// The store's.
    pub fn switch(&mut self, state: State) -> Result<(), Refused> {
        self.half.switch(state)?;
        self.state = state;
        Ok(())
    }

    /// It serves no longer, until the frontend begins anew. The driver has no rings any more.
    pub fn closed(&mut self) {
        self.state = State::Closed;
        self.stirred = false;
        // The store may be the reason; there is nobody else to tell.
        let _ = self.half.switch(State::Closed);
    }
}
