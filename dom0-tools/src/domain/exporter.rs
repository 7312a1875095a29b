//! Figures over HTTP, for Prometheus: loopback or a Unix socket, never the network.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::daemon::Daemon;
use super::metrics::{Page, Type};
use crate::ctl::DomainInfo;
use crate::device::nodes::{Kind, Nodes, devices, domain_path};
use crate::sys::{DomId, PAGE_SIZE};

/// Where figures are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A port of the loopback interface.
    Loopback(SocketAddr),
    /// A socket that only root can reach.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is neither ADDRESS:PORT nor unix:PATH"))?;
        if address.ip().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(format!(
                "`{text}` can be reached from outside: use 127.0.0.1, [::1] or unix:PATH"
            ))
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How long a client may take for all of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Offers the figures from now on, one client after another.
///
/// # Errors
/// The address is taken.
pub fn start(daemon: &Arc<Daemon>, endpoint: &Endpoint) -> io::Result<()> {
    let daemon = Arc::clone(daemon);
    let thread = std::thread::Builder::new().name("metrics".into());
    match endpoint {
        Endpoint::Loopback(address) => {
            let listener = TcpListener::bind(address)?;
            thread.spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let _ = stream.set_write_timeout(Some(PATIENCE));
                    answer(&daemon, stream);
                }
            })?;
        }
        Endpoint::Unix(path) => {
            let listener: UnixListener = super::server::listen(path)?;
            thread.spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let _ = stream.set_write_timeout(Some(PATIENCE));
                    answer(&daemon, stream);
                }
            })?;
        }
    }
    Ok(())
}

/// Any request gets the page: there is no other.
fn answer(daemon: &Daemon, mut stream: impl Read + Write) {
    // Reading the request's beginning is enough to know that somebody asks.
    if stream.read(&mut [0; 1024]).is_err() {
        return;
    }
    let page = page(daemon);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    // Who has gone away has what he wanted.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(page.as_bytes());
}

/// The figures now.
fn page(daemon: &Daemon) -> String {
    let mut page = Page::default();
    let domains = daemon.xen.domains().unwrap_or_default();
    let named: Vec<(String, String, &DomainInfo)> = domains
        .iter()
        .map(|info| {
            let path = format!("{}/name", domain_path(info.domain));
            let name = daemon.store.read(&path).ok().flatten();
            (info.domain.to_string(), name.unwrap_or_default(), info)
        })
        .collect();
    let mut family = |name: &str, kind, help: &str, value: &dyn Fn(&DomainInfo) -> f64| {
        let mut family = page.family(name, kind, help);
        for (domain, name, info) in &named {
            family.value(&[("domain", domain), ("name", name)], value(info));
        }
    };
    family(
        "oxen_domain_cpu_seconds_total",
        Type::Counter,
        "Time a domain's vCPUs ran.",
        &|info| info.cpu_time as f64 / 1e9,
    );
    family(
        "oxen_domain_memory_bytes",
        Type::Gauge,
        "Memory a domain has.",
        &|info| (info.pages * PAGE_SIZE as u64) as f64,
    );
    family(
        "oxen_domain_memory_limit_bytes",
        Type::Gauge,
        "Memory a domain may have.",
        &|info| info.max_pages as f64 * PAGE_SIZE as f64,
    );
    family(
        "oxen_domain_vcpus",
        Type::Gauge,
        "vCPUs of a domain that are up.",
        &|info| f64::from(info.vcpus_online),
    );
    counters(&mut page, daemon, &named);
    health(&mut page, daemon);
    page.finish()
}

/// Counters that dom0's backends keep in sysfs: family, kind of device, file, factor.
const DEVICE_COUNTERS: &[(&str, Kind, &str, f64)] = &[
    ("oxen_vbd_reads_total", Kind::Vbd, "rd_req", 1.0),
    ("oxen_vbd_writes_total", Kind::Vbd, "wr_req", 1.0),
    ("oxen_vbd_read_bytes_total", Kind::Vbd, "rd_sect", 512.0),
    ("oxen_vbd_written_bytes_total", Kind::Vbd, "wr_sect", 512.0),
    ("oxen_vif_received_bytes_total", Kind::Vif, "tx_bytes", 1.0),
    ("oxen_vif_sent_bytes_total", Kind::Vif, "rx_bytes", 1.0),
    (
        "oxen_vif_received_packets_total",
        Kind::Vif,
        "tx_packets",
        1.0,
    ),
    ("oxen_vif_sent_packets_total", Kind::Vif, "rx_packets", 1.0),
];

fn counters(page: &mut Page, daemon: &Daemon, domains: &[(String, String, &DomainInfo)]) {
    for (family, kind, file, factor) in DEVICE_COUNTERS {
        let mut family = page.family(family, Type::Counter, "Counted by dom0's backend.");
        for (number, name, info) in domains {
            if info.domain == DomId::DOM0 {
                continue;
            }
            for device in devices(&daemon.store, info.domain, *kind).unwrap_or_default() {
                let path = match kind {
                    Kind::Vbd => format!(
                        "/sys/bus/xen-backend/devices/vbd-{number}-{}/statistics/{file}",
                        device.id
                    ),
                    Kind::Vif => {
                        let own = crate::device::vif::default_interface(device);
                        format!("/sys/class/net/{own}/statistics/{file}")
                    }
                };
                let text = std::fs::read_to_string(path).unwrap_or_default();
                if let Ok(count) = text.trim().parse::<u64>() {
                    let id = device.id.to_string();
                    let labels = [
                        ("domain", number.as_str()),
                        ("name", name.as_str()),
                        ("device", id.as_str()),
                    ];
                    family.value(&labels, count as f64 * factor);
                }
            }
        }
    }
}

fn health(page: &mut Page, daemon: &Daemon) {
    page.family("oxen_events_total", Type::Counter, "Events of domains.")
        .value(&[], daemon.events.count() as f64);
    page.family("oxen_oxd_uptime_seconds", Type::Gauge, "Since oxd started.")
        .value(&[], daemon.started.elapsed().as_secs_f64());
    page.family(
        "oxen_oxd_domains",
        Type::Gauge,
        "Domains that oxd looks after.",
    )
    .value(&[], daemon.registry.all().len() as f64);
    let free = daemon.xen.host_info().map_or(0, |host| host.free_pages);
    page.family(
        "oxen_host_free_bytes",
        Type::Gauge,
        "Free memory of the host.",
    )
    .value(&[], free as f64 * PAGE_SIZE as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_offered_to_the_network() {
        assert!("0.0.0.0:9598".parse::<Endpoint>().is_err());
        assert!("10.0.0.1:9598".parse::<Endpoint>().is_err());
        assert!("127.0.0.1:9598".parse::<Endpoint>().is_ok());
        assert!("[::1]:1".parse::<Endpoint>().is_ok());
        assert_eq!(
            "unix:/run/m".parse::<Endpoint>(),
            Ok(Endpoint::Unix("/run/m".into()))
        );
    }
}
