//! What verbs ask: the hypervisor, xenstore and `oxd`, each reached when first needed; and a
//! domain by its name or id.

use std::path::Path;
use std::sync::OnceLock;

use super::daemon;
use super::exit::{Exit, Fail};
use crate::ctl::{self, Xen};
use crate::domain::protocol::{Event, Request, Response, SOCKET};
use crate::store::client::{self, Client};
use crate::sys::{DomId, Vcpu};

/// Declares [`Host`] and what a real one is: [`Xen`]'s methods of the same names.
macro_rules! host {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        /// The hypervisor as verbs need it; see [`Xen`] for each. A fake stands in for it
        /// in tests.
        pub trait Host {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As [`Xen`]'s method of this name.
                fn $name(&self, $($argument: $type),*) -> ctl::Result<$result>;
            )+
        }

        impl Host for Xen {
            $(fn $name(&self, $($argument: $type),*) -> ctl::Result<$result> {
                Self::$name(self, $($argument),*)
            })+
        }
    };
}

host! {
    /// All domains.
    fn domains() -> Vec<ctl::DomainInfo>;
    /// What a vCPU does.
    fn vcpu_info(domain: DomId, vcpu: Vcpu) -> ctl::VcpuInfo;
    /// Where it runs.
    fn affinity(domain: DomId, vcpu: Vcpu) -> ctl::Affinity;
    /// Sets that.
    fn set_affinity(domain: DomId, vcpu: Vcpu, hard: Option<&ctl::CpuSet>, soft: Option<&ctl::CpuSet>, force: bool) -> ctl::Affinity;
    /// What the hypervisor says about itself.
    fn hypervisor_info() -> ctl::HypervisorInfo;
    /// CPUs and memory.
    fn host_info() -> ctl::HostInfo;
    /// Which scheduler runs.
    fn scheduler() -> u32;
    /// The hypervisor's messages.
    fn read_console(from: Option<u32>, clear: bool) -> ctl::Console;
    /// Weight and cap.
    fn credit(domain: DomId) -> ctl::CreditParams;
    /// Sets them.
    fn set_credit(domain: DomId, params: ctl::CreditParams) -> ();
    /// The scheduler's knobs.
    fn credit_globals(pool: u32) -> ctl::CreditGlobals;
    /// Sets them.
    fn set_credit_globals(pool: u32, globals: ctl::CreditGlobals) -> ();
    /// Stops a domain.
    fn pause(domain: DomId) -> ();
    /// Lets it go on.
    fn unpause(domain: DomId) -> ();
    /// Sends a trigger.
    fn send_trigger(domain: DomId, trigger: u32, vcpu: Vcpu) -> ();
    /// Records of privileged operations.
    fn audit(first: u64) -> Option<ctl::AuditPage>;
}

/// Everything a verb can ask.
pub trait World: Sync {
    /// The hypervisor.
    ///
    /// # Errors
    /// This is no dom0, or not for this user.
    fn xen(&self) -> Result<&dyn Host, Fail>;

    /// What a node of xenstore says.
    ///
    /// # Errors
    /// xenstore is not served, or not for this user.
    fn read(&self, path: &str) -> Result<Option<String>, Fail>;

    /// Names of a node's children.
    ///
    /// # Errors
    /// As [`World::read`].
    fn list(&self, path: &str) -> Result<Vec<String>, Fail>;

    /// Writes a node.
    ///
    /// # Errors
    /// As [`World::read`].
    fn write(&self, path: &str, value: &str) -> Result<(), Fail>;

    /// Asks `oxd`; see [`daemon::ask`].
    ///
    /// # Errors
    /// It does not run, or what it answered.
    fn ask(
        &self,
        request: &Request,
        on_event: &mut dyn FnMut(Event) -> Result<(), Fail>,
    ) -> Result<Response, Fail>;
}

/// The real one.
#[derive(Debug, Default)]
pub struct Dom0 {
    xen: OnceLock<Xen>,
    store: OnceLock<Client>,
}

