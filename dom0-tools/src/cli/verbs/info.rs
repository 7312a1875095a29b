//! `info` and `dmesg`.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::args::Dmesg;
use crate::cli::exit::Fail;
use crate::cli::out::Out;
use crate::cli::world::World;

/// What `info` tells, in `xl`'s order and with its names.
#[derive(Debug, Serialize)]
struct Info {
    host: String,
    release: String,
    version: String,
    machine: String,
    nr_cpus: u32,
    max_cpu_id: u32,
    nr_nodes: u32,
    cores_per_socket: u32,
    threads_per_core: u32,
    cpu_mhz: f64,
    hw_caps: String,
    virt_caps: String,
    /// MiB.
    total_memory: u64,
    /// MiB.
    free_memory: u64,
    sharing_freed_memory: u64,
    sharing_used_memory: u64,
    /// MiB.
    outstanding_claims: u64,
    free_cpus: u32,
    xen_major: u16,
    xen_minor: u16,
    xen_extra: String,
    xen_version: String,
    xen_caps: String,
    xen_scheduler: String,
    xen_pagesize: u64,
    platform_params: String,
    xen_changeset: String,
    xen_commandline: String,
    cc_compiler: String,
    cc_compile_by: String,
    cc_compile_domain: String,
    cc_compile_date: String,
    xend_config_format: u32,
}

/// Pages of 4 KiB in MiB.
const fn mib(pages: u64) -> u64 {
    pages / 256
}

/// `info`
///
/// # Errors
/// The hypervisor cannot be asked.
pub fn info(world: &dyn World, out: &mut Out<'_>) -> Result<(), Fail> {
    let xen = world.xen()?;
    let (host, hv) = (xen.host_info()?, xen.hypervisor_info()?);
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let caps: Vec<String> = host
        .hw_cap
        .iter()
        .map(|word| format!("{word:08x}"))
        .collect();
    let mut virt = Vec::new();
    if host.pv {
        virt.push("pv".to_owned());
    }
    if host.grant_version > 0 {
        virt.push(format!("gnttab-v{}", host.grant_version));
    }
    let info = Info {
        host: word(system.nodename()),
        release: word(system.release()),
        version: word(system.version()),
        machine: word(system.machine()),
        nr_cpus: host.cpus,
        max_cpu_id: host.max_cpu,
        nr_nodes: host.nodes,
        cores_per_socket: host.cores_per_socket,
        threads_per_core: host.threads_per_core,
        cpu_mhz: f64::from(host.cpu_khz) / 1000.0,
        hw_caps: caps.join(":"),
        virt_caps: virt.join(" "),
        total_memory: mib(host.total_pages),
        free_memory: mib(host.free_pages.saturating_sub(host.outstanding_pages)),
        sharing_freed_memory: 0,
        sharing_used_memory: 0,
        outstanding_claims: mib(host.outstanding_pages),
        free_cpus: 0,
        xen_major: hv.major,
        xen_minor: hv.minor,
        xen_version: format!("{}.{}{}", hv.major, hv.minor, hv.extra),
        xen_extra: hv.extra,
        xen_caps: hv.capabilities.trim_end().to_owned(),
        xen_scheduler: scheduler(xen.scheduler()?),
        xen_pagesize: hv.page_size,
        platform_params: format!("virt_start=0x{:x}", hv.virt_start),
        xen_changeset: hv.changeset,
        xen_commandline: hv.command_line,
        cc_compiler: hv.compiler,
        cc_compile_by: hv.built_by,
        cc_compile_domain: hv.build_domain,
        cc_compile_date: hv.build_date,
        xend_config_format: 4,
    };
    out.show(&info, lines)
}

/// `key                    : value`, from the JSON, so that both say the same.
fn lines(info: &Info) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key:<23}: {value}");
    };
    line("host", &info.host);
    line("release", &info.release);
    line("version", &info.version);
    line("machine", &info.machine);
    line("nr_cpus", &info.nr_cpus);
    line("max_cpu_id", &info.max_cpu_id);
    line("nr_nodes", &info.nr_nodes);
    line("cores_per_socket", &info.cores_per_socket);
    line("threads_per_core", &info.threads_per_core);
    line("cpu_mhz", &format!("{:.3}", info.cpu_mhz));
    line("hw_caps", &info.hw_caps);
    line("virt_caps", &info.virt_caps);
    line("total_memory", &info.total_memory);
    line("free_memory", &info.free_memory);
    line("sharing_freed_memory", &info.sharing_freed_memory);
    line("sharing_used_memory", &info.sharing_used_memory);
    line("outstanding_claims", &info.outstanding_claims);
    line("free_cpus", &info.free_cpus);
    line("xen_major", &info.xen_major);
    line("xen_minor", &info.xen_minor);
    line("xen_extra", &info.xen_extra);
    line("xen_version", &info.xen_version);
    line("xen_caps", &info.xen_caps);
    line("xen_scheduler", &info.xen_scheduler);
    line("xen_pagesize", &info.xen_pagesize);
    line("platform_params", &info.platform_params);
    line("xen_changeset", &info.xen_changeset);
    line("xen_commandline", &info.xen_commandline);
    line("cc_compiler", &info.cc_compiler);
    line("cc_compile_by", &info.cc_compile_by);
    line("cc_compile_domain", &info.cc_compile_domain);
    line("cc_compile_date", &info.cc_compile_date);
    line("xend_config_format", &info.xend_config_format);
    text
}

/// Names of `XEN_SCHEDULER_*`.
fn scheduler(number: u32) -> String {
    match number {
        4 => "sedf",
        5 => "credit",
        6 => "credit2",
        7 => "arinc653",
        8 => "rtds",
        9 => "null",
        other => return format!("number {other}"),
    }
    .to_owned()
}

/// The hypervisor's messages.
#[derive(Debug, Serialize)]
struct Messages {
    lines: Vec<String>,
}

/// `dmesg`
///
/// # Errors
/// The hypervisor cannot be asked.
pub fn dmesg(world: &dyn World, args: &Dmesg, out: &mut Out<'_>) -> Result<(), Fail> {
    let xen = world.xen()?;
    let mut bytes = Vec::new();
    let mut from = 0;
    loop {
        let part = xen.read_console(Some(from), false)?;
        if part.text.is_empty() {
            break;
        }
        bytes.extend(part.text);
        from = part.next;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::to_owned).collect();
    out.show(&Messages { lines }, |_| text.clone().into_owned())?;
    if args.clear {
        xen.read_console(None, true)?;
    }
    Ok(())
}
