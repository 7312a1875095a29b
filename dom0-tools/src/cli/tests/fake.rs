//! A machine that is none, for the outputs of verbs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::super::exit::Fail;
use super::super::world::{Host, World};
use crate::ctl::{self, CreditGlobals, CreditParams, DomainInfo, ShutdownReason};
use crate::domain::protocol::{Event, Failure, Request, Response};
use crate::sys::{DomId, Mfn, Vcpu};

/// A machine of two CPUs with dom0, `web` and a crashed `db`.
#[derive(Default)]
pub struct Fake {
    /// xenstore.
    pub nodes: Mutex<BTreeMap<String, String>>,
    /// What `oxd` was asked.
    pub asked: Mutex<Vec<Request>>,
    /// What the hypervisor was asked to change.
    pub done: Mutex<Vec<String>>,
    /// What `oxd` answers next.
    pub answer: Mutex<Option<Result<Response, Failure>>>,
}

fn domain(id: u16, pages: u64) -> DomainInfo {
    DomainInfo {
        domain: DomId(id),
        handle: [id as u8; 16],
        dying: false,
        shutdown: None,
        paused: false,
        blocked: id != 0,
        running: id == 0,
        xenstore: false,
        pages,
        max_pages: pages,
        outstanding_pages: 0,
        shared_info: Mfn(0),
        cpu_time: u64::from(id + 1) * 1_500_000_000,
        vcpus_online: 1,
        vcpus: 2,
        cpupool: 0,
    }
}

impl Fake {
    pub fn new() -> Self {
        let fake = Self::default();
        for (path, value) in [
            ("/local/domain/0/name", "Domain-0"),
            ("/local/domain/3/name", "web"),
            ("/local/domain/3/control/sysrq", ""),
            ("/local/domain/7/name", "db"),
            (
                "/libxl/3/device/vbd/51712/backend",
                "/local/domain/0/backend/vbd/3/51712",
            ),
            ("/local/domain/3/device/vbd/51712/state", "4"),
            ("/local/domain/3/device/vbd/51712/event-channel", "11"),
            ("/local/domain/3/device/vbd/51712/ring-ref", "8"),
            (
                "/libxl/3/device/vif/0/backend",
                "/local/domain/0/backend/vif/3/0",
            ),
            ("/local/domain/0/backend/vif/3/0/mac", "00:16:3e:00:00:01"),
            ("/local/domain/0/backend/vif/3/0/handle", "0"),
            ("/local/domain/3/device/vif/0/state", "4"),
            ("/local/domain/3/device/vif/0/tx-ring-ref", "768"),
            ("/local/domain/3/device/vif/0/rx-ring-ref", "769"),
        ] {
            fake.nodes.lock().unwrap().insert(path.into(), value.into());
        }
        fake
    }

    fn note(&self, what: String) -> ctl::Result<()> {
        self.done.lock().unwrap().push(what);
        Ok(())
    }
}

