//! Questions about the host and the hypervisor.

use xen_abi::domctl::XEN_SCHEDULER_CREDIT;
use xen_abi::memory::XENMEM_MAXIMUM_RAM_PAGE;
use xen_abi::sysctl::{
    XEN_SYSCTL_CPUTOPOINFO, XEN_SYSCTL_DEBUG_KEYS, XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
    XEN_SYSCTL_PHYSCAP_PV, XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_READCONSOLE, XEN_SYSCTL_SCHED_ID,
    XEN_SYSCTL_SCHEDOP_GETINFO, XEN_SYSCTL_SCHEDOP_PUTINFO, XEN_SYSCTL_SCHEDULER_OP,
    XenSysctlCputopo, XenSysctlCputopoinfo, XenSysctlCreditSchedule, XenSysctlDebugKeys,
    XenSysctlPhysinfo, XenSysctlReadconsole, XenSysctlSchedulerOp,
};
use xen_abi::version::{
    XEN_CAPABILITIES_INFO_LEN, XEN_CHANGESET_INFO_LEN, XEN_COMMANDLINE_LEN, XEN_EXTRAVERSION_LEN,
    XENVER_CAPABILITIES, XENVER_CHANGESET, XENVER_COMMANDLINE, XENVER_COMPILE_INFO,
    XENVER_EXTRAVERSION, XENVER_PAGESIZE, XENVER_PLATFORM_PARAMETERS, XENVER_VERSION,
    XenCompileInfo,
};
use xen_abi::xen::{HYPERVISOR_MEMORY_OP, HYPERVISOR_XEN_VERSION};
use zerocopy::FromZeros;

use super::call::host;
use super::{Result, Xen};
use crate::sys::Mfn;

/// Capability: guests may use version 2 of grant tables.
const XEN_SYSCTL_PHYSCAP_GNTTAB_V2: u32 = 1 << 9;

/// What the hypervisor says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervisorInfo {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// What follows the version, with its separator.
    pub extra: String,
    /// Kinds of guests, as in `xen-3.0-x86_64`.
    pub capabilities: String,
    /// State of its source.
    pub changeset: String,
    /// Its command line.
    pub command_line: String,
    /// Compiler.
    pub compiler: String,
    /// Who built it.
    pub built_by: String,
    /// Where.
    pub build_domain: String,
    /// When.
    pub build_date: String,
    /// Bytes in a page.
    pub page_size: u64,
    /// Where its own addresses begin.
    pub virt_start: u64,
}

/// CPUs and memory of the host. Memory is in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Hyperthreads per core.
    pub threads_per_core: u32,
    /// Cores per package.
    pub cores_per_socket: u32,
    /// CPUs online.
    pub cpus: u32,
    /// Largest CPU number.
    pub max_cpu: u32,
    /// NUMA nodes.
    pub nodes: u32,
    /// Rate of the time stamp counters, kHz.
    pub cpu_khz: u32,
    /// PV guests can be made.
    pub pv: bool,
    /// Highest version of grant tables, 0 if there are none.
    pub grant_version: u32,
    /// All memory.
    pub total_pages: u64,
    /// Free memory.
    pub free_pages: u64,
    /// Free memory that waits for scrubbing.
    pub scrub_pages: u64,
    /// Memory claimed for domains.
    pub outstanding_pages: u64,
    /// Largest frame.
    pub max_mfn: Mfn,
    /// CPUID feature words.
    pub hw_cap: [u32; 8],
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTopology {
    /// Its number.
    pub cpu: u32,
    /// Core.
    pub core: u32,
    /// Socket.
    pub socket: u32,
    /// NUMA node.
    pub node: u32,
}

/// A part of the hypervisor's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Text.
    pub text: Vec<u8>,
    /// Where the next part begins.
    pub next: u32,
}

/// Parameters of the credit scheduler as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditGlobals {
    /// Timeslice, ms.
    pub timeslice_ms: u32,
    /// Shortest time on a CPU, µs.
    pub ratelimit_us: u32,
    /// How long a vCPU stays with its CPU, µs.
    pub migration_delay_us: u32,
}

/// Bytes asked for at once.
const CONSOLE_CHUNK: usize = 16384;