impl Dom0 {
    fn store(&self) -> Result<&Client, Fail> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Client::open()?;
        Ok(self.store.get_or_init(|| store))
    }
}

impl World for Dom0 {
    fn xen(&self) -> Result<&dyn Host, Fail> {
        if let Some(xen) = self.xen.get() {
            return Ok(xen);
        }
        let xen = Xen::open()?;
        Ok(self.xen.get_or_init(|| xen))
    }

    fn read(&self, path: &str) -> Result<Option<String>, Fail> {
        Ok(self.store()?.read_text(path)?)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fail> {
        Ok(self.store()?.directory(path)?)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Fail> {
        Ok(self.store()?.write(path, value)?)
    }

    fn ask(
        &self,
        request: &Request,
        on_event: &mut dyn FnMut(Event) -> Result<(), Fail>,
    ) -> Result<Response, Fail> {
        daemon::ask(Path::new(SOCKET), request, on_event)
    }
}

impl From<ctl::Error> for Fail {
    fn from(error: ctl::Error) -> Self {
        let exit = match (&error, error.errno()) {
            (ctl::Error::Device { .. }, Some(libc::EACCES | libc::EPERM)) => Exit::Denied,
            (ctl::Error::Device { .. }, _) => Exit::Unreachable,
            (_, Some(libc::ESRCH | libc::ENOENT)) => Exit::NotFound,
            (_, Some(libc::EPERM)) => Exit::Denied,
            (_, Some(libc::ENOMEM)) => Exit::Memory,
            (_, Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EACCES)) => Exit::Unsupported,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<client::Error> for Fail {
    fn from(error: client::Error) -> Self {
        Self::new(Exit::Unreachable, format!("xenstore: {error}"))
    }
}

/// A domain that was named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: DomId,
    /// Its name, or its number if it has none.
    pub name: String,
}

/// The name of a domain in xenstore; without xenstore, dom0's alone is known.
pub fn name_of(world: &dyn World, id: DomId) -> Option<String> {
    let name = world
        .read(&format!("/local/domain/{id}/name"))
        .ok()
        .flatten();
    name.or_else(|| (id == DomId::DOM0).then(|| "Domain-0".to_owned()))
}

/// Finds a domain: a number is an id, as for `xl`, anything else a name.
///
/// # Errors
/// There is none; or the hypervisor or xenstore cannot be asked.
pub fn find(world: &dyn World, text: &str) -> Result<Found, Fail> {
    let domains = world.xen()?.domains()?;
    let there = |id: DomId| domains.iter().any(|d| d.domain == id);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let id = text.parse().map(DomId).ok().filter(|id| there(*id));
        let id = id.ok_or_else(|| no_domain(&format!("domain with id {text}")))?;
        let name = name_of(world, id).unwrap_or_else(|| text.to_owned());
        return Ok(Found { id, name });
    }
    let id = domains
        .iter()
        .filter(|d| !d.dying)
        .chain(domains.iter().filter(|d| d.dying))
        .map(|d| d.domain)
        .find(|id| name_of(world, *id).as_deref() == Some(text));
    match id {
        Some(id) => Ok(Found {
            id,
            name: text.to_owned(),
        }),
        None => {
            // Rather than "no domain" when the names cannot be read at all.
            world.list("/local/domain")?;
            Err(no_domain(&format!("domain `{text}`")))
        }
    }
}

fn no_domain(what: &str) -> Fail {
    Fail::new(
        Exit::NotFound,
        format!("there is no {what}: `ox list` shows those there are"),
    )
}

/// Finds a domain that a verb is going to change, which is never dom0.
///
/// # Errors
/// As [`find`]; it is dom0.
pub fn find_guest(world: &dyn World, text: &str, verb: &str) -> Result<Found, Fail> {
    let found = find(world, text)?;
    if found.id == DomId::DOM0 {
        return Err(Fail::new(
            Exit::Denied,
            format!("Domain-0 is the one this runs in: `{verb}` is for guests"),
        ));
    }
    Ok(found)
}
