//! Heads and records of libxl's stream and of libxc's stream within it.
//!
//! Identifiers and versions are big-endian, all else is little-endian here; big-endian streams are
//! refused, as no x86 host writes them.

use std::io::{Read, Write};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::error::{Error, Result, bad};
use super::place::{Part, Reader};

// Records of libxl's stream.
const LIBXL_IDENT: [u8; 8] = *b"LibxlFmt";
const LIBXL_VERSION: u32 = 2;
/// Options: little-endian, and no older stream inside.
const LIBXL_OPTIONS_LE: u32 = 0;
const LIBXL_END: u32 = 0;
const LIBXL_LIBXC_CONTEXT: u32 = 1;

// libxc's stream.
const LIBXC_MARKER: u64 = u64::MAX;
const LIBXC_IDENT: [u8; 4] = *b"XENF";
/// The version that Xen 4.17 writes.
const LIBXC_VERSION: u32 = 3;
const DOMAIN_X86_PV: u32 = 1;
const PAGE_SHIFT: u16 = 12;

// Records of libxc's stream.
pub const REC_END: u32 = 0;
pub const REC_PAGE_DATA: u32 = 1;
pub const REC_X86_PV_INFO: u32 = 2;
pub const REC_X86_PV_P2M_FRAMES: u32 = 3;
pub const REC_X86_PV_VCPU_BASIC: u32 = 4;
pub const REC_X86_PV_VCPU_EXTENDED: u32 = 5;
pub const REC_X86_PV_VCPU_XSAVE: u32 = 6;
pub const REC_SHARED_INFO: u32 = 7;
pub const REC_X86_TSC_INFO: u32 = 8;
pub const REC_X86_PV_VCPU_MSRS: u32 = 0xc;
pub const REC_VERIFY: u32 = 0xd;
pub const REC_STATIC_DATA_END: u32 = 0x10;
pub const REC_X86_CPUID_POLICY: u32 = 0x11;
pub const REC_X86_MSR_POLICY: u32 = 0x12;
/// Who does not know the record may skip it.
pub const REC_OPTIONAL: u32 = 1 << 31;

/// Name of a kind of record.
///
/// Source: Xen `docs/specs/libxc-migration-stream.pandoc`.
pub fn record_name(kind: u32) -> String {
    let name = match kind {
        REC_END => "END",
        REC_PAGE_DATA => "PAGE_DATA",
        REC_X86_PV_INFO => "X86_PV_INFO",
        REC_X86_PV_P2M_FRAMES => "X86_PV_P2M_FRAMES",
        REC_X86_PV_VCPU_BASIC => "X86_PV_VCPU_BASIC",
        REC_X86_PV_VCPU_EXTENDED => "X86_PV_VCPU_EXTENDED",
        REC_X86_PV_VCPU_XSAVE => "X86_PV_VCPU_XSAVE",
        REC_SHARED_INFO => "SHARED_INFO",
        REC_X86_TSC_INFO => "X86_TSC_INFO",
        REC_X86_PV_VCPU_MSRS => "X86_PV_VCPU_MSRS",
        REC_VERIFY => "VERIFY",
        REC_STATIC_DATA_END => "STATIC_DATA_END",
        REC_X86_CPUID_POLICY => "X86_CPUID_POLICY",
        REC_X86_MSR_POLICY => "X86_MSR_POLICY",
        other => return format!("kind {other:#x}"),
    };
    name.into()
}

/// Longest body of a record, bytes; Xen's own limit.
const MOST_BODY: u32 = 8 << 20;

/// Head of a record, in both streams.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RecordHead {
    kind: u32,
    length: u32,
}

/// Head of libxc's stream.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ImageHead {
    marker: u64,
    ident: [u8; 4],
    version_be: [u8; 4],
    options: u16,
    reserved: [u8; 6],
}

/// Whose stream it is.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct DomainHead {
    kind: u32,
    page_shift: u16,
    reserved: u16,
    xen_major: u32,
    xen_minor: u32,
}

/// Reads a value.
pub fn read<T: FromBytes + IntoBytes>(from: &mut impl Read) -> Result<T> {
    let mut value = T::new_zeroed();
    from.read_exact(value.as_mut_bytes())?;
    Ok(value)
}

