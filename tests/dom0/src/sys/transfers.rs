//! Reads and writes of a file by Linux' asynchronous interface, many at once.

use std::os::fd::RawFd;
use std::ptr;

use super::Mapping;

/// `struct iocb` of Linux' `include/uapi/linux/aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// `IOCB_CMD_PREAD` and `IOCB_CMD_PWRITE`.
const READ: u16 = 0;
const WRITE: u16 = 1;

/// A number of requests to a file that may be under way at once, each with memory of its own.
pub struct Transfers {
    context: libc::c_ulong,
    file: RawFd,
    write: bool,
    bytes: usize,
    requests: Vec<Request>,
    memory: Mapping,
}

impl Transfers {
    /// Reads or writes of `bytes` each, a multiple of a page, `depth` of them at once. The file must
    /// stay open.
    pub fn new(file: RawFd, write: bool, bytes: usize, depth: usize) -> Option<Self> {
        let mut memory = Mapping::new(bytes.checked_mul(depth)?)?;
        // Present before anything is measured.
        memory.bytes().fill(0x5a);
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes the context's number.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        (made == 0).then(|| Self {
            context,
            file,
            write,
            bytes,
            requests: vec![Request::default(); depth],
            memory,
        })
    }

    /// Begins a request for each `(slot, offset)`; none of the slots has one under way.
    pub fn begin(&mut self, begun: &[(usize, u64)]) -> bool {
        let mut pointers = Vec::with_capacity(begun.len());
        for &(slot, offset) in begun {
            let Some(request) = self.requests.get_mut(slot) else {
                return false;
            };
            // No reference: the kernel may be writing to other slots.
            let memory = self.memory.start.wrapping_add(slot * self.bytes);
            *request = Request {
                data: slot as u64,
                opcode: if self.write { WRITE } else { READ },
                file: self.file.cast_unsigned(),
                buffer: memory.expose_provenance() as u64,
                bytes: self.bytes as u64,
                offset: offset.cast_signed(),
                ..Request::default()
            };
            pointers.push(&raw const *request);
        }
        // SAFETY: the kernel reads the requests now, and uses each one's memory until it has ended;
        // `drop` waits for that.
        let count = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                pointers.len(),
                pointers.as_ptr(),
            )
        };
        usize::try_from(count) == Ok(pointers.len())
    }

    /// Waits until at least one has ended; the slots of all that have. `None`: one failed.
    pub fn ended(&mut self) -> Option<Vec<usize>> {
        let mut events = vec![Event::default(); self.requests.len()];
        // SAFETY: room for as many events as the call may write.
        let count = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                1,
                events.len(),
                events.as_mut_ptr(),
                ptr::null_mut::<libc::timespec>(),
            )
        };
        events.truncate(usize::try_from(count).ok().filter(|count| *count > 0)?);
        let slot = |event: &Event| {
            (usize::try_from(event.result) == Ok(self.bytes)).then_some(event.data as usize)
        };
        events.iter().map(slot).collect()
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // SAFETY: waits for all that is under way, so that nothing uses the memory afterwards.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
