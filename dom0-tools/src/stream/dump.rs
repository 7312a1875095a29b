//! A domain's memory and registers into a core file for debuggers, in the format of Xen's
//! `xc_domain_dumpcore`: an ELF file of sections, without segments.
//!
//! | section | content |
//! |---|---|
//! | `.note.Xen` | that it is one, how many vCPUs and pages, version of Xen, of the format |
//! | `.xen_prstatus` | `vcpu_guest_context` of each vCPU that is up |
//! | `.xen_shared_info` | the page shared with the hypervisor |
//! | `.xen_p2m` | PFN and frame of each page |
//! | `.xen_pages` | the pages, in that order |
//!
//! Sources: Xen `docs/misc/dump-core-format.txt`; System V ABI, chapter 4.

use std::io::{BufWriter, Write};
use std::path::Path;

use xen_abi::version::{
    XEN_CAPABILITIES_INFO_LEN, XEN_CHANGESET_INFO_LEN, XEN_EXTRAVERSION_LEN, XenCompileInfo,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::error::Result;
use super::guest::{GuestFrames, shared_info};
use super::partial::Partial;
use super::records::BATCH;
use crate::ctl::{DomainInfo, HypervisorInfo, Xen};
use crate::sys::{Access, DomId, Mfn, PAGE_SIZE, Vcpu};

const PAGE_BYTES: u64 = PAGE_SIZE as u64;

const NOTE_NONE: u32 = 0x200_0000;
const NOTE_HEADER: u32 = 0x200_0001;
const NOTE_XEN_VERSION: u32 = 0x200_0002;
const NOTE_FORMAT_VERSION: u32 = 0x200_0003;
/// Of a PV domain.
const MAGIC: u64 = 0xf00f_ebed;
/// 0.1
const FORMAT_VERSION: u64 = 1;

const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;

/// `Elf64_Ehdr`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ElfHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

/// `Elf64_Shdr`.
#[derive(Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SectionHeader {
    name: u32,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    addralign: u64,
    entsize: u64,
}

/// Descriptor of `NOTE_XEN_VERSION`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct XenVersion {
    major: u64,
    minor: u64,
    extra: [u8; XEN_EXTRAVERSION_LEN],
    compile: XenCompileInfo,
    capabilities: [u8; XEN_CAPABILITIES_INFO_LEN],
    changeset: [u8; XEN_CHANGESET_INFO_LEN],
    virt_start: u64,
    page_size: u64,
}

/// Writes a domain that runs, is paused or has stopped; it is not changed. `progress` is told
/// pages written, of how many.
///
/// # Errors
/// [`crate::stream::Error::Domain`]: its kernel does not say where its P2M list is. Those of
/// writing; then there is no file, or the one that was there before.
pub fn dump(
    xen: &Xen,
    domain: DomId,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let info = xen.domain_info(domain)?;
    let (page, shared) = shared_info(xen, &info)?;
    let guest = GuestFrames::read(xen, &info, &shared)?;
    let contexts = contexts(xen, &info)?;
    let pages = own_pages(&guest);
    let mut shared_info = vec![0; PAGE_SIZE];
    page.read(0, &mut shared_info);
    let numbers: Vec<u64> = pages.iter().flat_map(|&(pfn, mfn)| [pfn, mfn.0]).collect();
    let vcpus = contexts.len() as u64;
    let count = pages.len() as u64;
    let sections = [
        Section::new(
            ".note.Xen",
            SHT_NOTE,
            4,
            0,
            notes(&xen.hypervisor_info()?, vcpus, count),
        ),
        Section::new(".xen_prstatus", SHT_PROGBITS, 8, vcpus, contexts.concat()),
        Section::new(".xen_shared_info", SHT_PROGBITS, 8, 1, shared_info),
        Section::new(
            ".xen_p2m",
            SHT_PROGBITS,
            8,
            count,
            numbers.as_bytes().to_vec(),
        ),
    ];
    let part = Partial::create(path)?;
    let mut to = BufWriter::with_capacity(1 << 20, part.file());
    to.write_all(&before_pages(&sections, count))?;
    write_pages(xen, domain, &pages, &mut to, progress)?;
    to.flush()?;
    drop(to);
    Ok(part.finish(path)?)
}

/// Registers of the vCPUs that are up.
fn contexts(xen: &Xen, info: &DomainInfo) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for vcpu in (0..info.vcpus).map(Vcpu) {
        if xen.vcpu_info(info.domain, vcpu)?.online {
            let context = xen.vcpu_context(info.domain, vcpu)?;
            all.push(context.as_bytes().to_vec());
        }
    }
    Ok(all)
}

/// PFNs and frames of what is the domain's own of its list.
fn own_pages(guest: &GuestFrames) -> Vec<(u64, Mfn)> {
    let listed = (0..).zip(&guest.p2m);
    let own = listed.filter(|&(pfn, &mfn)| guest.pfn(mfn) == Some(pfn));
    own.map(|(pfn, &mfn)| (pfn, mfn)).collect()
}

/// A section that is small enough to be kept.
struct Section {
    name: &'static str,
    kind: u32,
    align: u64,
    /// Entries, if all are of one size.
    entries: u64,
    content: Vec<u8>,
}

impl Section {
    const fn new(
        name: &'static str,
        kind: u32,
        align: u64,
        entries: u64,
        content: Vec<u8>,
    ) -> Self {
        Self {
            name,
            kind,
            align,
            entries,
            content,
        }
    }
}

