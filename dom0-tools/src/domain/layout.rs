//! What stands in xenstore about a domain, as Xen's toolstack writes it.
//!
//! Source: Xen `docs/misc/xenstore-paths.pandoc`.

use super::balloon;
use crate::config::{DomainConfig, Uuid};
use crate::device::nodes::{Node, Permissions, TOOLS_DOMAIN, domain_path, tools_path};
use crate::sys::{DomId, Mfn, Port};

/// Ring pages and ports of a domain that has been built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Frame of the xenstore ring.
    pub store_frame: Mfn,
    /// The guest's port for it.
    pub store_port: Port,
    /// Frame of the console ring.
    pub console_frame: Mfn,
    /// The guest's port for it.
    pub console_port: Port,
}

/// Bytes of console output kept while nobody reads them.
const CONSOLE_LIMIT: u32 = 1 << 20;

/// `/vm/UUID`, where what outlives a reboot is.
pub fn vm_path(uuid: Uuid) -> String {
    format!("/vm/{uuid}")
}

/// What says who a domain is: its name, and the way to what outlives a reboot. `start` is in seconds
/// since 1970, as text.
pub fn identity(domain: DomId, uuid: Uuid, config: &DomainConfig, start: &str) -> Vec<Node> {
    let (home, vm) = (domain_path(domain), vm_path(uuid));
    let mut nodes = vec![
        Node::new(format!("{home}/vm"), &vm),
        Node::new(format!("{home}/name"), &*config.name),
        Node::directory(&vm, Permissions::read_by(TOOLS_DOMAIN, domain)),
        Node::new(format!("{vm}/uuid"), uuid.to_string()),
        Node::new(format!("{vm}/name"), &*config.name),
        Node::new(format!("{vm}/start_time"), start),
        Node::new(format!("{vm}/image/ostype"), "linux"),
        Node::new(
            format!("{vm}/image/kernel"),
            config.kernel.clone().unwrap_or_default(),
        ),
        Node::new(format!("{vm}/image/cmdline"), &config.cmdline),
        Node::new(
            format!("{vm}/rtc/timeoffset"),
            config.rtc_timeoffset.to_string(),
        ),
    ];
    if let Some(ramdisk) = &config.ramdisk {
        nodes.push(Node::new(format!("{vm}/image/ramdisk"), ramdisk));
    }
    nodes
}

/// The nodes of a domain that is being made, before it has memory. `now` is in seconds since
/// 1970.
pub fn skeleton(domain: DomId, uuid: Uuid, config: &DomainConfig, now: u64) -> Vec<Node> {
    let (home, tools) = (domain_path(domain), tools_path(domain));
    let host = Permissions::read_by(TOOLS_DOMAIN, domain);
    let guest = Permissions::only(domain);
    let mut nodes = vec![
        Node::directory(&home, host.clone()),
        Node::new(format!("{home}/domid"), domain.to_string()),
        Node::directory(format!("{tools}/device"), Permissions::only(TOOLS_DOMAIN)),
        Node::new(format!("{tools}/type"), "pv"),
    ];
    nodes.extend(identity(domain, uuid, config, &format!("{now}.00")));
    for path in ["cpu", "memory", "device", "control", "console", "store"] {
        nodes.push(Node::directory(format!("{home}/{path}"), host.clone()));
    }
    // The guest's own: what it answers, announces and remembers.
    let own = [
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "device/suspend/event-channel",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ];
    // Where tools in a driver domain keep what they need.
    let served: &[&str] = if config.driver_domain {
        &["libxl", "device-model"]
    } else {
        &[]
    };
    for path in own.iter().chain(served) {
        nodes.push(Node::directory(format!("{home}/{path}"), guest.clone()));
    }
    let flags = [
        "control/platform-feature-multiprocessor-suspend",
        "control/platform-feature-xs_reset_watches",
    ];
    for path in flags {
        nodes.push(Node::new(format!("{home}/{path}"), "1"));
    }
    nodes.extend(balloon::nodes(domain, config));
    nodes.extend(availability(domain, config.vcpus, config.max_vcpus()));
    nodes
}

/// Which vCPUs the guest is to use: the first `online` of `all`.
pub fn availability(domain: DomId, online: u32, all: u32) -> Vec<Node> {
    let home = domain_path(domain);
    (0..all)
        .map(|vcpu| {
            let word = if vcpu < online { "online" } else { "offline" };
            Node::new(format!("{home}/cpu/{vcpu}/availability"), word)
        })
        .collect()
}

