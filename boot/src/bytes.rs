//! Little-endian words and strings out of a byte slice that may be too short.

use hv_core::start::boot_info::BootInfo;

/// The byte at `at`.
pub fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// The 32-bit word at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// The 64-bit word at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Copies a NUL-terminated string, cut to fit; bytes that are not ASCII become `?`.
pub fn text<const N: usize>(bytes: &[u8], damaged: &mut bool) -> heapless::String<N> {
    let mut out = heapless::String::new();
    for b in bytes.iter().take_while(|b| **b != 0) {
        let c = if b.is_ascii() { char::from(*b) } else { '?' };
        if out.push(c).is_err() {
            *damaged = true;
            break;
        }
    }
    out
}

/// Notes that a part was left out if there is none.
pub fn or_damaged<T>(part: Option<T>, info: &mut BootInfo) -> Option<T> {
    info.damaged |= part.is_none();
    part
}
