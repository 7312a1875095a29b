//! Tables of firmware, where we read them ourselves. (The `acpi` crate reads the others.)

use hv_core::arch::{efi, platform, smbios};

pub fn tables(data: &[u8]) {
    if platform::madt_entries_fit(data) {
        // As the iterator of the `acpi` crate goes on: it trusts each length.
        let mut rest = data;
        while let [_, len, ..] = rest {
            assert!(*len >= 2);
            rest = &rest[usize::from(*len)..];
        }
    }
    if let Some((a, b)) = platform::find_s5(data) {
        assert!(a < 8 && b < 8);
    }
    if let Some((_, count)) = efi::list_of_tables(data) {
        assert!(count * efi::ENTRY <= 1 << 20);
    }
    let _ = efi::acpi_root(data);
    let _ = smbios::find_table(data);
    let _ = smbios::system_version(data).and_then(smbios::qemu_release);
}

pub fn samples() -> Vec<Vec<u8>> {
    let mut entry_point = vec![0; 0x40];
    entry_point[..4].copy_from_slice(b"_SM_");
    entry_point[5] = 0x1f;
    entry_point[0x16] = 0x34;
    entry_point[0x1a] = 0x0f;
    let sum = entry_point[..0x1f]
        .iter()
        .fold(0_u8, |s, b| s.wrapping_add(*b));
    entry_point[4] = 0_u8.wrapping_sub(sum);
    let mut system_table = vec![0; efi::SYSTEM_TABLE];
    system_table[..8].copy_from_slice(b"IBI SYST");
    system_table[104] = 2;
    system_table[112] = 0x40;
    let root = b"\x71\xe8\x68\x88\xf1\xe4\xd3\x11\xbc\x22\x00\x80\xc7\x3c\x88\x81";
    let mut list = vec![7; efi::ENTRY];
    list.extend(root);
    list.extend([0x40, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        // Local APIC, I/O APIC, override.
        b"\0\x08\0\0\x01\0\0\0\x01\x0c\0\0\0\0\xc0\xfe\0\0\0\0\x02\x0a\0\x09\x09\0\0\0\x0d\0"
            .to_vec(),
        b"xx\x08_S5_\x12\x07\x04\x0a\x05\x0a\x05\0\0".to_vec(),
        entry_point,
        system_table,
        list,
        b"\0\x04\0\0SeaBIOS\0\0\x01\x08\0\0\x01\x02\x03\0QEMU\0PC\0pc-q35-7.2\0\0".to_vec(),
    ]
}