/// The nodes of a domain's rings, once it has them.
pub fn rings(domain: DomId, rings: &Rings) -> Vec<Node> {
    let (home, tools) = (domain_path(domain), tools_path(domain));
    let console = format!("{home}/console");
    let record = format!("{tools}/device/console/0");
    let backend = format!("{}/backend/console/{domain}/0", domain_path(TOOLS_DOMAIN));
    let host = Permissions::read_by(TOOLS_DOMAIN, domain);
    vec![
        Node::new(
            format!("{home}/store/ring-ref"),
            rings.store_frame.to_string(),
        ),
        Node::new(format!("{home}/store/port"), rings.store_port.to_string()),
        Node::directory(&record, Permissions::only(TOOLS_DOMAIN)),
        Node::new(format!("{record}/frontend"), &console),
        Node::new(format!("{record}/backend"), &backend),
        Node::new(format!("{record}/protocol"), "vt100"),
        Node::directory(&backend, host),
        Node::new(format!("{backend}/frontend"), &console),
        Node::new(format!("{backend}/frontend-id"), domain.to_string()),
        Node::new(format!("{backend}/online"), "1"),
        Node::new(format!("{backend}/state"), "1"),
        Node::new(format!("{backend}/protocol"), "vt100"),
        Node::new(format!("{console}/backend"), &backend),
        Node::new(format!("{console}/backend-id"), TOOLS_DOMAIN.to_string()),
        Node::new(format!("{console}/limit"), CONSOLE_LIMIT.to_string()),
        Node::new(format!("{console}/type"), "xenconsoled"),
        Node::new(format!("{console}/output"), "pty"),
        Node::new(format!("{console}/tty"), ""),
        Node::new(
            format!("{console}/ring-ref"),
            rings.console_frame.to_string(),
        ),
        // Last: with it, whoever serves consoles has all it needs.
        Node::new(format!("{console}/port"), rings.console_port.to_string()),
    ]
}

/// Everything of a domain that is not a device's. `vm` is what `/local/domain/N/vm` said.
pub fn remains(domain: DomId, vm: Option<&str>) -> Vec<String> {
    let backend = format!("{}/backend/console/{domain}", domain_path(TOOLS_DOMAIN));
    let mut paths = vec![backend, domain_path(domain), tools_path(domain)];
    // Only what is of the form we write: the node is dom0's, and yet.
    if let Some(vm) = vm.filter(|vm| is_vm_path(vm)) {
        paths.push(vm.to_owned());
    }
    paths
}

/// Whether this is of the form of [`vm_path`].
pub fn is_vm_path(text: &str) -> bool {
    text.strip_prefix("/vm/")
        .is_some_and(|uuid| uuid.parse::<Uuid>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::nodes::Right;

    fn config() -> DomainConfig {
        let text = "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\nvcpus = 1\nmaxvcpus = 2\n";
        DomainConfig::from_toml(text, "test").unwrap()
    }

    #[test]
    fn a_guest_owns_its_answers_and_nothing_that_tools_believe() {
        let domain = DomId(5);
        let uuid = Uuid([1; 16]);
        for node in skeleton(domain, uuid, &config(), 0) {
            let Some(access) = node.access else { continue };
            assert_eq!(access.others, Right::None, "{}", node.path);
            if access.owner == domain {
                assert!(node.path.starts_with("/local/domain/5/"), "{}", node.path);
            }
        }
    }

    #[test]
    fn values_that_linux_reads() {
        let domain = DomId(5);
        let nodes = skeleton(domain, Uuid([1; 16]), &config(), 0);
        let value = |path: &str| {
            let path = format!("/local/domain/5/{path}");
            nodes
                .iter()
                .find(|n| n.path == path)
                .map(|n| n.value.clone())
        };
        assert_eq!(value("name").as_deref(), Some("web"));
        assert_eq!(value("cpu/0/availability").as_deref(), Some("online"));
        assert_eq!(value("cpu/1/availability").as_deref(), Some("offline"));
        assert_eq!(value("memory/target").as_deref(), Some("65536"));
        assert_eq!(value("memory/static-max").as_deref(), Some("65536"));
    }

    #[test]
    fn a_vm_path_that_is_none_is_not_removed() {
        let domain = DomId(1);
        assert_eq!(remains(domain, Some("/")).len(), 3);
        assert_eq!(remains(domain, Some("/local/domain/0")).len(), 3);
        assert_eq!(remains(domain, Some(&vm_path(Uuid([2; 16])))).len(), 4);
    }
}
