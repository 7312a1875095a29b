//! The list of domains, and which numbers are free.
//!
//! Lock: one, at `Level::Registry`. Domains leave the list outside it, because what they are
//! made of goes back to the heap.

use super::Domain;
use super::create::CreateError;
use super::life::Stage;
use crate::addr::DomId;
use crate::fallible::{Arc, Grow, NoMemory};
use crate::mm::HostMm;
use crate::sync::{Level, Lock};
use alloc::vec::Vec;

#[derive(Debug)]
struct Domains {
    /// Ascending by number.
    list: Vec<Arc<Domain>>,
    /// Numbers of domains being made.
    reserved: Vec<DomId>,
    /// The number given out last.
    last: u16,
}

static DOMAINS: Lock<Domains> = Lock::new(
    Level::Registry,
    Domains {
        list: Vec::new(),
        reserved: Vec::new(),
        last: 0,
    },
);

impl Domains {
    fn position(&self, id: DomId) -> Result<usize, usize> {
        self.list.binary_search_by_key(&id, |d| d.id)
    }

    fn is_free(&self, id: DomId) -> bool {
        self.position(id).is_err() && !self.reserved.contains(&id)
    }

    /// The next number after the last one that is free.
    fn next_id(&self) -> Option<DomId> {
        let after = self.last.saturating_add(1)..DomId::FIRST_RESERVED;
        after
            .chain(1..=self.last)
            .map(DomId)
            .find(|id| self.is_free(*id))
    }
}

/// A number that nobody else takes while this is kept.
#[must_use = "if unused the number is free again at once"]
#[derive(Debug)]
pub(super) struct Slot(DomId);

impl Slot {
    /// Takes `wanted`, or any number that is free.
    ///
    /// # Errors
    /// [`CreateError::Exists`], [`CreateError::NoId`], [`CreateError::NoMemory`].
    pub fn take(wanted: Option<DomId>) -> Result<Self, CreateError> {
        // The heap's lock comes after this one, so the lists may grow under it.
        let mut domains = DOMAINS.lock();
        let id = match wanted {
            Some(id) if !domains.is_free(id) => return Err(CreateError::Exists),
            Some(id) => id,
            None => domains.next_id().ok_or(CreateError::NoId)?,
        };
        // Room for every domain that is being made, so that none finds that there is none.
        let making = domains.reserved.len() + 1;
        domains.list.try_reserve(making).map_err(NoMemory::from)?;
        domains.reserved.try_push(id)?;
        if wanted.is_none() {
            domains.last = id.0;
        }
        Ok(Self(id))
    }

    /// The number.
    pub const fn id(&self) -> DomId {
        self.0
    }

    /// Puts the domain with that number into the list.
    pub fn fill(self, domain: Arc<Domain>) {
        insert(domain);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        DOMAINS.lock().reserved.retain(|id| *id != self.0);
    }
}

/// Adds the first domain, dom0, at boot.
///
/// # Errors
/// [`NoMemory`].
pub fn insert_first(domain: Arc<Domain>) -> Result<(), NoMemory> {
    DOMAINS.lock().list.try_reserve(1)?;
    insert(domain);
    Ok(())
}

/// Adds a domain, for which there is room: dom0, or by [`Slot::fill`].
fn insert(domain: Arc<Domain>) {
    let mut domains = DOMAINS.lock();
    if let Err(at) = domains.position(domain.id) {
        domains.list.insert_reserved(at, domain);
    }
}

/// All domains numbered `first` or higher, ascending. It is looked for the next one each time, so
/// no lock is kept and no list made; those that come and go meanwhile may be missed.
pub fn from(first: DomId) -> impl Iterator<Item = Arc<Domain>> {
    let mut next = Some(first);
    core::iter::from_fn(move || {
        let domain = at_or_after(next?)?;
        next = domain.id.0.checked_add(1).map(DomId);
        Some(domain)
    })
}

/// All domains there are, as by [`from`].
pub fn all() -> impl Iterator<Item = Arc<Domain>> {
    from(DomId(0))
}

/// The domain that is or was numbered as no other: see [`Domain::serial`].
#[must_use]
pub fn by_serial(serial: u64) -> Option<Arc<Domain>> {
    let domains = DOMAINS.lock();
    let found = domains.list.iter().find(|domain| domain.serial == serial);
    found.cloned()
}

/// How many domains there are.
#[must_use]
pub fn count() -> usize {
    DOMAINS.lock().list.len()
}

/// The domain numbered `id`.
#[must_use]
#[inline]
pub fn get(id: DomId) -> Option<Arc<Domain>> {
    let domains = DOMAINS.lock();
    let at = domains.position(id).ok()?;
    domains.list.get(at).cloned()
}

/// The domain numbered `id`, or the one with the next higher number.
#[must_use]
pub fn at_or_after(id: DomId) -> Option<Arc<Domain>> {
    let domains = DOMAINS.lock();
    let at = domains.position(id).unwrap_or_else(|at| at);
    domains.list.get(at).cloned()
}

/// Removes dead domains of which nothing is left in others' hands. Called by tools' calls
/// that refer to no domain (any more), with no lock held.
pub fn reap(mm: &HostMm) {
    let mut from = 0;
    while let Some(domain) = next_gone(mm, &mut from) {
        domain.leave_scheduler();
        log::info!("domain {} is gone", domain.id.0);
    }
}

/// Takes the first dead domain, from place `from` on, of which nothing is left out of the list.
fn next_gone(mm: &HostMm, from: &mut usize) -> Option<Arc<Domain>> {
    let mut domains = DOMAINS.lock();
    // Under the lock nobody can get a new reference.
    while let Some(d) = domains.list.get_mut(*from) {
        if d.life.stage() == Stage::Dead && Arc::get_mut(d).is_some_and(|d| d.is_gone(mm)) {
            return Some(domains.list.remove(*from));
        }
        *from += 1;
    }
    None
}
