//! May this caller do this to that domain? One function a question.

use crate::domain::Domain;

/// Opening and closing event ports: one's own, or as the control domain.
#[must_use]
pub fn may_open_ports_of(caller: &Domain, subject: &Domain) -> bool {
    is_self_or_control(caller, subject)
}

/// Looking at event ports.
#[must_use]
pub fn may_see_ports_of(caller: &Domain, subject: &Domain) -> bool {
    is_self_or_control(caller, subject)
}

/// Growing and measuring a grant table. (Using a grant needs the grant only.)
#[must_use]
pub fn may_size_grants_of(caller: &Domain, subject: &Domain) -> bool {
    is_self_or_control(caller, subject)
}

/// Binding a line of the host.
#[must_use]
pub fn may_use_line(caller: &Domain, _line: u32) -> bool {
    caller.privileged
}

fn is_self_or_control(caller: &Domain, subject: &Domain) -> bool {
    caller.id == subject.id || caller.privileged
}