/// The file up to its pages: heads, names of sections, sections.
fn before_pages(sections: &[Section], pages: u64) -> Vec<u8> {
    // One that is none, the names, these, and the pages.
    let count = sections.len() + 3;
    let heads = size_of::<ElfHeader>() + count * size_of::<SectionHeader>();
    let mut names = vec![0];
    let mut headers = vec![SectionHeader::default()];
    let mut content = Vec::new();
    let mut add = |name: &str, kind, align: u64, entries: u64, bytes: u64, body: &[u8]| {
        let begin = (heads + content.len()).next_multiple_of(align as usize);
        content.resize(begin - heads, 0);
        content.extend(body);
        headers.push(SectionHeader {
            name: names.len() as u32,
            kind,
            offset: begin as u64,
            size: bytes,
            addralign: align,
            entsize: bytes.checked_div(entries).unwrap_or(0),
            ..SectionHeader::default()
        });
        names.extend(name.as_bytes());
        names.push(0);
    };
    for section in sections {
        let (body, bytes) = (&section.content, section.content.len() as u64);
        add(
            section.name,
            section.kind,
            section.align,
            section.entries,
            bytes,
            body,
        );
    }
    // Their content follows in the file, so they must be the last: names are added before.
    let all_names: u64 = 1
        + sections
            .iter()
            .map(|s| s.name.len() as u64 + 1)
            .sum::<u64>()
        + ".shstrtab".len() as u64
        + 1
        + ".xen_pages".len() as u64
        + 1;
    add(
        ".shstrtab",
        SHT_STRTAB,
        1,
        0,
        all_names,
        &vec![0; all_names as usize],
    );
    add(
        ".xen_pages",
        SHT_PROGBITS,
        PAGE_BYTES,
        pages,
        pages * PAGE_BYTES,
        &[],
    );
    let names_index = headers.len() - 2;
    let names_at = headers[names_index].offset as usize - heads;
    content[names_at..names_at + names.len()].copy_from_slice(&names);
    let mut file = elf_header(count, names_index).as_bytes().to_vec();
    file.extend(headers.as_bytes());
    file.extend(content);
    file
}

fn elf_header(sections: usize, names: usize) -> ElfHeader {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const CURRENT: u8 = 1;
    const CORE: u16 = 4;
    const X86_64: u16 = 62;
    let mut ident = [0; 16];
    ident[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', CLASS_64, LITTLE_ENDIAN, CURRENT]);
    ElfHeader {
        ident,
        kind: CORE,
        machine: X86_64,
        version: CURRENT.into(),
        entry: 0,
        phoff: 0,
        shoff: size_of::<ElfHeader>() as u64,
        flags: 0,
        ehsize: size_of::<ElfHeader>() as u16,
        phentsize: 0,
        phnum: 0,
        shentsize: size_of::<SectionHeader>() as u16,
        shnum: sections as u16,
        shstrndx: names as u16,
    }
}

fn notes(hypervisor: &HypervisorInfo, vcpus: u64, pages: u64) -> Vec<u8> {
    let version = XenVersion {
        major: hypervisor.major.into(),
        minor: hypervisor.minor.into(),
        extra: text(&hypervisor.extra),
        compile: XenCompileInfo {
            compiler: text(&hypervisor.compiler),
            compile_by: text(&hypervisor.built_by),
            compile_domain: text(&hypervisor.build_domain),
            compile_date: text(&hypervisor.build_date),
        },
        capabilities: text(&hypervisor.capabilities),
        changeset: text(&hypervisor.changeset),
        virt_start: hypervisor.virt_start,
        page_size: PAGE_BYTES,
    };
    let mut all = Vec::new();
    note(&mut all, NOTE_NONE, &[]);
    let header = [MAGIC, vcpus, pages, PAGE_BYTES];
    note(&mut all, NOTE_HEADER, header.as_bytes());
    note(&mut all, NOTE_XEN_VERSION, version.as_bytes());
    note(&mut all, NOTE_FORMAT_VERSION, FORMAT_VERSION.as_bytes());
    all
}

fn note(to: &mut Vec<u8>, kind: u32, descriptor: &[u8]) {
    let name = b"Xen\0";
    to.extend([name.len() as u32, descriptor.len() as u32, kind].as_bytes());
    to.extend(name);
    to.extend(descriptor);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// A text with at least one NUL behind it.
fn text<const N: usize>(from: &str) -> [u8; N] {
    let mut into = [0; N];
    let bytes = from.len().min(N.saturating_sub(1));
    into[..bytes].copy_from_slice(&from.as_bytes()[..bytes]);
    into
}

/// Writes the pages; one that is no more is zeroes.
fn write_pages(
    xen: &Xen,
    domain: DomId,
    pages: &[(u64, Mfn)],
    to: &mut impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let mut content = vec![0; PAGE_SIZE];
    let mut done = 0;
    for batch in pages.chunks(BATCH) {
        let frames: Vec<Mfn> = batch.iter().map(|&(_, mfn)| mfn).collect();
        let window = xen.map(domain, &frames, Access::Read)?;
        let mut failed = window.failed.iter().map(|&(index, _)| index).peekable();
        for index in 0..batch.len() {
            if failed.next_if_eq(&index).is_some() {
                content.fill(0);
            } else {
                window.pages.read(index * PAGE_SIZE, &mut content);
            }
            to.write_all(&content)?;
        }
        done += batch.len() as u64;
        progress(done, pages.len() as u64);
    }
    Ok(())
}
