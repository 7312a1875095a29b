//! The steps of a creation, on this machine; and their undoing at a domain's end.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::balloon;
use super::create::{Maker, Progress, Saved, Source};
use super::layout::{self, Rings};
use super::link::Link;
use crate::build::{self, Built, Kernel, NewDomain};
use crate::config::{Affinity, Disk, DomainConfig, Uuid, Vif};
use crate::ctl::{self, CreateDomain, CreditParams, TscInfo, Xen};
use crate::device::console::service::{ConsoleError, Consoles, Request};
use crate::device::nodes::{
    Device, Kind, Node, Nodes, StoreFailure, TOOLS_DOMAIN, backends, device, devices, domain_path,
};
use crate::device::vbd::backing::Backing;
use crate::device::{backend, vbd, vif};
use crate::stream::{self, Restored};
use crate::sys::{Access, DomId, GntDev, GrantRef, Mfn, PAGE_SIZE, Port, SharedPages, Vcpu};

/// Largest kernel or initial RAM disk that is read, bytes.
const MOST_FILE_BYTES: u64 = 1 << 30;

/// Grant under which a domain's console ring is offered (`GNTTAB_RESERVED_CONSOLE`).
const CONSOLE_GRANT: GrantRef = GrantRef(0);

/// Bytes of a page.
const PAGE_BYTES: u64 = PAGE_SIZE as u64;

