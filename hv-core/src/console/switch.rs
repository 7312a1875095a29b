//! Whom input on the serial line is for. Pure.
//!
//! Ctrl-A three times in a row switches between dom0 and the hypervisor's debug keys, as
//! in Xen. Fewer of them are dom0's, once it is clear that no third follows.

/// Ctrl-A.
pub const SWITCH: u8 = 1;
/// How many in a row switch.
const IN_A_ROW: u8 = 3;

/// What became of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Held back for now.
    Kept,
    /// For dom0, behind so many Ctrl-A that were held back.
    Dom0(u8),
    /// A debug key.
    Key,
    /// Input goes to the hypervisor (true) or to dom0 from now on.
    Switched(bool),
}

/// Where input goes.
#[derive(Debug)]
pub struct Switch {
    to_hypervisor: bool,
    seen: u8,
}

impl Switch {
    /// Input goes to dom0.
    pub const fn new() -> Self {
        Self {
            to_hypervisor: false,
            seen: 0,
        }
    }

    /// Says whom `byte` is for.
    pub fn route(&mut self, byte: u8) -> Route {
        if byte == SWITCH {
            self.seen += 1;
            if self.seen < IN_A_ROW {
                return Route::Kept;
            }
            self.seen = 0;
            self.to_hypervisor = !self.to_hypervisor;
            return Route::Switched(self.to_hypervisor);
        }
        let kept = core::mem::take(&mut self.seen);
        if self.to_hypervisor {
            Route::Key
        } else {
            Route::Dom0(kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_switch() {
        let mut switch = Switch::new();
        let mut routes = |text: &[u8]| text.iter().map(|b| switch.route(*b)).last();
        assert_eq!(routes(b"x"), Some(Route::Dom0(0)));
        assert_eq!(routes(b"\x01\x01y"), Some(Route::Dom0(2)));
        assert_eq!(routes(b"\x01\x01"), Some(Route::Kept));
        assert_eq!(routes(b"\x01"), Some(Route::Switched(true)));
        assert_eq!(routes(b"\x01F"), Some(Route::Key));
        assert_eq!(routes(b"\x01\x01\x01"), Some(Route::Switched(false)));
        assert_eq!(routes(b"z"), Some(Route::Dom0(0)));
    }
}
