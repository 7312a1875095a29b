//! Who may do what to a node.

use std::fmt;

use super::wire;
use crate::sys::DomId;

/// What somebody may do to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Right {
    /// Nothing.
    #[default]
    None,
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    Both,
}

impl Right {
    /// Whether it includes reading.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// Whether it includes writing.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }

    const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }

    const fn of_letter(letter: u8) -> Option<Self> {
        match letter {
            b'n' => Some(Self::None),
            b'r' => Some(Self::Read),
            b'w' => Some(Self::Write),
            b'b' => Some(Self::Both),
            _ => None,
        }
    }
}

/// A node's permissions: its owner, who may all; what the unnamed may; what the named may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// May read and write the node, and change this.
    pub owner: DomId,
    /// Everybody who is not named.
    pub others: Right,
    /// Those who are named; the first entry of a domain counts.
    pub named: Vec<(DomId, Right)>,
}

impl Permissions {
    /// `owner` alone.
    #[must_use]
    pub const fn only(owner: DomId) -> Self {
        Self {
            owner,
            others: Right::None,
            named: Vec::new(),
        }
    }

    /// `owner`, and `reader` may read.
    #[must_use]
    pub fn read_by(owner: DomId, reader: DomId) -> Self {
        Self {
            named: vec![(reader, Right::Read)],
            ..Self::only(owner)
        }
    }

    /// Entries as on the wire: the owner's first.
    pub fn entries(&self) -> impl Iterator<Item = (DomId, Right)> {
        std::iter::once((self.owner, self.others)).chain(self.named.iter().copied())
    }

    /// Strings as on the wire, each with its zero.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::join(
            self.entries()
                .map(|(domain, right)| format!("{}{domain}", right.letter())),
        )
    }

    /// Reads them as on the wire; `None` if they are malformed or none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut entries = wire::split(bytes).map(entry);
        let (owner, others) = entries.next()??;
        let named = entries.collect::<Option<Vec<_>>>()?;
        Some(Self {
            owner,
            others,
            named,
        })
    }

    /// What a domain that is not the owner may.
    #[must_use]
    pub fn right_of(&self, domain: DomId) -> Right {
        let named = self.named.iter().find(|(named, _)| *named == domain);
        named.map_or(self.others, |&(_, right)| right)
    }
}

/// One entry: a letter and a domain's number.
fn entry(string: &[u8]) -> Option<(DomId, Right)> {
    let (&letter, digits) = string.split_first()?;
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let domain = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((DomId(domain), Right::of_letter(letter)?))
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (domain, right)) in self.entries().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}{domain}", right.letter())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_both_ways() {
        let bytes = b"n0\0r3\0b7\0";
        let parsed = Permissions::parse(bytes).unwrap();
        assert_eq!(parsed.to_bytes(), bytes);
        assert_eq!(parsed.to_string(), "n0,r3,b7");
        assert_eq!(parsed.right_of(DomId(3)), Right::Read);
        assert_eq!(parsed.right_of(DomId(4)), Right::None);
    }

    #[test]
    fn malformed_entries_are_refused() {
        for bad in [
            &b""[..],
            b"\0",
            b"x0\0",
            b"n\0",
            b"n+1\0",
            b"n65536\0",
            b"r0",
            b"n0\0\0",
        ] {
            assert_eq!(Permissions::parse(bad), None, "{bad:?}");
        }
    }
}
