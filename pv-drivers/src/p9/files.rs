//! Files: found, opened, made, read, written, looked at.

use alloc::vec::Vec;
use core::time::Duration;

use super::wire::{self, MOST_NAMES, Reader};
use super::{Error, Files, Misbehaviour};
use crate::device::Platform;

/// Bytes of a request to write, or of the answer to one to read, beside the data.
const BESIDE_DATA: usize = 24;
/// The root, which every connection is attached to.
const ROOT: u32 = 0;
/// `O_CREAT` and `O_EXCL` as the dialect has them.
const NEW: u32 = 0o100 | 0o200;
/// What attributes are asked for (`P9_GETATTR_BASIC`).
const BASIC: u64 = 0x7ff;

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read = 0,
    /// Writing.
    Write = 1,
    /// Both.
    ReadWrite = 2,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of bytes.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
    /// Something else.
    Other,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// Who may do what: twelve bits, as in Unix.
    pub permissions: u32,
    /// Numbers of the owner and the group.
    pub owner: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// When its contents changed, since the Unix epoch.
    pub modified: Duration,
}

/// An open file. To be [closed](Files::close): the backend keeps one that is dropped until the
/// connection ends.
#[derive(Debug)]
#[must_use = "the backend keeps it open"]
pub struct File {
    fid: u32,
    epoch: u32,
    /// Most bytes to move at once; 0: as many as a message has room for.
    unit: u32,
}

/// The names in a path, from the root on.
fn names(path: &str) -> Result<Vec<&str>, Error> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names
        .map(|name| {
            let sane = name != ".." && name.len() <= 255 && !name.contains('\0');
            sane.then_some(name).ok_or(Error::Name)
        })
        .collect()
}

impl<P: Platform> Files<P> {
    /// Opens a file of the path from the root.
    ///
    /// # Errors
    /// [`Error::Refused`]: there is none, or not for that; [`Error::Name`], and those of the
    /// connection.
    pub fn open_file(&mut self, path: &str, access: Access) -> Result<File, Error> {
        let fid = self.find(&names(path)?)?;
        let opened = self.ask(wire::OPEN, |request| request.u32(fid).u32(access as u32));
        self.opened(fid, opened)
    }