/// How long a destroyed domain may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(20);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The hypervisor.
    #[error(transparent)]
    Xen(#[from] ctl::Error),
    /// The kernel, or memory.
    #[error("{0}")]
    Build(#[from] build::Error),
    /// A saved domain.
    #[error(transparent)]
    Stream(#[from] stream::Error),
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] vbd::VbdError),
    /// A network card.
    #[error(transparent)]
    Vif(#[from] vif::VifError),
    /// The console.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The store does not say where the console's ring is.
    #[error("domain {0}: xenstore names no ring and port of its console")]
    NoRing(DomId),
    /// No thread for it.
    #[error("no thread for domain {domain}: {error}")]
    Thread {
        /// For whom.
        domain: DomId,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A file that the configuration names.
    #[error("{key} {path}: {error}")]
    File {
        /// Which key.
        key: &'static str,
        /// Its value.
        path: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// Something this toolstack does not do.
    #[error("{key}: {what}")]
    Unsupported {
        /// Which key.
        key: &'static str,
        /// Why not, and what to do.
        what: String,
    },
}

/// The machine, with a connection to xenstore of its own.
pub struct Machine {
    /// The hypervisor.
    pub xen: Xen,
    /// xenstore.
    pub store: Link,
    /// Who serves consoles; none if another daemon does.
    pub consoles: Option<Consoles>,
    /// Mappings of granted pages.
    pub gntdev: Arc<dyn GntDev>,
    /// What stands behind disks while their backend has not opened it.
    pub backings: std::cell::RefCell<Vec<(Device, Backing)>>,
}

impl Maker for Machine {
    type Error = StepError;
    type New = NewDomain;

    fn make(&self, uuid: Uuid, config: &DomainConfig) -> Result<NewDomain, StepError> {
        refuse_unsupported(config)?;
        let params = CreateDomain {
            handle: uuid.0,
            vcpus: config.max_vcpus(),
            max_evtchn_port: config.max_event_channels.unwrap_or(1023),
            max_grant_frames: config.max_grant_frames,
            max_maptrack_frames: config.max_maptrack_frames,
            ..CreateDomain::default()
        };
        Ok(NewDomain::create(&self.xen, None, &params)?)
    }

    fn id(&self, new: &NewDomain) -> DomId {
        new.id()
    }

    fn keep(&self, new: NewDomain) {
        new.keep();
    }

    fn build(
        &self,
        new: &NewDomain,
        config: &DomainConfig,
        source: Source<'_>,
        progress: Progress<'_>,
    ) -> Result<Rings, StepError> {
        let built = match source {
            Source::Kernel => {
                let built = boot(new, config)?;
                self.clock(new.id(), config)?;
                built
            }
            Source::Stream(saved) => self.go_on(new, config, saved, progress)?,
        };
        self.limits(new.id(), config)?;
        Ok(Rings {
            store_frame: built.store.mfn,
            store_port: built.store.port,
            console_frame: built.console.mfn,
            console_port: built.console.port,
        })
    }

    fn introduce(&self, domain: DomId, rings: &Rings) -> Result<(), StepError> {
        Ok(self
            .store
            .introduce(domain, rings.store_frame, rings.store_port)?)
    }

    fn release(&self, domain: DomId) -> Result<(), StepError> {
        Ok(self.store.release(domain)?)
    }

    fn open_console(&self, domain: DomId, config: &DomainConfig) -> Result<(), StepError> {
        self.serve_console(domain, &config.name)
    }

    fn close_console(&self, domain: DomId) {
        if let Some(consoles) = &self.consoles {
            consoles.close(domain);
        }
    }

    fn attach_disk(&self, domain: DomId, disk: &Disk) -> Result<(), StepError> {
        let begun = vbd::begin(&self.store, domain, disk)?;
        let device = begun.device();
        match vbd::finish(&self.store, begun) {
            Ok(backing) => {
                self.backings.borrow_mut().push((device, backing));
                Ok(())
            }
            Err(error) => {
                self.give_up(device);
                Err(error.into())
            }
        }
    }

    fn detach_disk(&self, domain: DomId, disk: &Disk) -> Result<(), StepError> {
        self.detach_numbered(domain, Kind::Vbd, disk.vdev.number())
    }

    fn attach_vif(&self, domain: DomId, vif: &Vif) -> Result<(), StepError> {
        let begun = vif::begin(&self.store, domain, vif)?;
        vif::finish(&self.store, &begun).map_err(|error| {
            self.give_up(begun.device());
            error.into()
        })
    }

    fn detach_vif(&self, domain: DomId, vif: &Vif) -> Result<(), StepError> {
        self.detach_numbered(domain, Kind::Vif, vif.devid.unwrap_or(0))
    }

    fn unpause(&self, domain: DomId) -> Result<(), StepError> {
        Ok(self.xen.unpause(domain)?)
    }
}

impl Machine {
    /// What a stream holds into a new domain.
    fn go_on(
        &self,
        new: &NewDomain,
        config: &DomainConfig,
        mut saved: Saved<'_>,
        progress: Progress<'_>,
    ) -> Result<Built, StepError> {
        // A guest that was giving memory back had more than its target.
        let pages = config.max_memory().pages();
        let wanted = Restored {
            pages,
            max_pages: pages,
            vcpus: config.max_vcpus(),
            store: DomId::DOM0,
            console: DomId::DOM0,
            begins: saved.begins,
        };
        let mut tell = |done: u64, of: u64| {
            progress("restoring memory", done * PAGE_BYTES, of * PAGE_BYTES);
        };
        let built = stream::restore(new, &mut saved.stream, &wanted, &mut tell)?;
        let limit = balloon::limit(config.memory.kib());
        self.xen.set_max_memory(new.id(), limit)?;
        Ok(built)
    }

    /// Lets a suspended domain go on where it is.
    ///
    /// # Errors
    /// The hypervisor's, the store's.
    pub fn resume(&self, domain: DomId) -> Result<(), StepError> {
        self.xen.resume_cancelled(domain)?;
        Ok(self.store.resume(domain)?)
    }

    /// How a new kernel reads the TSC; a saved domain brings that along.
    fn clock(&self, domain: DomId, config: &DomainConfig) -> Result<(), StepError> {
        let mode = config.tsc_mode.number();
        if mode != 0 {
            let info = TscInfo {
                mode,
                khz: 0,
                incarnation: 0,
                elapsed: 0,
            };
            self.xen.set_tsc_info(domain, &info)?;
        }
        Ok(())
    }

    /// Scheduling, affinity, date: what the configuration says beyond memory and vCPUs.
    fn limits(&self, domain: DomId, config: &DomainConfig) -> Result<(), StepError> {
        if config.cpu_weight.is_some() || config.cap.is_some() {
            let mut params = self.xen.credit(domain)?;
            params = CreditParams {
                weight: config.cpu_weight.unwrap_or(params.weight),
                cap: config.cap.unwrap_or(params.cap),
            };
            self.xen.set_credit(domain, params)?;
        }
        self.pin(domain, config)?;
        self.give_devices(domain, config)?;
        if config.rtc_timeoffset != 0 {
            let seconds = i64::from(config.rtc_timeoffset);
            self.xen.set_time_offset(domain, seconds)?;
        }
        Ok(())
    }

    /// What of the host's devices the configuration names.
    fn give_devices(&self, domain: DomId, config: &DomainConfig) -> Result<(), StepError> {
        for ports in &config.ioports {
            self.xen.give_ports(domain, ports.first..=ports.last)?;
        }
        for &irq in &config.irqs {
            self.xen.give_irq(domain, irq)?;
        }
        for memory in &config.iomem {
            self.xen.give_iomem(domain, memory.first, memory.count)?;
        }
        Ok(())
    }

    fn pin(&self, domain: DomId, config: &DomainConfig) -> Result<(), StepError> {
        if config.cpus.is_all() && config.cpus_soft.is_all() {
            return Ok(());
        }
        let count = self.xen.host_info()?.cpus;
        let set = |affinity: &Affinity, vcpu| {
            let set = affinity.of(vcpu);
            (!set.is_all()).then(|| (0..count).filter(|cpu| set.contains(*cpu)).collect())
        };
        for vcpu in 0..config.max_vcpus() {
            let hard: Option<ctl::CpuSet> = set(&config.cpus, vcpu);
            let soft = set(&config.cpus_soft, vcpu);
            if hard.is_some() || soft.is_some() {
                self.xen
                    .set_affinity(domain, Vcpu(vcpu), hard.as_ref(), soft.as_ref(), false)?;
            }
        }
        Ok(())
    }

    /// Serves the console of a domain whose ring stands in the store, and publishes its
    /// terminal.
    ///
    /// # Errors
    /// The ring cannot be mapped, the port not bound.
    pub fn serve_console(&self, domain: DomId, name: &str) -> Result<(), StepError> {
        let Some(consoles) = &self.consoles else {
            return Ok(());
        };
        let home = format!("{}/console", domain_path(domain));
        let number = |key: &str| -> Result<Option<u64>, StoreFailure> {
            let text = self.store.read(&format!("{home}/{key}"))?;
            Ok(text.and_then(|text| text.parse().ok()))
        };
        let port = number("port")?.and_then(|port| u32::try_from(port).ok());
        let (Some(frame), Some(port)) = (number("ring-ref")?, port) else {
            return Err(StepError::NoRing(domain));
        };
        let ring = self.console_ring(domain, Mfn(frame))?;
        let tty = consoles.open(Request {
            domain,
            log: name.to_owned(),
            ring,
            port: Port(port),
        })?;
        Ok(self.store.write(&[Node::new(format!("{home}/tty"), tty)])?)
    }

    /// By its grant, as the guest offers it; else by its frame.
    fn console_ring(&self, domain: DomId, frame: Mfn) -> Result<SharedPages, StepError> {
        match self.gntdev.map(&[(domain, CONSOLE_GRANT)], Access::Write) {
            Ok(pages) => Ok(pages),
            Err(error) => {
                tracing::debug!(domain = domain.0, %error, "console ring by its frame");
                Ok(self.xen.map_all(domain, &[frame], Access::Write)?)
            }
        }
    }

    /// Ends a device and removes its nodes.
    ///
    /// # Errors
    /// The guest keeps it (unless forced); xenstore.
    pub fn detach(&self, device: Device, force: bool) -> Result<(), StepError> {
        match device.kind {
            Kind::Vbd => vbd::detach(&self.store, device, force)?,
            Kind::Vif => vif::detach(&self.store, device, force)?,
        }
        self.backings.borrow_mut().retain(|(d, _)| *d != device);
        Ok(())
    }

    fn detach_numbered(&self, domain: DomId, kind: Kind, id: u32) -> Result<(), StepError> {
        match device(&self.store, domain, kind, id)? {
            Some(device) => self.detach(device, true),
            None => Ok(()),
        }
    }

    /// What is left of a device that could not be attached.
    fn give_up(&self, device: Device) {
        if let Err(error) = self.detach(device, true) {
            tracing::warn!(%device, %error, "remains of a device");
        }
    }

    /// Has the hypervisor destroy a domain. Its devices end before: when a domain dies the
    /// store removes its nodes, and a backend whose frontend is gone tells nobody that it ended.
    ///
    /// # Errors
    /// The hypervisor's, but not that there is no such domain.
    pub fn destroy(&self, domain: DomId) -> Result<(), StepError> {
        match self.xen.pause(domain) {
            Err(error) if !error.is_no_domain() => return Err(error.into()),
            _ => {}
        }
        self.end_devices(domain);
        self.end_served(domain);
        match self.xen.destroy(domain) {
            Err(error) if !error.is_no_domain() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Gives up the devices of a domain that does not run any more. Goes on past failures.
    pub fn end_devices(&self, domain: DomId) {
        for kind in Kind::ALL {
            match devices(&self.store, domain, kind) {
                Ok(found) => found.into_iter().for_each(|device| self.give_up(device)),
                Err(error) => tracing::warn!(domain = domain.0, %error, "devices"),
            }
        }
    }

    /// Closes the devices that the domain serves to others.
    fn end_served(&self, domain: DomId) {
        if let Err(error) = backend::domain_ends(&self.store, domain) {
            tracing::warn!(domain = domain.0, %error, "devices it served");
        }
    }

    /// Removes all that belongs to a domain but the domain: devices, console, nodes. Goes on
    /// past failures.
    pub fn clean(&self, domain: DomId) {
        self.end_devices(domain);
        // Also of one that another toolstack destroyed.
        self.end_served(domain);
        self.close_console(domain);
        if let Err(error) = self.store.release(domain) {
            tracing::debug!(domain = domain.0, %error, "release");
        }
        let vm = self.store.read(&format!("{}/vm", domain_path(domain)));
        // A successor has the same UUID, and comes after this.
        let vm = vm.ok().flatten();
        if let Err(error) = super::create::forget_nodes(&self.store, domain, vm.as_deref()) {
            tracing::warn!(domain = domain.0, %error, "nodes");
        }
        for kind in Kind::ALL {
            let path = backends(TOOLS_DOMAIN, domain, kind);
            if let Err(error) = self.store.remove(&path) {
                tracing::warn!(domain = domain.0, %error, "nodes");
            }
        }
    }

    /// Waits until the hypervisor knows a destroyed domain no more; says whether it does.
    ///
    /// # Errors
    /// The store's.
    pub fn await_gone(&self, domain: DomId) -> Result<bool, StoreFailure> {
        let gone = self.store.wait("@releaseDomain", GONE_LIMIT, |_| {
            let info = self.xen.domain_info(domain);
            Ok(matches!(info, Err(error) if error.is_no_domain()).then_some(()))
        })?;
        Ok(gone.is_some())
    }

    /// Another number of vCPUs for the guest.
    ///
    /// # Errors
    /// The store's.
    pub fn set_vcpus(&self, domain: DomId, online: u32, all: u32) -> Result<(), StepError> {
        Ok(self
            .store
            .write(&layout::availability(domain, online, all))?)
    }
}

/// A kernel into a new domain.
fn boot(new: &NewDomain, config: &DomainConfig) -> Result<Built, StepError> {
    let path = config.kernel.as_ref().ok_or(StepError::Unsupported {
        key: "kernel",
        what: "none; a bootloader such as pygrub is not run: name the kernel, or pv-grub".into(),
    })?;
    let mut bytes = Vec::new();
    open("kernel", path)?
        .take(MOST_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(file_error("kernel", path))?;
    let kernel = Kernel::open(bytes)?;
    let initrd = match &config.ramdisk {
        Some(path) => {
            let file = open("ramdisk", path)?;
            let bytes = file.metadata().map_err(file_error("ramdisk", path))?.len();
            Some((file, bytes))
        }
        None => None,
    };
    let request = build::Request {
        kernel: &kernel,
        initrd,
        command_line: config.cmdline.as_bytes(),
        pages: config.memory.pages(),
        max_pages: config.max_memory().pages(),
        vcpus: config.max_vcpus(),
        store: DomId::DOM0,
        console: DomId::DOM0,
    };
    Ok(build::build(new, request)?)
}

/// What a configuration may ask for and nobody here does: said, rather than left out in
/// silence.
fn refuse_unsupported(config: &DomainConfig) -> Result<(), StepError> {
    let asked = [
        ("channel", !config.channel.is_empty()),
        ("bootloader", config.bootloader.is_some()),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((key, _)) => Err(StepError::Unsupported {
            key,
            what: "not supported yet: leave it out".into(),
        }),
        None => Ok(()),
    }
}

fn file_error(key: &'static str, path: &str) -> impl FnOnce(io::Error) -> StepError {
    let path = path.to_owned();
    move |error| StepError::File { key, path, error }
}

/// Opens a file that a configuration names; only a file: a pipe would block for ever.
fn open(key: &'static str, path: &str) -> Result<File, StepError> {
    let meta = std::fs::metadata(path).map_err(file_error(key, path))?;
    let wrong = |text: &str| Err(file_error(key, path)(io::Error::other(text.to_owned())));
    if !meta.is_file() {
        return wrong("not a file");
    }
    if meta.len() > MOST_FILE_BYTES {
        return wrong("larger than 1 GiB");
    }
    File::open(path).map_err(file_error(key, path))
}
