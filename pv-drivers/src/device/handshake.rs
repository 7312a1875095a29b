//! The order in which a frontend and its backend come together and part.
//!
//! A table of where the frontend stands and what state the backend shows; it does nothing itself.
//! Source: the state diagrams of Xen `include/public/io/blkif.h`.

use super::xenbus::State;

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
