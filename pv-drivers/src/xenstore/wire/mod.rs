//! Messages as bytes: a head of four words, then up to 4096 bytes.
//!
//! Source: Xen `include/public/io/xs_wire.h`.

mod assembler;
mod errno;

use alloc::vec::Vec;

use xen_abi::io::XsdSockmsg;
use zerocopy::IntoBytes;

pub use assembler::{Assembler, TooLong};
pub use errno::Errno;
pub use xen_abi::io::{XENSTORE_ABS_PATH_MAX, XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX};

/// Bytes of a message's head.
pub const HEAD_BYTES: usize = size_of::<XsdSockmsg>();

/// What a message is: `enum xsd_sockmsg_type`. Any number may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

#[allow(missing_docs, reason = "named as in the protocol's document")]
impl Kind {
    pub const CONTROL: Self = Self(0);
    pub const DIRECTORY: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const GET_PERMS: Self = Self(3);
    pub const WATCH: Self = Self(4);
    pub const UNWATCH: Self = Self(5);
    pub const TRANSACTION_START: Self = Self(6);
    pub const TRANSACTION_END: Self = Self(7);
    pub const INTRODUCE: Self = Self(8);
    pub const RELEASE: Self = Self(9);
    pub const GET_DOMAIN_PATH: Self = Self(10);
    pub const WRITE: Self = Self(11);
    pub const MKDIR: Self = Self(12);
    pub const RM: Self = Self(13);
    pub const SET_PERMS: Self = Self(14);
    pub const WATCH_EVENT: Self = Self(15);
    pub const ERROR: Self = Self(16);
    pub const IS_DOMAIN_INTRODUCED: Self = Self(17);
    pub const RESUME: Self = Self(18);
    pub const SET_TARGET: Self = Self(19);
    pub const RESET_WATCHES: Self = Self(21);
    pub const DIRECTORY_PART: Self = Self(22);
}

/// A request, a reply or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The asker's number for it, which the reply has too.
    pub request: u32,
    /// The transaction it belongs to; 0 for none.
    pub transaction: u32,
    /// The rest.
    pub body: Vec<u8>,
}

impl Message {
    /// Bytes on the wire.
    ///
    /// # Panics
    /// If the body is longer than [`XENSTORE_PAYLOAD_MAX`]: who builds one checks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        assert!(self.body.len() <= XENSTORE_PAYLOAD_MAX, "a body too long");
        let head = XsdSockmsg {
            r#type: self.kind.0,
            req_id: self.request,
            tx_id: self.transaction,
            len: self.body.len() as u32,
        };
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.body.len());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Strings, each with its ending zero.
pub fn join<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend_from_slice(string.as_ref());
        bytes.push(0);
    }
    bytes
}

/// The strings of a body, each ended by a zero; what follows the last zero is no string.
pub fn split(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = body.iter().rposition(|&b| b == 0).map_or(0, |at| at + 1);
    body[..end]
        .split_inclusive(|&b| b == 0)
        .map(|s| &s[..s.len() - 1])
}

/// The body as exactly one string.
#[must_use]
pub fn one(body: &[u8]) -> Option<&str> {
    let (&last, string) = body.split_last()?;
    if last != 0 || string.contains(&0) {
        return None;
    }
    core::str::from_utf8(string).ok()
}

/// The first string of a body, and what follows its zero.
#[must_use]
pub fn first(body: &[u8]) -> Option<(&str, &[u8])> {
    let at = body.iter().position(|&b| b == 0)?;
    let string = core::str::from_utf8(&body[..at]).ok()?;
    Some((string, &body[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_end_at_zeroes() {
        let strings: Vec<_> = split(b"a\0\0bc\0rest").collect();
        assert_eq!(strings, [&b"a"[..], b"", b"bc"]);
        assert_eq!(split(b"none").count(), 0);
        assert_eq!(one(b"a\0"), Some("a"));
        assert_eq!(one(b"a\0b\0"), None);
        assert_eq!(one(b"a"), None);
        assert_eq!(one(b""), None);
        assert_eq!(first(b"k\0v\0w"), Some(("k", &b"v\0w"[..])));
        assert_eq!(first(b"\xff\0"), None);
        assert_eq!(join(["a", ""]), b"a\0\0");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn messages_survive_any_cutting(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5),
            cuts in proptest::collection::vec(1_usize..40, 1..50),
        ) {
            let messages: Vec<Message> = bodies
                .into_iter()
                .enumerate()
                .map(|(n, body)| Message {
                    kind: Kind(n as u32),
                    request: 7 + n as u32,
                    transaction: 9,
                    body,
                })
                .collect();
            let bytes: Vec<u8> = messages.iter().flat_map(Message::to_bytes).collect();
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                assembler.push(now);
                rest = later;
                while let Some(message) = assembler.next().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(assembler.is_empty());
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes: Vec<u8>) {
            let mut assembler = Assembler::default();
            assembler.push(&bytes);
            while let Ok(Some(message)) = assembler.next() {
                prop_assert!(message.body.len() <= XENSTORE_PAYLOAD_MAX);
            }
        }
    }
}
