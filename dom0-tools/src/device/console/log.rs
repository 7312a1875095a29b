//! A domain's console log: a file that is rotated when it is full.
//!
//! `guest-NAME.log` is the newest, `guest-NAME.log.1` the one before. Together they hold between
//! [`FILE_BYTES`] and twice that.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the logs are.
pub const FOLDER: &str = "/var/log/oxen";

/// Most bytes in one file.
pub const FILE_BYTES: u64 = 4 << 20;

/// A log that is written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    most: u64,
}

/// File of a domain's log. `name` is a checked domain name, which has no `/`.
pub fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("guest-{name}.log"))
}

/// The file before this one.
fn older(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    name.into()
}

impl Log {
    /// Opens the log of a domain, to go on at its end. A log that cannot be opened is told
    /// once and swallows what is written to it: a full disk stops no console.
    pub fn open(folder: &Path, name: &str) -> Self {
        Self::with_limit(folder, name, FILE_BYTES)
    }

    fn with_limit(folder: &Path, name: &str, most: u64) -> Self {
        let path = path_of(folder, name);
        let mut log = Self {
            path,
            file: None,
            bytes: 0,
            most,
        };
        if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| log.reopen()) {
            tracing::warn!(path = %log.path.display(), %error, "console log cannot be written");
        }
        log
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            // Guests print passwords.
            .mode(0o600)
            // Nobody else's file, wherever a link points.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Adds what a guest said.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.bytes >= self.most
            && let Err(error) = self.rotate()
        {
            tracing::warn!(path = %self.path.display(), %error, "console log ends");
            self.file = None;
        }
        if let Some(file) = &mut self.file {
            match file.write_all(bytes) {
                Ok(()) => self.bytes += bytes.len() as u64,
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "console log ends");
                    self.file = None;
                }
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        std::fs::rename(&self.path, older(&self.path))?;
        self.reopen()
    }
}

/// The last bytes of a domain's log, at most `most`.
///
/// # Errors
/// There is no log, or it cannot be read.
pub fn tail(folder: &Path, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let path = path_of(folder, name);
    let newest = last_bytes(&path, most)?;
    let rest = most - newest.len() as u64;
    let mut all = match last_bytes(&older(&path), rest) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    all.extend(newest);
    Ok(all)
}

fn last_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_fills_two_files_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::with_limit(folder.path(), "web", 1000);
        for number in 0..500_u32 {
            log.write(format!("line {number:03}\n").as_bytes());
        }
        let bytes: u64 = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!((1000..=2020).contains(&bytes), "{bytes}");
        let tail = tail(folder.path(), "web", 18).unwrap();
        assert_eq!(tail, b"line 498\nline 499\n");
    }

    #[test]
    fn it_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        Log::open(folder.path(), "a").write(b"one ");
        Log::open(folder.path(), "a").write(b"two");
        assert_eq!(tail(folder.path(), "a", 100).unwrap(), b"one two");
    }

    #[test]
    fn a_tail_spans_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::with_limit(folder.path(), "a", 4);
        log.write(b"1234");
        log.write(b"56");
        assert_eq!(tail(folder.path(), "a", 100).unwrap(), b"123456");
        assert_eq!(tail(folder.path(), "a", 3).unwrap(), b"456");
    }
}
