//! The list of domains.

use super::Domain;
use crate::addr::DomId;
use crate::sync::{Level, Lock};
use alloc::sync::Arc;
use alloc::vec::Vec;

static DOMAINS: Lock<Vec<Arc<Domain>>> = Lock::new(Level::Registry, Vec::new());

/// Adds a domain.
pub fn insert(domain: Arc<Domain>) {
    DOMAINS.lock().push(domain);
}

/// All domains there are now.
#[must_use]
pub fn all() -> Vec<Arc<Domain>> {
    DOMAINS.lock().clone()
}

/// The domain numbered `id`.
#[must_use]
pub fn get(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.lock().iter().find(|d| d.id == id).cloned()
}
