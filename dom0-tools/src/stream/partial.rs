//! A file that takes its place whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A file in the making; gone when dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Partial {
    /// Beside `path`, under a name of its own; one that a crash left is overwritten.
    ///
    /// # Errors
    /// Somebody writes it just now; the file system's.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = hidden(path)?;
        loop {
            // A guest's memory is nobody else's to read.
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(io::Error::other("the file is being written just now"));
            }
            // Whoever had the lock before may have given the file its place.
            let same = |there: std::fs::Metadata| Ok(there.ino() == file.metadata()?.ino());
            if std::fs::metadata(&path).and_then(same).unwrap_or(false) {
                file.set_len(0)?;
                let kept = false;
                return Ok(Self { file, path, kept });
            }
        }
    }

    /// The file, for writing.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// It is complete, and takes the place of `path`.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, path)?;
        self.kept = true;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes what somebody left who was killed while he wrote `path`.
pub(crate) fn remove_left(path: &Path) {
    if let Ok(hidden) = hidden(path) {
        let _ = std::fs::remove_file(hidden);
    }
}

fn hidden(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name();
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".partial");
    Ok(path.with_file_name(hidden))
}
