//! The system calls that Rust's library does not offer: the only unsafe code of this program.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CString;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

mod transfers;

pub use transfers::Transfers;

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// `getppid`, as a system call without any library code before it.
pub fn getppid() -> i64 {
    // SAFETY: the call has no arguments and touches no memory.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// Signals this process has caught with [`count_signal`].
pub static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// From now on, counts a signal in [`CAUGHT`].
pub fn count_signal(signal: libc::c_int) {
    handle(signal, on_signal as extern "C" fn(libc::c_int) as usize, 0);
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: libc::c_int) -> bool {
    // SAFETY: the call touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Sends a queued signal to a process; `false` when its queue is full or it is gone.
pub fn queue_signal(pid: i32, signal: libc::c_int, value: usize) -> bool {
    let value = libc::sigval {
        sival_ptr: ptr::without_provenance_mut(value),
    };
    // SAFETY: the value is passed on as a number and never followed.
    unsafe { libc::sigqueue(pid, signal, value) == 0 }
}

fn handle(signal: libc::c_int, handler: usize, flags: libc::c_int) {
    // SAFETY: all zero is a valid `sigaction` (no flags, empty mask), and `handler` is one of this
    // module's functions, which call nothing that a signal handler may not call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}

/// A child process, which must be waited for.
#[must_use]
pub struct Child(pub i32);

impl Child {
    /// Waits for the child's end; its exit code, or `None` when a signal ended it.
    pub fn wait(self) -> Option<i32> {
        let mut status = 0;
        let ended = loop {
            // SAFETY: `status` outlives the call.
            let ended = unsafe { libc::waitpid(self.0, &mut status, 0) };
            let interrupted = std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR);
            if ended >= 0 || !interrupted {
                break ended;
            }
        };
        (ended == self.0 && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
    }
}

/// Forks; the child runs `child` and exits with its result. Only for processes of one thread.
pub fn fork(child: impl FnOnce() -> i32) -> Option<Child> {
    // SAFETY: this process has one thread (the caller's part of the contract, kept by every role
    // that forks), so the child inherits no lock that nobody will release. It never returns.
    match unsafe { libc::fork() } {
        -1 => None,
        0 => {
            let code = child();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Some(Child(pid)),
    }
}

/// A command line made ready before a fork, so that the child allocates nothing.
pub struct Program {
    words: Vec<CString>,
}

impl Program {
    /// This program, with other arguments.
    pub fn this(args: &[&str]) -> Self {
        let words = std::iter::once("/proc/self/exe").chain(args.iter().copied());
        Self {
            words: words.filter_map(|word| CString::new(word).ok()).collect(),
        }
    }

    /// Becomes that program; returns only when that fails.
    pub fn exec(&self) {
        let mut pointers = [ptr::null(); 8];
        for (pointer, word) in pointers.iter_mut().zip(&self.words) {
            *pointer = word.as_ptr();
        }
        // SAFETY: a zero-ended array of zero-ended strings, all alive; words beyond seven would be
        // left out by the array's last element staying null.
        unsafe {
            pointers[7] = ptr::null();
            libc::execv(pointers[0], pointers.as_ptr());
        }
    }
}

/// Anonymous private memory of our own.
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps zeroed memory, readable and writable; `None` when the kernel refuses.
    pub fn new(len: usize) -> Option<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        (start != libc::MAP_FAILED).then_some(Self {
            start: start.cast(),
            len,
        })
    }

    /// The memory, to read and write.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours alone, `len` long and writable: `protect_pair` leaves it so,
        // and `fix_up` borrows it for itself.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Makes the memory read-only and writable again.
    pub fn protect_pair(&mut self) -> bool {
        self.protect(libc::PROT_READ) && self.protect(libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Takes the memory away and writes to it: the fault's handler gives it back.
    pub fn fix_up(&mut self, value: u8) -> bool {
        FAULT_PAGE.store(self.start, Ordering::Relaxed);
        if !self.protect(libc::PROT_NONE) {
            return false;
        }
        // SAFETY: the byte is in our mapping. The write faults, `on_fault` makes the first page
        // writable, and the write is done again.
        unsafe { self.start.write_volatile(value) };
        FAULT_PAGE.store(ptr::null_mut(), Ordering::Relaxed);
        self.protect(libc::PROT_READ | libc::PROT_WRITE) && self.bytes()[0] == value
    }

    fn protect(&mut self, protection: libc::c_int) -> bool {
        // SAFETY: exactly our own mapping, to which no reference exists during `&mut self`.
        unsafe { libc::mprotect(self.start.cast(), self.len, protection) == 0 }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly our own mapping, and no reference outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// The page [`Mapping::fix_up`] expects a fault in.
static FAULT_PAGE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let page = FAULT_PAGE.load(Ordering::Relaxed);
    // SAFETY: the kernel passes a valid `info` to a handler with SA_SIGINFO. The page is that of a
    // live mapping or null, and making it writable affects nothing else. A fault anywhere else is a
    // true one: the process ends with a code of its own.
    unsafe {
        if page.is_null() || (*info).si_addr().cast() != page {
            libc::_exit(99);
        }
        libc::mprotect(page.cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// From now on, faults go to the handler [`Mapping::fix_up`] needs.
pub fn catch_faults() {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    handle(
        libc::SIGSEGV,
        on_fault as Handler as usize,
        libc::SA_SIGINFO,
    );
}

/// `struct privcmd_hypercall` of Linux's `include/uapi/xen/privcmd.h`.
#[repr(C)]
struct PrivcmdHypercall {
    op: u64,
    arg: [u64; 5],
}

/// `IOCTL_PRIVCMD_HYPERCALL`: `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`.
const IOCTL_HYPERCALL: libc::c_ulong = (48 << 16) | (0x50 << 8);

/// An ioctl privcmd does not have: the way through the kernel, without the hypercall.
const IOCTL_UNKNOWN: libc::c_ulong = (48 << 16) | (0x50 << 8) | 0xee;

/// `__HYPERVISOR_xen_version` of Xen's public header `xen.h`.
const XEN_VERSION: u64 = 17;

/// Asks for the hypervisor's version number through `/dev/xen/privcmd`: a hypercall that does
/// nothing. Negative: it failed.
pub fn null_hypercall(privcmd: RawFd) -> i32 {
    let mut call = PrivcmdHypercall {
        op: XEN_VERSION,
        arg: [0; 5],
    };
    // SAFETY: `call` has the ioctl's layout and outlives it; XENVER_version writes no memory.
    unsafe { libc::ioctl(privcmd, IOCTL_HYPERCALL, &raw mut call) }
}

/// The same way through the kernel without a hypercall.
pub fn no_hypercall(privcmd: RawFd) -> i32 {
    let mut call = PrivcmdHypercall {
        op: XEN_VERSION,
        arg: [0; 5],
    };
    // SAFETY: as above; an unknown ioctl touches nothing.
    unsafe { libc::ioctl(privcmd, IOCTL_UNKNOWN, &raw mut call) }
}

/// `__HYPERVISOR_memory_op`, `__HYPERVISOR_sysctl` and `__HYPERVISOR_domctl` of Xen's public header `xen.h`.
const MEMORY_OP: u64 = 12;
const SYSCTL: u64 = 35;
const DOMCTL: u64 = 36;

/// Makes a hypercall with a command and a buffer, which must hold what that command reads and writes.
fn hypercall<T>(privcmd: RawFd, op: u64, command: u64, buffer: &mut T) -> i64 {
    let pointer = &raw mut *buffer;
    let mut call = PrivcmdHypercall {
        op,
        arg: [command, pointer.expose_provenance() as u64, 0, 0, 0],
    };
    // SAFETY: `call` has the ioctl's layout, and every caller's buffer its command's. Both have been
    // written just now, so their pages are present, as the hypervisor demands.
    i64::from(unsafe { libc::ioctl(privcmd, IOCTL_HYPERCALL, &raw mut call) })
}

/// An entry of the machine's memory map: start, length, type; packed in 20 bytes.
type MapEntry = [u8; 20];

/// `struct xen_memory_map` of `memory.h`, with the entries it points to.
#[repr(C)]
struct MemoryMap {
    entries: u32,
    buffer: u64,
    space: [MapEntry; 128],
}

/// RAM in the machine's memory map (`XENMEM_machine_memory_map`), in bytes.
pub fn machine_ram(privcmd: RawFd) -> Option<u64> {
    let mut map = Box::new(MemoryMap {
        entries: 128,
        buffer: 0,
        space: [[0; 20]; 128],
    });
    map.buffer = (&raw mut map.space).expose_provenance() as u64;
    if hypercall(privcmd, MEMORY_OP, 10, &mut *map) < 0 {
        return None;
    }
    // The call wrote the entries through the pointer in the buffer.
    let space = std::hint::black_box(&map.space);
    let ram = space
        .iter()
        .take(map.entries as usize)
        .filter(|entry| entry[16] == 1);
    let length = |entry: &MapEntry| entry[8..16].try_into().map_or(0, u64::from_le_bytes);
    Some(ram.map(length).sum())
}

/// Pages this domain has (`XENMEM_current_reservation`).
pub fn own_pages(privcmd: RawFd) -> Option<u64> {
    // `DOMID_SELF`
    let mut domain: u16 = 0x7ff0;
    u64::try_from(hypercall(privcmd, MEMORY_OP, 3, &mut domain)).ok()
}

/// `struct xen_sysctl` of `sysctl.h` for `XEN_SYSCTL_physinfo`.
#[repr(C)]
struct Sysctl {
    command: u32,
    version: u32,
    before: [u8; 40],
    total_pages: u64,
    free_pages: u64,
    after: [u8; 72],
}

/// Free pages of the machine (`XEN_SYSCTL_physinfo`); `None` where there is no sysctl.
pub fn free_pages(privcmd: RawFd) -> Option<u64> {
    let mut call = Sysctl {
        command: 3,
        version: 0x15,
        before: [0; 40],
        total_pages: 0,
        free_pages: 0,
        after: [0; 72],
    };
    (control(privcmd, SYSCTL, &mut call) == 0 && call.total_pages > 0).then_some(call.free_pages)
}

/// Makes a hypercall whose only argument is a buffer, which must hold what it reads and writes.
fn control<T>(privcmd: RawFd, op: u64, buffer: &mut T) -> i32 {
    let pointer = &raw mut *buffer;
    let mut request = PrivcmdHypercall {
        op,
        arg: [pointer.expose_provenance() as u64, 0, 0, 0, 0],
    };
    // SAFETY: both have the layouts the call wants, and are present.
    unsafe { libc::ioctl(privcmd, IOCTL_HYPERCALL, &raw mut request) }
}

/// `struct xen_domctl` of `domctl.h` for `XEN_DOMCTL_getdomaininfo`.
#[repr(C)]
struct Domctl {
    command: u32,
    version: u32,
    domain: u16,
    padding: [u16; 3],
    found: u16,
    before: [u16; 27],
    cpu_time: u64,
    after: [u8; 64],
}

/// Nanoseconds that a domain's vCPUs have run (`XEN_DOMCTL_getdomaininfo`).
pub fn cpu_time(privcmd: RawFd, domain: u16) -> Option<u64> {
    let mut call = Domctl {
        command: 5,
        version: 0x15,
        domain,
        padding: [0; 3],
        found: 0,
        before: [0; 27],
        cpu_time: 0,
        after: [0; 64],
    };
    // The hypervisor answers with the next domain where there is no such one.
    (control(privcmd, DOMCTL, &mut call) == 0 && call.found == domain).then_some(call.cpu_time)
}

/// Both ends of a pipe.
pub fn pipe() -> Option<(RawFd, RawFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for the two numbers the call writes.
    (unsafe { libc::pipe(ends.as_mut_ptr()) } == 0).then_some((ends[0], ends[1]))
}

/// Closes a file.
pub fn close(file: RawFd) {
    // SAFETY: callers own the numbers that `pipe` gave them and close each once.
    unsafe { libc::close(file) };
}

/// Writes one byte.
pub fn put(file: RawFd, byte: u8) -> bool {
    // SAFETY: one readable byte.
    unsafe { libc::write(file, (&raw const byte).cast(), 1) == 1 }
}

/// Reads one byte.
pub fn get(file: RawFd) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: one writable byte.
    (unsafe { libc::read(file, (&raw mut byte).cast(), 1) } == 1).then_some(byte)
}

/// Binds the calling thread to one CPU.
pub fn pin_to(cpu: usize) -> bool {
    // SAFETY: all zero is an empty CPU set, and CPU_SET checks its index against the set's size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Drops the page cache's copy of a file, after its data is on the disk.
pub fn forget_cached(file: RawFd) -> bool {
    // SAFETY: advice touches no memory of ours.
    unsafe { libc::posix_fadvise(file, 0, 0, libc::POSIX_FADV_DONTNEED) == 0 }
}
