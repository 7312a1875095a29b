//! `console_io` (18): the serial line, for dom0.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::GuestVa;
use crate::console;
use xen_abi::xen::{CONSOLEIO_READ, CONSOLEIO_WRITE};

/// Bytes copied from or to the guest at a time.
const CHUNK: usize = 128;
/// Bytes written before events get their turn: a serial line is slow.
const BATCH: u64 = 1024;

/// Writes or reads (command `args[0]`) up to `args[1]` bytes at `args[2]`. Reading
/// answers the number of bytes there were.
///
/// # Errors
/// `EPERM`: not for the caller. `ENOSYS`: no such command. `EFAULT`: buffer not
/// accessible.
pub fn console_io(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    if !access::may_use_console(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    let [command, count, buffer, ..] = args;
    let count = u64::from(count as u32);
    match command as u32 {
        CONSOLEIO_WRITE => write(call, args, count, GuestVa(buffer)),
        CONSOLEIO_READ => read(call, count, GuestVa(buffer)),
        _ => Err(Error::NotImplemented),
    }
}

fn write(call: &Call<'_>, args: [u64; 6], count: u64, from: GuestVa) -> HypercallResult {
    let guest = call.guest();
    let now = count.min(BATCH);
    let mut done = 0;
    while done < now {
        let mut bytes = [0; CHUNK];
        let part = &mut bytes[..(now - done).min(CHUNK as u64) as usize];
        guest.read_bytes(from.add(done), part)?;
        console::guest_write(part);
        done += part.len() as u64;
    }
    if done == count {
        return Ok(Reply::Done(0));
    }
    let left = count - done;
    Ok(Reply::go_on(args, [args[0], left, from.add(done).0]))
}

fn read(call: &Call<'_>, count: u64, to: GuestVa) -> HypercallResult {
    let mut bytes = [0; CHUNK];
    let room = count.min(CHUNK as u64) as usize;
    let mut there = 0;
    while there < room
        && let Some(byte) = console::poll_input()
    {
        bytes[there] = byte;
        there += 1;
    }
    call.guest().write_bytes(to, &bytes[..there])?;
    Ok(Reply::Done(there as u64))
}
