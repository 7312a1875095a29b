//! Saved domains: the stream, and the file around it.

use std::io::Write;
use std::mem::offset_of;
use std::sync::Arc;

use dom0_tools::build::{Built, NewDomain};
use dom0_tools::ctl::{CreateDomain, Xen};
use dom0_tools::stream::{self, Restored};
use dom0_tools::sys::DomId;
use dom0_tools::sys::fake::Machine;
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl::XenDomctlExtVcpucontext;
use xen_abi::xen::{SharedInfo, StartInfo};
use zerocopy::{FromZeros, IntoBytes};

/// Into a domain that may have 64 pages; whatever comes of it, nothing is left when it is dropped.
pub fn stream(mut data: &[u8]) {
    let machine = Machine::new();
    let free = machine.free_frames();
    match restored(&machine, &mut data) {
        Ok(built) => assert_ne!(built.store.port, built.console.port),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(machine.domains(), 0);
    assert_eq!(machine.free_frames(), free);
}

/// Restores into a new domain that may have 64 pages, and lets go of it.
///
/// # Errors
/// Those of [`stream::restore`].
fn restored(machine: &Machine, data: &mut &[u8]) -> Result<Built, stream::Error> {
    let xen = Xen::new(Arc::new(machine.clone()));
    let params = CreateDomain {
        vcpus: 1,
        ..CreateDomain::default()
    };
    let domain = NewDomain::create(&xen, None, &params).expect("a fake domain");
    let wanted = Restored {
        pages: 64,
        max_pages: 64,
        vcpus: 1,
        store: DomId::DOM0,
        console: DomId::DOM0,
        begins: 0,
    };
    stream::restore(&domain, data, &wanted, &mut |_, _| {})
}

/// Opens the file, and reads it to its end.
pub fn file(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("room for it");
    match stream::file::open(file.path()) {
        Ok(mut opened) => {
            std::io::copy(&mut opened.stream, &mut std::io::sink()).expect("a file that is there");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(all: &[u64]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn record(to: &mut Vec<u8>, kind: u32, body: &[u8]) {
    to.extend(words(&[kind, body.len() as u32]));
    to.extend(body);
    to.resize(to.len().next_multiple_of(8), 0);
}

/// A guest of eight pages. Numbers of records: Xen's `docs/specs/libxc-migration-stream.pandoc`.
pub fn streams() -> Vec<Vec<u8>> {
    let mut all = b"LibxlFmt\0\0\0\x02\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    all.extend(b"\xff\xff\xff\xff\xff\xff\xff\xffXENF\0\0\0\x03\0\0\0\0\0\0\0\0");
    all.extend(words(&[1, 12, 4, 17]));
    record(&mut all, 2, &[8, 4, 0, 0, 0, 0, 0, 0]);
    record(&mut all, 0x10, &[]);
    // The list of eight PFNs is in page 5.
    record(&mut all, 3, &[words(&[0, 7]), longs(&[5])].concat());
    record(&mut all, 1, &pages());
    record(&mut all, 8, &words(&[0, 1_000_000, 5, 0, 0, 0]));
    record(&mut all, 7, SharedInfo::new_zeroed().as_bytes());
    let mut context = VcpuGuestContext::new_zeroed();
    context.user_regs.rdx = 1;
    context.ctrlreg[3] = 4 << 12;
    context.gdt_ents = 1;
    context.gdt_frames[0] = 6;
    let vcpu = |state: &[u8]| [&[0; 8], state].concat();
    record(&mut all, 4, &vcpu(context.as_bytes()));
    record(
        &mut all,
        5,
        &vcpu(XenDomctlExtVcpucontext::new_zeroed().as_bytes()),
    );
    record(&mut all, 6, &vcpu(&[1; 576]));
    record(&mut all, 0xc, &vcpu(&longs(&[0xc000_0081, 7])));
    record(&mut all, 0x8000_0001, b"to be passed over");
    record(&mut all, 0, &[]);
    record(&mut all, 0, &[]);
    vec![all]
}

/// Start info, two rings, a pinned L4 table, the list, plain memory, one without content.
fn pages() -> Vec<u8> {
    const PINNED_L4: u64 = 0xc << 60;
    const EMPTY: u64 = 0xe << 60;
    let mut body = words(&[8, 0]);
    body.extend(longs(&[0, 1, 2, 3, 4 | PINNED_L4, 5, 6, 7 | EMPTY]));
    let mut memory = vec![0; 7 * 4096];
    let start_info = &mut memory[4096..][..size_of::<StartInfo>()];
    start_info[offset_of!(StartInfo, store_mfn)] = 2;
    start_info[offset_of!(StartInfo, console_mfn)] = 3;
    // The table maps itself.
    memory[4 * 4096..][..8].copy_from_slice(&(4_u64 << 12 | 1).to_le_bytes());
    body.extend(memory);
    body
}

pub fn files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("saved");
    let stream = &b"LibxlFmt\0\0\0\x02\0\0\0\0"[..];
    stream::file::write(&path, "name = 'g'\n", "name = \"g\"\n", |to| {
        Ok(to.write_all(stream)?)
    })
    .expect("a file");
    let ours = std::fs::read(&path).expect("what was just written");
    // As xl writes it: no block of ours, so no checksum.
    let mut xls = ours[..48].to_vec();
    let config = b"{\"name\": \"g\"}\0";
    xls[36] = 3;
    xls[44..48].copy_from_slice(&(4 + config.len() as u32).to_le_bytes());
    xls.extend(words(&[config.len() as u32]));
    xls.extend(config);
    xls.extend(stream);
    vec![ours, xls]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_among_the_seeds_is_restored_to_its_end() {
        let seed = &streams()[0];
        restored(&Machine::new(), &mut &seed[..]).expect("a domain");
    }
}
