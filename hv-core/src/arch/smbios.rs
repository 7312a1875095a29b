//! The machine's name in its SMBIOS tables, for telling emulators apart. Pure.
//!
//! Source: SMBIOS 3.6 (DSP0134), 5.2 (entry points), 6.1 (strings), 7.2 (type 1).

/// Where the table is: physical address and length in bytes. Looks for an entry point
/// in the BIOS's segment (0xf0000-0xfffff), which `segment` shows.
#[must_use]
pub fn find_table(segment: &[u8]) -> Option<(u64, u32)> {
    segment
        .chunks_exact(16)
        .enumerate()
        .find_map(|(n, _)| entry_point(&segment[n * 16..]))
}

fn entry_point(at: &[u8]) -> Option<(u64, u32)> {
    let sums_to_zero = |len: usize| {
        at.get(..len)
            .is_some_and(|b| b.iter().fold(0u8, |sum, x| sum.wrapping_add(*x)) == 0)
    };
    let word = |o: usize| Some(u32::from_le_bytes(at.get(o..o + 4)?.try_into().ok()?));
    if at.starts_with(b"_SM3_") && sums_to_zero(usize::from(*at.get(6)?)) {
        return Some((
            u64::from(word(0x14)?) << 32 | u64::from(word(0x10)?),
            word(0xc)?,
        ));
    }
    if at.starts_with(b"_SM_") && sums_to_zero(usize::from(*at.get(5)?)) {
        return Some((u64::from(word(0x18)?), word(0x14)? >> 16));
    }
    None
}

/// The "version" string of the system (type 1).
#[must_use]
pub fn system_version(mut table: &[u8]) -> Option<&str> {
    loop {
        let (kind, len) = (*table.first()?, usize::from(*table.get(1)?));
        let fixed = table.get(..len).filter(|f| f.len() >= 4)?;
        let strings = &table[len..];
        // Strings end in a zero each, and one more after the last.
        let end = strings.windows(2).position(|w| w == [0, 0])? + 2;
        if kind == 1 {
            let wanted = usize::from(*fixed.get(6)?).checked_sub(1)?;
            let text = strings[..end].split(|b| *b == 0).nth(wanted)?;
            return core::str::from_utf8(text).ok();
        }
        table = &strings[end..];
    }
}

/// QEMU's release (major, minor) that a machine type such as "pc-q35-7.2" belongs to.
/// The emulator is that release or a later one.
#[must_use]
pub fn qemu_release(machine_type: &str) -> Option<(u32, u32)> {
    let (machine, release) = machine_type.rsplit_once('-')?;
    if !machine.starts_with("pc-") {
        return None;
    }
    let (major, minor) = release.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(kind: u8, fixed: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut v = vec![kind, 4 + fixed.len() as u8, 0, 0];
        v.extend(fixed);
        for s in strings {
            v.extend(s.as_bytes());
            v.push(0);
        }
        if strings.is_empty() {
            v.push(0);
        }
        v.push(0);
        v
    }

    #[test]
    fn the_version_of_a_qemu_machine() {
        let mut table = structure(0, &[1; 8], &["SeaBIOS"]);
        table.extend(structure(4, &[0; 4], &[]));
        table.extend(structure(
            1,
            &[1, 2, 3, 0],
            &["QEMU", "Standard PC (Q35 + ICH9, 2009)", "pc-q35-7.2"],
        ));
        assert_eq!(system_version(&table), Some("pc-q35-7.2"));
        for end in 0..table.len() {
            let _ = system_version(&table[..end]);
        }
        assert_eq!(qemu_release("pc-q35-7.2"), Some((7, 2)));
        assert_eq!(qemu_release("pc-i440fx-10.0"), Some((10, 0)));
        assert_eq!(qemu_release("XPS 13"), None);
        assert_eq!(qemu_release("pc-q35"), None);
    }

    #[test]
    fn both_kinds_of_entry_point() {
        let mut segment = vec![0u8; 0x200];
        segment[0x40..0x44].copy_from_slice(b"_SM_");
        segment[0x45] = 0x1f;
        segment[0x40 + 0x16] = 0x34;
        segment[0x40 + 0x1a] = 0x0f;
        assert_eq!(find_table(&segment), None, "the sum is wrong");
        let sum = segment[0x40..0x5f]
            .iter()
            .fold(0u8, |s, b| s.wrapping_add(*b));
        segment[0x44] = 0u8.wrapping_sub(sum);
        assert_eq!(find_table(&segment), Some((0xf_0000, 0x34)));

        let mut wide = vec![0u8; 0x40];
        wide[..5].copy_from_slice(b"_SM3_");
        (wide[6], wide[0xc], wide[0x14]) = (0x18, 0x99, 1);
        let sum = wide.iter().fold(0u8, |s, b| s.wrapping_add(*b));
        wide[5] = 0u8.wrapping_sub(sum);
        assert_eq!(find_table(&wide), Some((1 << 32, 0x99)));
    }
}
