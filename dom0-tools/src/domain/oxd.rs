//! The daemon's start: who serves what, in which order, and when it is ready.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use super::daemon::Daemon;
use super::events::Events;
use super::exporter::{self, Endpoint};
use super::link::Link;
use super::persist::{self, Persist};
use super::registry::Registry;
use super::{protocol, server};
use crate::ctl::Xen;
use crate::device::console::log;
use crate::device::console::service::Consoles;
use crate::device::nodes::{Node, Nodes};
use crate::device::vbd;
use crate::store::server::{Devices, Options, Server, StartError};
use crate::sys::{DomId, LinuxEvtchn, LinuxGntDev};

/// Where the lock and the sockets are.
const RUN_FOLDER: &str = "/run/oxen";

/// Daemon of Oxen's toolstack: serves xenstore, consoles, devices and domains' lives
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// Use the xenstore that another program serves
    #[arg(long)]
    no_store: bool,
    /// Leave consoles to another program
    #[arg(long)]
    no_console: bool,
    /// Offer figures for Prometheus at ADDRESS: `127.0.0.1:9598`, `[::1]:9598` or `unix:PATH`
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "unix:/run/oxen/metrics.sock"
    )]
    metrics: Endpoint,
    /// Write `ready` and a line feed to this file once everything is served
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Where the memory of domains that have crashed is written, if `on_crash` says so
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/oxen/dump")]
    dump_folder: PathBuf,
    /// What to log, as in `RUST_LOG`: `info`, `debug`, `dom0_tools::device=trace`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "OXD_LOG")]
    log: String,
}

/// Serves until it is killed.
///
/// # Errors
/// Something it needs is not there, or another one runs.
pub fn run(arguments: &Arguments) -> Result<()> {
    start_log(&arguments.log);
    let _lock = lock(Path::new(RUN_FOLDER))?;
    let xen = Xen::open()?;
    // Whether this is the control domain, said at once rather than by the first request.
    xen.domains().context("domains cannot be listed")?;
    let (store, _server) = open_store(arguments)?;
    announce_dom0(&store)?;
    let evtchn = LinuxEvtchn::open().context("/dev/xen/evtchn")?;
    let gntdev = LinuxGntDev::open().context("/dev/xen/gntdev (module xen-gntdev)")?;
    let consoles = if serve_consoles(arguments) {
        Some(Consoles::start(Arc::new(evtchn), log::FOLDER.into())?.0)
    } else {
        None
    };
    let daemon = Arc::new(Daemon {
        xen,
        store,
        consoles,
        gntdev: Arc::new(gntdev),
        events: Events::default(),
        registry: Registry::default(),
        persist: Persist::open(Path::new(persist::FOLDER)).context(persist::FOLDER)?,
        dumps: arguments.dump_folder.clone(),
        started: Instant::now(),
    });
    daemon.recover()?;
    vbd::end_strays(&daemon.store)?;
    let watching = Arc::clone(&daemon);
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            let error = watching.watch();
            // Nothing works without it, and a new start finds everything again.
            tracing::error!(%error, "xenstore is gone");
            std::process::exit(1);
        })?;
    exporter::start(&daemon, &arguments.metrics)?;
    let socket = Path::new(protocol::SOCKET);
    let listener = server::listen(socket).with_context(|| socket.display().to_string())?;
    ready(arguments)?;
    server::serve(&daemon, &listener);
    Ok(())
}

fn start_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}

/// How long a killed daemon may take to be gone: its mappings of guests' memory go first.
const DYING: Duration = Duration::from_secs(3);

/// One daemon at a time; the lock goes with the process, however that ends.
fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join("oxd.lock");
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > DYING {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            bail!("oxd runs already, as process {}", pid.trim());
        }
        thread::sleep(Duration::from_millis(50));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Serves the store, unless another program does; it ends with the server that is returned.
fn open_store(arguments: &Arguments) -> Result<(Link, Option<Server>)> {
    let server = if arguments.no_store {
        None
    } else {
        let devices = Devices::open().context("xenstore cannot be served")?;
        match Server::start(&Options::default(), Some(devices)) {
            Ok(server) => Some(server),
            Err(StartError::Served(socket)) => {
                tracing::warn!("xenstore is served at {} already", socket.display());
                None
            }
            Err(e) => return Err(e.into()),
        }
    };
    Ok((Link::open()?, server))
}

/// Consoles are served by one program.
fn serve_consoles(arguments: &Arguments) -> bool {
    if arguments.no_console {
        return false;
    }
    if runs("xenconsoled") {
        tracing::warn!("xenconsoled runs: consoles are left to it, and `ox logs` has nothing");
        return false;
    }
    true
}

/// Whether a process of this name runs.
fn runs(name: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
        .any(|comm| comm.trim_end() == name)
}

/// What Xen's `xen-init-dom0` writes: clients look for dom0 like for any domain.
fn announce_dom0(store: &Link) -> Result<()> {
    if store.read("/local/domain/0/domid")?.is_some() {
        return Ok(());
    }
    let home = crate::device::nodes::domain_path(DomId::DOM0);
    store.write(&[
        Node::new(format!("{home}/domid"), "0"),
        Node::new(format!("{home}/name"), "Domain-0"),
        Node::new("/libxl/0/type", "pv"),
        // `xl` asks for the name of the pool that it would create domains in.
        Node::new("/local/pool/0/name", "Pool-0"),
    ])?;
    Ok(())
}

/// Tells whoever started this that it can be used.
fn ready(arguments: &Arguments) -> Result<()> {
    tracing::info!("ready");
    if let Some(path) = &arguments.ready_file {
        std::fs::write(path, "ready\n").with_context(|| path.display().to_string())?;
    }
    notify_systemd().context("NOTIFY_SOCKET")
}

/// systemd's `sd_notify(3)`: a datagram to the socket it names, `@` for an abstract one.
fn notify_systemd() -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let bytes = name.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
