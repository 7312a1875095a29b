//! What survives the daemon's death at any moment.
//!
//! A file on tmpfs: a head, then frames of length, checksum and records. What one round of the
//! server did is one frame, written before anybody hears of it. A frame that is cut short or
//! damaged ends the file: its round did not happen, and its requests are still in the rings.
//! When the file has grown, a new one with the whole state takes its place by renaming.
//!
//! The head names the boot: what an earlier boot left is not ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use serde::{Deserialize, Serialize};

use super::path::Path;
use super::tree::Node;
use crate::sys::DomId;

/// Something that happened, so that it can happen anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A node is there, with this value and these permissions.
    Node {
        /// Which.
        path: Path,
        /// What it says.
        value: Vec<u8>,
        /// As on the wire.
        permissions: Vec<u8>,
    },
    /// A node is gone with all below it.
    Gone(Path),
    /// Permissions of an event that the server makes.
    Special {
        /// `@...`.
        name: String,
        /// As on the wire.
        permissions: Vec<u8>,
    },
    /// A domain's ring is served.
    Introduced {
        /// Which.
        domain: DomId,
        /// Frame of the ring.
        ring: u64,
        /// The domain's port.
        port: u32,
        /// What tells it from another one that had its number.
        handle: [u8; 16],
    },
    /// A domain has shut down, or runs again.
    ShutDown {
        /// Which.
        domain: DomId,
        /// Whether it has.
        down: bool,
    },
    /// A domain is served no more.
    Released(DomId),
    /// A domain acts as another one too.
    Target {
        /// Which.
        domain: DomId,
        /// As which.
        target: DomId,
    },
    /// A watch of a domain.
    Watch {
        /// Whose.
        domain: DomId,
        /// What, as it was said.
        target: String,
        /// Told with each event.
        token: Vec<u8>,
        /// Whether it began, or ended.
        add: bool,
    },
    /// A domain has no watches and no transactions any more.
    Reset(DomId),
    /// A transaction of a domain began or ended.
    Transaction {
        /// Whose.
        domain: DomId,
        /// Its number.
        number: u32,
        /// Whether it began.
        open: bool,
    },
    /// Requests were taken out of a domain's ring.
    Input {
        /// Whose.
        domain: DomId,
        /// The consumer's index after.
        consumed: u32,
        /// What came of a message that is not whole.
        rest: Vec<u8>,
    },
    /// Bytes wait for a domain, behind those that wait already.
    Output {
        /// For whom.
        domain: DomId,
        /// What.
        bytes: Vec<u8>,
    },
    /// A domain's ring begins anew at 0, and nothing waits.
    Emptied(DomId),
    /// A domain's ring as it stands.
    Ring(DomId, RingState),
}

impl Record {
    /// A node as it is.
    #[must_use]
    pub fn node(path: &Path, node: &Node) -> Self {
        Self::Node {
            path: path.clone(),
            value: node.value().to_vec(),
            permissions: node.permissions().to_bytes(),
        }
    }
}

/// How far a ring's bytes were taken and given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingState {
    /// Requests: the consumer's index.
    pub consumed: u32,
    /// What came of a message that is not whole.
    pub rest: Vec<u8>,
    /// Replies: the producer's index where the first recorded output begins. What the ring's own
    /// index is beyond it was given already.
    pub given: u32,
}

/// First bytes of a journal; the last one is its version.
const MAGIC: [u8; 8] = *b"oxstore\x01";
/// Bytes of a frame's head: length, checksum.
const FRAME_HEAD: usize = 8;
/// A journal that is shorter is never written anew.
const SMALL: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    boot: String,
    bytes: u64,
    /// Bytes after the whole state was written last.
    base: u64,
}