impl Host for Fake {
    fn domains(&self) -> ctl::Result<Vec<DomainInfo>> {
        let mut crashed = domain(7, 16384);
        crashed.shutdown = Some(ShutdownReason::CRASH);
        crashed.blocked = false;
        Ok(vec![domain(0, 262_144), domain(3, 32768), crashed])
    }
    fn vcpu_info(&self, _: DomId, vcpu: Vcpu) -> ctl::Result<ctl::VcpuInfo> {
        Ok(ctl::VcpuInfo {
            online: vcpu.0 == 0,
            blocked: true,
            running: false,
            cpu_time: 2_000_000_000,
            cpu: 1,
        })
    }
    fn affinity(&self, _: DomId, vcpu: Vcpu) -> ctl::Result<ctl::Affinity> {
        Ok(ctl::Affinity {
            hard: ctl::CpuSet::first(1 + vcpu.0),
            soft: ctl::CpuSet::first(4096),
        })
    }
    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: Vcpu,
        hard: Option<&ctl::CpuSet>,
        soft: Option<&ctl::CpuSet>,
        _: bool,
    ) -> ctl::Result<ctl::Affinity> {
        let shown = |set: Option<&ctl::CpuSet>| set.map_or("-".into(), ToString::to_string);
        self.note(format!(
            "pin {domain} {vcpu} {} {}",
            shown(hard),
            shown(soft)
        ))?;
        Ok(ctl::Affinity::default())
    }
    fn hypervisor_info(&self) -> ctl::Result<ctl::HypervisorInfo> {
        Ok(ctl::HypervisorInfo {
            major: 4,
            minor: 17,
            extra: ".7-oxen".into(),
            capabilities: "xen-3.0-x86_64 ".into(),
            changeset: String::new(),
            command_line: "com1=115200,8n1".into(),
            compiler: "rustc".into(),
            built_by: String::new(),
            build_domain: String::new(),
            build_date: String::new(),
            page_size: 4096,
            virt_start: 0xffff_8000_0000_0000,
        })
    }
    fn host_info(&self) -> ctl::Result<ctl::HostInfo> {
        Ok(ctl::HostInfo {
            threads_per_core: 1,
            cores_per_socket: 2,
            cpus: 2,
            max_cpu: 1,
            nodes: 1,
            cpu_khz: 2_596_233,
            pv: true,
            grant_version: 1,
            total_pages: 524_288,
            free_pages: 131_072,
            scrub_pages: 0,
            outstanding_pages: 0,
            max_mfn: Mfn(0),
            hw_cap: [0; 8],
        })
    }
    fn scheduler(&self) -> ctl::Result<u32> {
        Ok(5)
    }
    fn read_console(&self, from: Option<u32>, _: bool) -> ctl::Result<ctl::Console> {
        let text: &[u8] = match from {
            Some(0) => b"(OXEN) one\n(OXEN) two\n",
            _ => b"",
        };
        Ok(ctl::Console {
            text: text.to_vec(),
            next: 22,
        })
    }
    fn credit(&self, _: DomId) -> ctl::Result<CreditParams> {
        Ok(CreditParams {
            weight: 256,
            cap: 0,
        })
    }
    fn set_credit(&self, domain: DomId, params: CreditParams) -> ctl::Result<()> {
        self.note(format!("credit {domain} {} {}", params.weight, params.cap))
    }
    fn credit_globals(&self, _: u32) -> ctl::Result<CreditGlobals> {
        Ok(CreditGlobals {
            timeslice_ms: 30,
            ratelimit_us: 1000,
            migration_delay_us: 0,
        })
    }
    fn set_credit_globals(&self, _: u32, globals: CreditGlobals) -> ctl::Result<()> {
        self.note(format!("globals {}", globals.timeslice_ms))
    }
    fn pause(&self, domain: DomId) -> ctl::Result<()> {
        self.note(format!("pause {domain}"))
    }
    fn unpause(&self, domain: DomId) -> ctl::Result<()> {
        self.note(format!("unpause {domain}"))
    }
    fn send_trigger(&self, domain: DomId, trigger: u32, vcpu: Vcpu) -> ctl::Result<()> {
        self.note(format!("trigger {domain} {trigger} {vcpu}"))
    }
    fn audit(&self, _: u64) -> ctl::Result<Option<ctl::AuditPage>> {
        Ok(None)
    }
}

impl World for Fake {
    fn xen(&self) -> Result<&dyn Host, Fail> {
        Ok(self)
    }
    fn read(&self, path: &str) -> Result<Option<String>, Fail> {
        Ok(self.nodes.lock().unwrap().get(path).cloned())
    }
    fn list(&self, path: &str) -> Result<Vec<String>, Fail> {
        let nodes = self.nodes.lock().unwrap();
        let below = nodes
            .keys()
            .filter_map(|node| node.strip_prefix(&format!("{path}/")));
        let names: BTreeSet<String> = below
            .filter_map(|rest| Some(rest.split('/').next()?.to_owned()))
            .collect();
        Ok(names.into_iter().collect())
    }
    fn write(&self, path: &str, value: &str) -> Result<(), Fail> {
        self.nodes.lock().unwrap().insert(path.into(), value.into());
        Ok(())
    }
    fn ask(
        &self,
        request: &Request,
        _: &mut dyn FnMut(Event) -> Result<(), Fail>,
    ) -> Result<Response, Fail> {
        self.asked.lock().unwrap().push(request.clone());
        Ok(self
            .answer
            .lock()
            .unwrap()
            .take()
            .unwrap_or(Ok(Response::Done))?)
    }
}
