//! Domains saved and restored on a machine that is none: whatever is wrong with the file and
//! whatever fails, nothing is left.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_SUSPEND};

use super::*;
use crate::build::{Built, NewDomain};
use crate::ctl::{CreateDomain, Xen};
use crate::sys::fake::{Machine, guest};
use crate::sys::{DomId, Pfn};

/// Of bytes that are a page's content, one in so many is tried; in a release build all are.
const STEP: usize = if cfg!(debug_assertions) { 97 } else { 1 };

/// The bytes of a stream or file that are tried: all but most of those of pages.
fn places(length: usize) -> impl DoubleEndedIterator<Item = usize> {
    let pages = 1000..length - 9000;
    (0..length).filter(move |at| !pages.contains(at) || at % STEP == 0)
}

/// A machine, and what must be on it whenever nothing runs.
struct Host {
    machine: Machine,
    xen: Xen,
    free: u64,
}

impl Host {
    fn new() -> Self {
        let machine = Machine::new();
        Self {
            xen: Xen::new(Arc::new(machine.clone())),
            free: machine.free_frames(),
            machine,
        }
    }

    fn domain(&self) -> Result<NewDomain, Error> {
        Ok(NewDomain::create(
            &self.xen,
            None,
            &CreateDomain::default(),
        )?)
    }

    /// The fake's guest, suspended.
    fn guest(&self) -> NewDomain {
        let domain = self.domain().unwrap();
        let kib = guest::PAGES * 4;
        self.xen.set_max_memory(domain.id(), kib).unwrap();
        let at: Vec<Pfn> = (0..guest::PAGES).map(Pfn).collect();
        self.xen.populate(domain.id(), &at, 0).unwrap();
        self.machine.fill_guest(domain.id());
        self.machine.guest_suspends(domain.id());
        domain
    }

    fn saved(&self, domain: &NewDomain) -> Result<Vec<u8>, Error> {
        let mut stream = Vec::new();
        save(&self.xen, domain.id(), &mut stream, &mut |_, _| {})?;
        Ok(stream)
    }

    fn restored(&self, mut from: impl Read, begins: u64) -> Result<(NewDomain, Built), Error> {
        let wanted = Restored {
            pages: guest::PAGES,
            max_pages: guest::PAGES,
            vcpus: 1,
            store: DomId::DOM0,
            console: DomId::DOM0,
            begins,
        };
        let domain = self.domain()?;
        let built = restore(&domain, &mut from, &wanted, &mut |_, _| {})?;
        Ok((domain, built))
    }

    /// Nothing of any domain is there.
    fn assert_empty(&self, when: &str) {
        assert_eq!(self.machine.domains(), 0, "{when}");
        assert_eq!(self.machine.free_frames(), self.free, "{when}");
        assert_eq!(self.machine.ports(DomId(1)), 0, "{when}");
    }
}

/// The stream of the fake's guest.
fn stream() -> Vec<u8> {
    let host = Host::new();
    host.saved(&host.guest()).unwrap()
}

fn file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("saved");
    file::write(&path, "name = 'g'\n", "name = \"g\"\n", |to| {
        Ok(to.write_all(&stream())?)
    })
    .unwrap();
    path
}

#[test]
fn a_guest_comes_back_and_can_be_saved_again() {
    let first = stream();
    let host = Host::new();
    let (domain, built) = host.restored(&*first, 0).unwrap();
    assert_ne!(built.store.port, built.console.port);
    assert_eq!(host.machine.ports(domain.id()), 2);
    assert!(host.machine.guest_is_whole(domain.id()));
    host.machine.guest_suspends(domain.id());
    assert_eq!(host.saved(&domain).unwrap().len(), first.len());
    drop(domain);
    host.assert_empty("dropped");
}

#[test]
fn a_file_cut_or_flipped_at_any_byte_is_refused_where_it_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path());
    let good = std::fs::read(&path).unwrap();
    let refused = |what: &str| {
        let error = file::open(&path).expect_err(what).to_string();
        assert!(error.contains("byte"), "{what}: {error}");
        error
    };
    let bad = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let write = |at: usize, byte: u8| {
        std::os::unix::fs::FileExt::write_all_at(&bad, &[byte], at as u64).unwrap();
    };
    for at in places(good.len()) {
        write(at, good[at] ^ 1 << (at % 8));
        refused(&format!("flipped at {at}"));
        write(at, good[at]);
    }
    // Back to what it was, and whole.
    drop(file::open(&path).unwrap());
    for at in places(good.len()).rev() {
        bad.set_len(at as u64).unwrap();
        refused(&format!("cut at {at}"));
    }
    std::fs::write(&path, &good[..good.len() - 100]).unwrap();
    let error = refused("cut");
    assert!(
        error.contains("record") && error.contains("cut off"),
        "{error}"
    );
}

/// As it is read of a file that `xl` wrote, which has no checksum.
#[test]
fn a_stream_cut_at_any_byte_leaves_no_domain() {
    let host = Host::new();
    let good = stream();
    for at in places(good.len()) {
        let error = host
            .restored(&good[..at], 100)
            .map(drop)
            .expect_err("half a domain");
        let error = error.to_string();
        assert!(
            error.contains("cut off") && error.contains("at byte"),
            "cut at {at}: {error}"
        );
        host.assert_empty(&format!("cut at {at}"));
    }
}

#[test]
fn a_stream_flipped_at_any_byte_gives_a_domain_or_none() {
    let host = Host::new();
    let good = stream();
    let mut refused = 0;
    for at in places(good.len()) {
        refused += usize::from(!flipped_is_fine(&host, &good, at, at % 8));
    }
    assert!(refused > 200, "{refused}");
}