impl Journal {
    /// What a journal says, if it is of this boot; nothing otherwise.
    #[must_use]
    pub fn read(path: &FilePath, boot: &str) -> Option<Vec<Record>> {
        let bytes = fs::read(path).ok()?;
        let frames = bytes.strip_prefix(&MAGIC)?;
        let (of, mut frames) = frames.split_at_checked(boot.len())?;
        if of != boot.as_bytes() {
            return None;
        }
        let mut records = Vec::new();
        while let Some((more, rest)) = frame(frames) {
            records.extend(more);
            frames = rest;
        }
        if !frames.is_empty() {
            tracing::warn!(
                "the last {} bytes of {} tell nothing: what they were about did not happen",
                frames.len(),
                path.display()
            );
        }
        Some(records)
    }

    /// Begins a journal with the whole state, in the place of one that may be there.
    ///
    /// # Errors
    /// Those of the file system; the old one is untouched then.
    pub fn begin(path: &FilePath, boot: &str, state: &[Record]) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(boot.as_bytes());
        bytes.extend(framed(state)?);
        file.write_all(&bytes)?;
        fs::rename(&new, path)?;
        let bytes = bytes.len() as u64;
        Ok(Self {
            file,
            path: path.to_owned(),
            boot: boot.to_owned(),
            bytes,
            base: bytes,
        })
    }

    /// Adds what happened, in one frame.
    ///
    /// # Errors
    /// Those of the file system; begin anew then, as the file may end in the middle of a frame.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let frame = framed(records)?;
        self.file.write_all(&frame)?;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Whether it has grown so that the state alone would be much shorter.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.bytes > SMALL && self.bytes > 4 * self.base
    }

    /// Puts the whole state in its place.
    ///
    /// # Errors
    /// Those of the file system; it is as it was then.
    pub fn renew(&mut self, state: &[Record]) -> io::Result<()> {
        *self = Self::begin(&self.path, &self.boot, state)?;
        Ok(())
    }
}

fn framed(records: &[Record]) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(records).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The records of the first frame, and what follows it.
fn frame(bytes: &[u8]) -> Option<(Vec<Record>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Vec<Vec<Record>> {
        (0..6_u16)
            .map(|n| {
                let gone = Record::Gone(Path::absolute(&format!("/a/{n}")).unwrap());
                let bytes = vec![n as u8; 40];
                let domain = DomId(n);
                vec![gone, Record::Output { domain, bytes }]
            })
            .collect()
    }

    /// A journal of these batches, its bytes, and where each batch ends.
    fn written(folder: &FilePath) -> (PathBuf, Vec<u8>, Vec<usize>) {
        let path = folder.join("journal");
        let batches = batches();
        let mut journal = Journal::begin(&path, "boot", &batches[0]).unwrap();
        let mut ends = vec![fs::read(&path).unwrap().len()];
        for batch in &batches[1..] {
            journal.append(batch).unwrap();
            ends.push(fs::read(&path).unwrap().len());
        }
        let bytes = fs::read(&path).unwrap();
        (path, bytes, ends)
    }

    #[test]
    fn a_journal_cut_anywhere_tells_of_whole_rounds() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = written(folder.path());
        for cut in ends[0]..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            let expected: Vec<Record> = batches()[..whole].concat();
            assert_eq!(Journal::read(&path, "boot"), Some(expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_journal_damaged_anywhere_tells_of_what_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = written(folder.path());
        for at in ends[0]..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let whole = ends.iter().filter(|&&end| end <= at).count();
            let expected: Vec<Record> = batches()[..whole].concat();
            assert_eq!(
                Journal::read(&path, "boot"),
                Some(expected),
                "damaged at {at}"
            );
        }
    }

    #[test]
    fn a_journal_of_another_boot_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ..) = written(folder.path());
        assert_eq!(Journal::read(&path, "toob"), None);
        assert_eq!(Journal::read(&folder.path().join("none"), "boot"), None);
    }

    #[test]
    fn renewal_keeps_the_state_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let state = &batches()[0];
        let mut journal = Journal::begin(&path, "boot", state).unwrap();
        while !journal.is_long() {
            journal
                .append(&vec![batches()[1].clone(); 1000].concat())
                .unwrap();
        }
        journal.renew(state).unwrap();
        journal.append(&batches()[2]).unwrap();
        let expected = [state.clone(), batches()[2].clone()].concat();
        assert_eq!(Journal::read(&path, "boot"), Some(expected));
    }
}
