//! `destroy`, `shutdown`, `reboot`, `pause`, `unpause`, `save`, `dump-core`, `rename`, `sysrq`, `trigger`.

use std::path::{Path, PathBuf};

use crate::cli::args::{Destroy, DumpCore, One, Rename, Save, Shutdown, Sysrq, Trigger};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Progress;
use crate::cli::world::{Found, World, find, find_guest, name_of};
use crate::domain::protocol::{AfterSave, Request, Response, ShutdownHow};
use crate::sys::{DomId, Vcpu};

/// Asks `oxd`, with progress on the terminal.
///
/// # Errors
/// `oxd`'s.
pub fn ask(world: &dyn World, request: &Request) -> Result<Response, Fail> {
    let mut progress = Progress::of_stderr();
    world.ask(request, &mut |event| {
        progress.event(&event);
        Ok(())
    })
}

/// A path for `oxd`, which runs elsewhere.
///
/// # Errors
/// There is no current folder, or the path is not text.
pub fn absolute(path: &Path) -> Result<String, Fail> {
    let whole: PathBuf = std::path::absolute(path)
        .map_err(|error| Fail::file(&path.display().to_string(), &error))?;
    whole.into_os_string().into_string().map_err(|path| {
        Fail::new(
            Exit::Usage,
            format!("{}: not UTF-8", path.to_string_lossy()),
        )
    })
}

/// `destroy`
///
/// # Errors
/// There is no such guest, or `oxd`'s.
pub fn destroy(world: &dyn World, args: &Destroy) -> Result<(), Fail> {
    let domain = find_guest(world, &args.domain, "destroy")?.id.0;
    ask(world, &Request::Destroy { domain }).map(drop)
}

/// `shutdown` and `reboot`
///
/// # Errors
/// There is no such guest, or `oxd`'s; of several guests the first, after all were asked.
pub fn shutdown(world: &dyn World, args: &Shutdown, how: ShutdownHow) -> Result<(), Fail> {
    let guests = match &args.domain {
        Some(domain) => vec![find_guest(world, domain, how.verb())?],
        None => guests(world)?,
    };
    let one = |guest: &Found| {
        let request = Request::Shutdown {
            domain: guest.id.0,
            how,
            wait: args.wait,
        };
        ask(world, &request).map(drop)
    };
    // At once, so that one guest's wait does not delay another's end.
    let results: Vec<Result<(), Fail>> = std::thread::scope(|scope| {
        let asked: Vec<_> = guests.iter().map(|g| scope.spawn(move || one(g))).collect();
        let broken = || Fail::new(Exit::Failed, "a thread of ox ended");
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(broken())))
            .collect()
    });
    results.into_iter().collect()
}

impl ShutdownHow {
    const fn verb(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Poweroff | Self::Halt => "shutdown",
        }
    }
}

fn guests(world: &dyn World) -> Result<Vec<Found>, Fail> {
    let domains = world.xen()?.domains()?;
    let guests = domains
        .iter()
        .filter(|d| d.domain != DomId::DOM0 && !d.dying);
    Ok(guests
        .map(|d| Found {
            id: d.domain,
            name: name_of(world, d.domain).unwrap_or_default(),
        })
        .collect())
}

/// `pause` and `unpause`
///
/// # Errors
/// There is no such guest, or it is not paused.
pub fn pause(world: &dyn World, args: &One, pause: bool) -> Result<(), Fail> {
    let verb = if pause { "pause" } else { "unpause" };
    let guest = find_guest(world, &args.domain, verb)?;
    let xen = world.xen()?;
    if pause {
        return Ok(xen.pause(guest.id)?);
    }
    xen.unpause(guest.id).map_err(|error| match error.errno() {
        Some(libc::EINVAL) => Fail::new(Exit::Failed, format!("{} is not paused", guest.name)),
        _ => error.into(),
    })
}

/// `save`
///
/// # Errors
/// There is no such guest, or `oxd`'s.
pub fn save(world: &dyn World, args: &Save) -> Result<(), Fail> {
    let domain = find_guest(world, &args.domain, "save")?.id.0;
    let request = Request::Save {
        domain,
        file: absolute(&args.file)?,
        then: match (args.checkpoint, args.paused) {
            (true, _) => AfterSave::Run,
            (_, true) => AfterSave::Pause,
            _ => AfterSave::Destroy,
        },
    };
    ask(world, &request).map(drop)
}

/// `dump-core`
///
/// # Errors
/// There is no such guest, or `oxd`'s.
pub fn dump_core(world: &dyn World, args: &DumpCore) -> Result<(), Fail> {
    let request = Request::DumpCore {
        domain: find_guest(world, &args.domain, "dump-core")?.id.0,
        file: absolute(&args.file)?,
    };
    ask(world, &request).map(drop)
}

/// `rename`
///
/// # Errors
/// There is no such guest, the name is taken, or `oxd`'s.
pub fn rename(world: &dyn World, args: &Rename) -> Result<(), Fail> {
    let guest = find_guest(world, &args.domain, "rename")?;
    let request = Request::Rename {
        domain: guest.id.0,
        name: args.name.to_string(),
    };
    ask(world, &request).map(drop)
}

/// `sysrq`
///
/// # Errors
/// There is no such domain, or xenstore cannot be written.
pub fn sysrq(world: &dyn World, args: &Sysrq) -> Result<(), Fail> {
    let found = find(world, &args.domain)?;
    let path = format!("/local/domain/{}/control/sysrq", found.id);
    world.write(&path, &args.letter.to_string())
}

/// `trigger`
///
/// # Errors
/// There is no such guest or vCPU, or PV guests do not know the trigger.
pub fn trigger(world: &dyn World, args: &Trigger) -> Result<(), Fail> {
    let guest = find_guest(world, &args.domain, "trigger")?;
    let xen = world.xen()?;
    xen.send_trigger(guest.id, args.kind.number(), Vcpu(args.vcpu))
        .map_err(|error| match error.errno() {
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => Fail::new(
                Exit::Unsupported,
                format!(
                    "{}: a PV guest knows no such trigger: only `nmi`",
                    guest.name
                ),
            ),
            Some(libc::EINVAL | libc::ESRCH) => Fail::new(
                Exit::NotFound,
                format!("{} has no vCPU {} that is up", guest.name, args.vcpu),
            ),
            _ => error.into(),
        })
}
