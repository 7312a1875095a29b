//! The hypervisor's console: what it said, and keys typed at it.

use super::{Call, Error, Request};
use crate::addr::GuestVa;
use crate::console;
use xen_abi::sysctl as abi;

/// Bytes copied at a time.
const PIECE: usize = 256;

/// `readconsole`. Positions are the low 32 bits of how many bytes were ever written.
///
/// `EFAULT`.
pub(super) fn read(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlReadconsole = request.body();
    let mut position = if op.incremental != 0 {
        u64::from(op.index)
    } else {
        0
    };
    let mut done = 0;
    let mut piece = [0; PIECE];
    while done < op.count {
        let room = PIECE.min((op.count - done) as usize);
        let (count, next) = console::ring_read(position, &mut piece[..room]);
        if count == 0 {
            position = next;
            break;
        }
        let at = GuestVa(op.buffer).add(u64::from(done));
        call.guest().write_bytes(at, &piece[..count])?;
        done += count as u32;
        position = next;
    }
    if op.clear != 0 {
        console::ring_clear();
    }
    op.count = done;
    op.index = position as u32;
    request.set_body(&op);
    Ok(())
}

/// `debug_keys`.
///
/// `EFAULT`.
pub(super) fn keys(call: &Call<'_>, request: &Request) -> Result<(), Error> {
    /// As many as are kept.
    const MOST: u32 = 8;
    let op: abi::XenSysctlDebugKeys = request.body();
    for n in 0..op.nr_keys.min(MOST) {
        let key: u8 = call.guest().read(GuestVa(op.keys).add(n.into()))?;
        console::press_key(key);
    }
    Ok(())
}