impl Xen {
    /// What the hypervisor says about itself. What it keeps to itself is empty.
    ///
    /// # Errors
    /// Hardly any.
    pub fn hypervisor_info(&self) -> Result<HypervisorInfo> {
        let version = self.version_number(XENVER_VERSION)?;
        let string = |command, bytes| self.version_string(command, bytes).unwrap_or_default();
        let compile = self.version_bytes(XENVER_COMPILE_INFO, size_of::<XenCompileInfo>())?;
        let compile: XenCompileInfo = zerocopy::FromBytes::read_from_bytes(&compile)
            .unwrap_or_else(|_| FromZeros::new_zeroed());
        let platform = self.version_bytes(XENVER_PLATFORM_PARAMETERS, 8)?;
        Ok(HypervisorInfo {
            major: (version >> 16) as u16,
            minor: version as u16,
            extra: string(XENVER_EXTRAVERSION, XEN_EXTRAVERSION_LEN),
            capabilities: string(XENVER_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN),
            changeset: string(XENVER_CHANGESET, XEN_CHANGESET_INFO_LEN),
            command_line: string(XENVER_COMMANDLINE, XEN_COMMANDLINE_LEN),
            compiler: text(&compile.compiler),
            built_by: text(&compile.compile_by),
            build_domain: text(&compile.compile_domain),
            build_date: text(&compile.compile_date),
            page_size: self.version_number(XENVER_PAGESIZE)?,
            virt_start: platform
                .first_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes)),
        })
    }

    fn version_number(&self, command: u32) -> Result<u64> {
        let subject = host("ask the hypervisor's version");
        let mut buffer = self.buffer(subject, 1, &[])?;
        let arguments = [u64::from(command), 0, 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_XEN_VERSION, arguments, &mut buffer)
    }

    fn version_bytes(&self, command: u32, bytes: usize) -> Result<Vec<u8>> {
        let subject = host("ask the hypervisor's version");
        let mut buffer = self.buffer(subject, bytes, &[])?;
        let space = buffer.space(bytes);
        let arguments = [u64::from(command), space.address(), 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_XEN_VERSION, arguments, &mut buffer)?;
        Ok(buffer.slot(space).to_vec())
    }

    fn version_string(&self, command: u32, bytes: usize) -> Result<String> {
        Ok(text(&self.version_bytes(command, bytes)?))
    }

    /// CPUs and memory of the host.
    ///
    /// # Errors
    /// Hardly any.
    pub fn host_info(&self) -> Result<HostInfo> {
        let subject = host("look at the host");
        let zeroed = XenSysctlPhysinfo::new_zeroed();
        let raw = self.plain_sysctl(subject, XEN_SYSCTL_PHYSINFO, &zeroed)?;
        let has = |capability: u32| raw.capabilities & capability != 0;
        Ok(HostInfo {
            threads_per_core: raw.threads_per_core,
            cores_per_socket: raw.cores_per_socket,
            cpus: raw.nr_cpus,
            max_cpu: raw.max_cpu_id,
            nodes: raw.nr_nodes,
            cpu_khz: raw.cpu_khz,
            pv: has(XEN_SYSCTL_PHYSCAP_PV),
            grant_version: if has(XEN_SYSCTL_PHYSCAP_GNTTAB_V2) {
                2
            } else {
                u32::from(has(XEN_SYSCTL_PHYSCAP_GNTTAB_V1))
            },
            total_pages: raw.total_pages,
            free_pages: raw.free_pages,
            scrub_pages: raw.scrub_pages,
            outstanding_pages: raw.outstanding_pages,
            max_mfn: Mfn(raw.max_mfn),
            hw_cap: raw.hw_cap,
        })
    }

    /// Which scheduler runs (`XEN_SCHEDULER_*`).
    ///
    /// # Errors
    /// Hardly any.
    pub fn scheduler(&self) -> Result<u32> {
        self.plain_sysctl(host("ask for the scheduler"), XEN_SYSCTL_SCHED_ID, &0_u32)
    }

    /// Where the CPUs are; those that are absent are left out.
    ///
    /// # Errors
    /// Hardly any.
    pub fn cpu_topology(&self) -> Result<Vec<CpuTopology>> {
        const ABSENT: u32 = u32::MAX;
        let subject = host("look at the host's CPUs");
        let command = XEN_SYSCTL_CPUTOPOINFO;
        let mut argument = XenSysctlCputopoinfo::new_zeroed();
        let count = self.plain_sysctl(subject, command, &argument)?.num_cpus;
        let room = (count as usize).clamp(1, 8192);
        let mut buffer = self.sysctl_buffer(subject, &[room * size_of::<XenSysctlCputopo>()])?;
        let cpus = buffer.put_all(&vec![XenSysctlCputopo::new_zeroed(); room]);
        argument.num_cpus = room as u32;
        argument.cputopo = cpus.address();
        let back = self.sysctl(subject, command, &mut buffer, &argument)?;
        let found = (0..back.num_cpus).zip(buffer.get_all(cpus));
        let present = found.filter(|(_, raw)| raw.socket != ABSENT);
        Ok(present
            .map(|(cpu, raw)| CpuTopology {
                cpu,
                core: raw.core,
                socket: raw.socket,
                node: raw.node,
            })
            .collect())
    }

    /// Messages of the hypervisor from `from` on (`None`: all that it still has), at most 16 KiB
    /// of them.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn read_console(&self, from: Option<u32>, clear: bool) -> Result<Console> {
        let subject = host("read the hypervisor's messages");
        let mut buffer = self.sysctl_buffer(subject, &[CONSOLE_CHUNK])?;
        let space = buffer.space(CONSOLE_CHUNK);
        let mut argument = XenSysctlReadconsole::new_zeroed();
        argument.clear = u8::from(clear);
        argument.incremental = u8::from(from.is_some());
        argument.index = from.unwrap_or(0);
        argument.buffer = space.address();
        argument.count = CONSOLE_CHUNK as u32;
        let back = self.sysctl(subject, XEN_SYSCTL_READCONSOLE, &mut buffer, &argument)?;
        let count = (back.count as usize).min(CONSOLE_CHUNK);
        Ok(Console {
            text: buffer.slot(space)[..count].to_vec(),
            next: back.index,
        })
    }

    /// Debug keys, as if typed at the hypervisor's serial console.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn debug_keys(&self, keys: &[u8]) -> Result<()> {
        let subject = host("send debug keys");
        let mut buffer = self.sysctl_buffer(subject, &[keys.len()])?;
        let mut argument = XenSysctlDebugKeys::new_zeroed();
        argument.keys = buffer.put_all(keys).address();
        argument.nr_keys = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        self.sysctl(subject, XEN_SYSCTL_DEBUG_KEYS, &mut buffer, &argument)
            .map(drop)
    }

    /// Parameters of the credit scheduler of a CPU pool.
    ///
    /// # Errors
    /// `EINVAL`: the pool has another scheduler.
    pub fn credit_globals(&self, cpupool: u32) -> Result<CreditGlobals> {
        let zeroed = CreditGlobals {
            timeslice_ms: 0,
            ratelimit_us: 0,
            migration_delay_us: 0,
        };
        self.credit_op(cpupool, XEN_SYSCTL_SCHEDOP_GETINFO, zeroed)
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EINVAL`: beyond the limits, or the pool has another scheduler.
    pub fn set_credit_globals(&self, cpupool: u32, globals: CreditGlobals) -> Result<()> {
        self.credit_op(cpupool, XEN_SYSCTL_SCHEDOP_PUTINFO, globals)
            .map(drop)
    }

    fn credit_op(&self, cpupool: u32, cmd: u32, globals: CreditGlobals) -> Result<CreditGlobals> {
        let argument = XenSysctlSchedulerOp {
            cpupool_id: cpupool,
            sched_id: XEN_SCHEDULER_CREDIT,
            cmd,
            _pad0: 0,
            sched_credit: XenSysctlCreditSchedule {
                tslice_ms: globals.timeslice_ms,
                ratelimit_us: globals.ratelimit_us,
                vcpu_migr_delay_us: globals.migration_delay_us,
            },
            _pad1: 0,
        };
        let subject = host("use the credit scheduler's parameters");
        let back = self.plain_sysctl(subject, XEN_SYSCTL_SCHEDULER_OP, &argument)?;
        Ok(CreditGlobals {
            timeslice_ms: back.sched_credit.tslice_ms,
            ratelimit_us: back.sched_credit.ratelimit_us,
            migration_delay_us: back.sched_credit.vcpu_migr_delay_us,
        })
    }

    /// The largest frame of memory.
    ///
    /// # Errors
    /// Hardly any.
    pub fn max_mfn(&self) -> Result<Mfn> {
        let subject = host("ask for the size of memory");
        let mut buffer = self.buffer(subject, 1, &[])?;
        let arguments = [u64::from(XENMEM_MAXIMUM_RAM_PAGE), 0, 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_MEMORY_OP, arguments, &mut buffer)
            .map(Mfn)
    }
}

/// Text up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