/// Writes what comes before the first record of libxc's stream.
pub fn write_heads(to: &mut impl Write, xen: (u16, u16)) -> Result<()> {
    to.write_all(&LIBXL_IDENT)?;
    to.write_all(&LIBXL_VERSION.to_be_bytes())?;
    to.write_all(&LIBXL_OPTIONS_LE.to_be_bytes())?;
    write_record(to, LIBXL_LIBXC_CONTEXT, &[])?;
    let image = ImageHead {
        marker: LIBXC_MARKER,
        ident: LIBXC_IDENT,
        version_be: LIBXC_VERSION.to_be_bytes(),
        options: 0,
        reserved: [0; 6],
    };
    to.write_all(image.as_bytes())?;
    let domain = DomainHead {
        kind: DOMAIN_X86_PV,
        page_shift: PAGE_SHIFT,
        reserved: 0,
        xen_major: u32::from(xen.0),
        xen_minor: u32::from(xen.1),
    };
    Ok(to.write_all(domain.as_bytes())?)
}

/// Writes what comes after the last record of libxc's stream.
pub fn write_tail(to: &mut impl Write) -> Result<()> {
    write_record(to, LIBXL_END, &[])
}

/// Reads what comes before the first record of libxc's stream; returns its version.
pub fn read_heads(from: &mut impl Read) -> Result<u32> {
    let ident: [u8; 8] = read(from)?;
    let version = u32::from_be_bytes(read(from)?);
    let options = u32::from_be_bytes(read(from)?);
    if ident != LIBXL_IDENT {
        return bad("no libxl stream");
    }
    if version != LIBXL_VERSION || options != LIBXL_OPTIONS_LE {
        return bad(format!(
            "libxl stream of version {version}, options {options:#x}"
        ));
    }
    let first: RecordHead = read(from)?;
    if first.kind != LIBXL_LIBXC_CONTEXT || first.length != 0 {
        return bad("the libxl stream does not begin with a domain's state");
    }
    let image: ImageHead = read(from)?;
    if image.marker != LIBXC_MARKER || image.ident != LIBXC_IDENT {
        return bad("no libxc stream");
    }
    let version = u32::from_be_bytes(image.version_be);
    if !matches!(version, 2 | 3) || image.options != 0 {
        return bad(format!(
            "libxc stream of version {version}, options {:#x}",
            image.options
        ));
    }
    let domain: DomainHead = read(from)?;
    if domain.kind != DOMAIN_X86_PV || domain.page_shift != PAGE_SHIFT {
        return bad(format!("a domain of type {}", domain.kind));
    }
    Ok(version)
}

/// Reads what must come after the last record of libxc's stream.
pub fn read_tail(from: &mut Reader<impl Read>) -> Result<()> {
    from.begin(Part::StreamEnd);
    let head: RecordHead = read(from)?;
    if head.kind == LIBXL_END && head.length == 0 {
        Ok(())
    } else {
        bad(format!("record {:#x} of libxl's stream", head.kind))
    }
}

/// Writes a record whose body is those parts together.
pub fn write_record(to: &mut impl Write, kind: u32, parts: &[&[u8]]) -> Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(bytes).map_err(|_| Error::Domain("a record too long".into()))?;
    to.write_all(RecordHead { kind, length }.as_bytes())?;
    for part in parts {
        to.write_all(part)?;
    }
    to.write_all(&[0; 7][..bytes.next_multiple_of(8) - bytes])?;
    Ok(())
}

/// Reads a record into `body`; returns its kind.
pub fn read_record(from: &mut Reader<impl Read>, body: &mut Vec<u8>) -> Result<u32> {
    from.begin_record();
    let head: RecordHead = read(from)?;
    from.is_record(head.kind);
    if head.length > MOST_BODY {
        return bad(format!("record {:#x} of {} bytes", head.kind, head.length));
    }
    let padded = head.length.next_multiple_of(8) as usize;
    body.resize(padded, 0);
    from.read_exact(body)?;
    body.truncate(head.length as usize);
    Ok(head.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_back(kind: u32, body: Vec<u8>) {
            let mut stream = Vec::new();
            write_record(&mut stream, kind, &[&body[..body.len() / 2], &body[body.len() / 2..]])
                .unwrap();
            prop_assert_eq!(stream.len() % 8, 0);
            let mut back = Vec::new();
            let read = |stream, body: &mut Vec<u8>| read_record(&mut Reader::new(stream, 0), body);
            prop_assert_eq!(read(&stream[..], &mut back).unwrap(), kind);
            prop_assert_eq!(back, body);
            let cut = read(&stream[..stream.len() - 1], &mut Vec::new());
            prop_assert!(matches!(cut, Err(Error::Truncated)));
        }
    }

    #[test]
    fn heads_come_back() {
        let mut stream = Vec::new();
        write_heads(&mut stream, (4, 17)).unwrap();
        assert_eq!(read_heads(&mut &*stream).unwrap(), 3);
        for at in 0..stream.len() {
            assert!(read_heads(&mut &stream[..at]).is_err());
        }
    }
}