    /// Makes a file that is not there yet, and opens it. `permissions` as in Unix.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn create(&mut self, path: &str, access: Access, permissions: u32) -> Result<File, Error> {
        let names = names(path)?;
        let (name, folder) = names.split_last().ok_or(Error::Name)?;
        // It becomes the new file's number.
        let fid = self.find(folder)?;
        let made = self.ask(wire::CREATE, |request| {
            let request = request.u32(fid).text(name).u32(access as u32 | NEW);
            request.u32(permissions & 0o7777).u32(0)
        });
        self.opened(fid, made)
    }

    /// The answer to opening or making the file `fid`, which is given back if it says no.
    fn opened(&mut self, fid: u32, answer: Result<Vec<u8>, Error>) -> Result<File, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let _ = self.clunk(fid);
                return Err(error);
            }
        };
        let mut reader = Reader(&answer);
        let unit = (|| {
            reader.qid()?;
            let unit = reader.u32()?;
            reader.end().map(|()| unit)
        })();
        Ok(File {
            fid,
            epoch: self.epoch,
            unit: self.sound(unit)?,
        })
    }

    /// Reads bytes from a place on; returns how many, which may be fewer than asked for, and none
    /// at the file's end.
    ///
    /// # Errors
    /// Any; what `into` then holds is not known.
    pub fn read(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let fid = self.fid(file)?;
        let count = self.portion(file, into.len());
        let answer = self.ask(wire::READ, |request| {
            request.u32(fid).u64(offset).u32(count as u32)
        })?;
        let mut reader = Reader(&answer);
        let found = (|| {
            let found = reader.u32()? as usize;
            let data = reader.bytes(found)?;
            reader.end().map(|()| data)
        })();
        let data = self.sound(found)?;
        match into.get_mut(..data.len()) {
            Some(place) if data.len() <= count => place.copy_from_slice(data),
            _ => return Err(self.fail(Error::Misbehaved(Misbehaviour::Count))),
        }
        Ok(data.len())
    }

    /// Writes bytes from a place on; returns how many, which may be fewer than given.
    ///
    /// # Errors
    /// Any; what was written is not known.
    pub fn write(&mut self, file: &File, offset: u64, from: &[u8]) -> Result<usize, Error> {
        let fid = self.fid(file)?;
        let from = &from[..self.portion(file, from.len())];
        let answer = self.ask(wire::WRITE, |request| {
            let request = request.u32(fid).u64(offset);
            request.u32(from.len() as u32).bytes(from)
        })?;
        let mut reader = Reader(&answer);
        let count = (|| {
            let count = reader.u32()?;
            reader.end().map(|()| count as usize)
        })();
        let count = self.sound(count)?;
        if count > from.len() {
            return Err(self.fail(Error::Misbehaved(Misbehaviour::Count)));
        }
        Ok(count)
    }

    /// How many of so many bytes one message moves.
    fn portion(&self, file: &File, bytes: usize) -> usize {
        let room = self.most.saturating_sub(BESIDE_DATA);
        let unit = match file.unit {
            0 => room,
            unit => room.min(unit as usize),
        };
        bytes.min(unit)
    }

    /// Closes a file.
    ///
    /// # Errors
    /// Those of the connection; the file is closed in any case.
    pub fn close(&mut self, file: File) -> Result<(), Error> {
        let fid = self.fid(&file)?;
        self.clunk(fid)
    }

    /// What is known of a file, or a folder, of the path from the root.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn stat(&mut self, path: &str) -> Result<Attributes, Error> {
        let fid = self.find(&names(path)?)?;
        let found = self.attributes(fid);
        let _ = self.clunk(fid);
        found
    }

    /// What is known of an open file.
    ///
    /// # Errors
    /// Any.
    pub fn stat_file(&mut self, file: &File) -> Result<Attributes, Error> {
        let fid = self.fid(file)?;
        self.attributes(fid)
    }

    fn attributes(&mut self, fid: u32) -> Result<Attributes, Error> {
        let answer = self.ask(wire::ATTRIBUTES, |request| request.u32(fid).u64(BASIC))?;
        let found = attributes(Reader(&answer));
        self.sound(found)
    }

    /// The number of a file of this connection.
    fn fid(&self, file: &File) -> Result<u32, Error> {
        if file.epoch == self.epoch {
            Ok(file.fid)
        } else {
            Err(Error::Disconnected)
        }
    }

    /// Gives what the names lead to a number.
    fn find(&mut self, names: &[&str]) -> Result<u32, Error> {
        let fid = self.free.pop().unwrap_or(self.next);
        let mut from = ROOT;
        let mut rest = names;
        // At least once, for the root too.
        while from == ROOT || !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(MOST_NAMES));
            if let Err(error) = self.walk(from, fid, now) {
                if from == ROOT {
                    // It stands for nothing yet.
                    self.free.extend((fid != self.next).then_some(fid));
                } else {
                    let _ = self.clunk(fid);
                }
                return Err(error);
            }
            if from == ROOT && fid == self.next {
                self.next += 1;
            }
            (from, rest) = (fid, later);
        }
        Ok(fid)
    }

    fn walk(&mut self, from: u32, to: u32, names: &[&str]) -> Result<(), Error> {
        let answer = self.ask(wire::WALK, |request| {
            let request = request.u32(from).u32(to).u16(names.len() as u16);
            names
                .iter()
                .fold(request, |request, name| request.text(name))
        })?;
        let mut reader = Reader(&answer);
        let found = (|| {
            let count = reader.u16()?;
            (0..count).try_for_each(|_| reader.qid())?;
            reader.end().map(|()| usize::from(count))
        })();
        match self.sound(found)? {
            count if count == names.len() => Ok(()),
            count if count < names.len() => Err(Error::Refused(ENOENT)),
            _ => Err(self.fail(Error::Misbehaved(Misbehaviour::Count))),
        }
    }

    /// Gives a number back.
    fn clunk(&mut self, fid: u32) -> Result<(), Error> {
        let answer = self.ask(wire::CLUNK, |request| request.u32(fid))?;
        let end = Reader(&answer).end();
        self.sound(end)?;
        self.free.push(fid);
        Ok(())
    }
}

/// No such file (Linux `ENOENT`): a walk that ended on its way.
const ENOENT: u32 = 2;

fn attributes(mut reader: Reader<'_>) -> Result<Attributes, wire::Malformed> {
    let _valid = reader.u64()?;
    reader.qid()?;
    let mode = reader.u32()?;
    let owner = (reader.u32()?, reader.u32()?);
    let _links_and_device = (reader.u64()?, reader.u64()?);
    let size = reader.u64()?;
    let _blocks = (reader.u64()?, reader.u64()?);
    let _accessed = (reader.u64()?, reader.u64()?);
    let (seconds, nanoseconds) = (reader.u64()?, reader.u64()?);
    let _changed_and_made = [(); 4].map(|()| reader.u64());
    let _generation_and_version = (reader.u64()?, reader.u64()?);
    reader.end()?;
    Ok(Attributes {
        // The upper bits of `st_mode`.
        kind: match mode >> 12 {
            0o10 => Kind::Regular,
            0o04 => Kind::Directory,
            0o12 => Kind::Link,
            _ => Kind::Other,
        },
        permissions: mode & 0o7777,
        owner,
        size,
        // More than a second's is none; a sum that overflows would panic.
        modified: Duration::from_secs(seconds)
            .saturating_add(Duration::from_nanos(nanoseconds % 1_000_000_000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_below_the_root() {
        assert_eq!(names("/a//b/./c/").unwrap(), ["a", "b", "c"]);
        assert!(names("").unwrap().is_empty());
        assert_eq!(names("a/../b"), Err(Error::Name));
        assert_eq!(names("a\0"), Err(Error::Name));
        assert_eq!(names(&"x".repeat(256)), Err(Error::Name));
    }
}