/// Whether a stream with a bit flipped gives a domain; if not, nothing is left, and it is said
/// where.
fn flipped_is_fine(host: &Host, good: &[u8], at: usize, bit: usize) -> bool {
    let mut bad = good.to_vec();
    bad[at] ^= 1 << bit;
    let made = host.restored(&*bad, 0).map(drop);
    host.assert_empty(&format!("flipped at {at}, bit {bit}"));
    match made {
        Ok(()) => true,
        Err(Error::Hypervisor(_) | Error::Build(_)) => false,
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains("at byte"),
                "flipped at {at}, bit {bit}: {error}"
            );
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bits_flipped_anywhere(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..8)) {
        let host = Host::new();
        let mut bad = stream();
        for (at, bit) in flips {
            let at = at.index(bad.len());
            bad[at] ^= 1 << bit;
        }
        drop(host.restored(&*bad, 0));
        host.assert_empty("flipped");
    }
}

#[test]
fn every_call_of_a_restore_may_fail_and_nothing_is_left() {
    let good = stream();
    for errno in [libc::ENOMEM, libc::EINVAL, libc::EPERM] {
        for calls in 0.. {
            let host = Host::new();
            host.machine.fail_after(calls, errno);
            let made = host.restored(&*good, 0);
            if host.machine.end_fault() {
                assert!(made.is_ok());
                assert!(calls > 15, "only {calls} calls");
                break;
            }
            let error = made.map(drop).expect_err("unnoticed").to_string();
            assert!(error.len() > 10, "call {calls}: {error}");
            host.assert_empty(&format!("call {calls}"));
        }
    }
}

#[test]
fn every_call_of_a_save_may_fail_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path());
    let before = std::fs::read(&path).unwrap();
    for calls in 0.. {
        let host = Host::new();
        let domain = host.guest();
        host.machine.fail_after(calls, libc::EPERM);
        let done = file::write(&path, "new", "new", |mut to| {
            save(&host.xen, domain.id(), &mut to, &mut |_, _| {})
        });
        if host.machine.end_fault() {
            done.unwrap();
            assert!(calls > 20, "only {calls} calls");
            break;
        }
        // Texts of the version are left out when the hypervisor keeps them to itself.
        if done.is_ok() {
            assert!(calls < 12, "call {calls} failed unnoticed");
            std::fs::write(&path, &before).unwrap();
            continue;
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "call {calls}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(
            host.machine.stopped(domain.id()),
            Some(SHUTDOWN_SUSPEND as u8)
        );
    }
}

#[test]
fn a_restore_changes_nothing_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path());
    let before = std::fs::read(&path).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    for _ in 0..2 {
        let host = Host::new();
        let opened = file::open(&path).unwrap();
        let (domain, _) = host.restored(opened.stream, opened.begins).unwrap();
        assert!(host.machine.guest_is_whole(domain.id()));
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_crashed_guest_is_dumped_for_debuggers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.core");
    let host = Host::new();
    let domain = host.guest();
    host.machine.guest_stops(domain.id(), SHUTDOWN_CRASH as u8);
    dump(&host.xen, domain.id(), &path, &mut |_, _| {}).unwrap();
    let core = std::fs::read(&path).unwrap();
    let section = |name: &str| dumped_section(&core, name);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let pages = guest::PAGES as usize;
    let p2m = section(".xen_p2m");
    assert_eq!(p2m.len(), pages * 16);
    assert_eq!(section(".xen_pages").len(), pages * 4096);
    assert_eq!(section(".xen_shared_info").len(), 4096);
    assert_eq!(section(".xen_prstatus").len(), 5168);
    // The page at PFN 9 is the one full of a pattern.
    let place = (0..pages).find(|n| word(p2m, n * 16) == 9).unwrap();
    let page = &section(".xen_pages")[place * 4096..][..4096];
    assert!(
        page.iter()
            .enumerate()
            .all(|(n, &byte)| usize::from(byte) == n % 251)
    );
    // Behind an empty note the one that counts.
    let notes = section(".note.Xen");
    assert_eq!(
        &notes[16..32],
        [[4, 0, 0, 0], [32, 0, 0, 0], [1, 0, 0, 2], *b"Xen\0"].as_flattened()
    );
    let header: Vec<u64> = (0..4).map(|n| word(notes, 32 + 8 * n)).collect();
    assert_eq!(header, [0xf00f_ebed, 1, guest::PAGES, 4096]);
    for calls in 0.. {
        host.machine.fail_after(calls, libc::EPERM);
        let done = dump(&host.xen, domain.id(), &path, &mut |_, _| {});
        if host.machine.end_fault() {
            done.unwrap();
            break;
        }
        assert_eq!(
            std::fs::read(&path).unwrap().len(),
            core.len(),
            "call {calls}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// A section of an ELF file, found by its name.
fn dumped_section<'a>(file: &'a [u8], name: &str) -> &'a [u8] {
    let number = |at: usize, bytes: usize| {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&file[at..at + bytes]);
        u64::from_le_bytes(word) as usize
    };
    let head = |index: usize| number(40, 8) + index * number(58, 2);
    let content = |index: usize| {
        let (offset, size) = (number(head(index) + 24, 8), number(head(index) + 32, 8));
        &file[offset..offset + size]
    };
    let names = content(number(62, 2));
    let found = (1..number(60, 2))
        .find(|&index| names[number(head(index), 4)..].starts_with(format!("{name}\0").as_bytes()));
    content(found.unwrap_or_else(|| panic!("no section {name}")))
}
