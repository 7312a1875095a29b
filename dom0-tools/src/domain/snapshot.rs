//! Snapshots: memory and disks of a domain at one moment, under a name.
//!
//! ```text
//! FOLDER/DOMAIN/NAME/snapshot.toml    what it is made of (below)
//! FOLDER/DOMAIN/NAME/memory           the domain as a stream
//! FOLDER/DOMAIN/NAME/disk-51712       a disk's content
//! FOLDER/DOMAIN/-making-NAME/         one that is not complete; removed at the next chance
//! ```
//!
//! A snapshot becomes visible by one rename when all of it is on disk. Each part says what
//! kind it is and what it builds upon, so that parts which hold differences only can come
//! later without another format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::protocol::SnapshotInfo;
use crate::config::{Access, Disk, DiskFormat, DomainConfig, DomainName, SnapshotName};

/// Version of `snapshot.toml`.
const VERSION: u32 = 1;

/// Name of the manifest.
const MANIFEST: &str = "snapshot.toml";

/// Name of the stream.
const MEMORY: &str = "memory";

/// Beginning of the names of incomplete ones; no snapshot's name begins so.
const MAKING: &str = "-making-";

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// Why a snapshot cannot be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is none.
    #[error("domain {domain} has no snapshot {name}")]
    Absent {
        /// Whose.
        domain: String,
        /// Which.
        name: String,
    },
    /// There is one.
    #[error("domain {domain} has a snapshot {name} already: delete it, or choose another name")]
    Exists {
        /// Whose.
        domain: String,
        /// Which.
        name: String,
    },
    /// A file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The manifest.
    #[error("{path}: {reason}")]
    Manifest {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A disk of a kind that cannot be copied.
    #[error("disk {vdev}: {reason}")]
    Disk {
        /// Which.
        vdev: String,
        /// Why not.
        reason: String,
    },
}

/// What a snapshot is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// Name of the domain.
    pub domain: String,
    /// Name of the snapshot.
    pub name: String,
    /// Seconds since 1970.
    pub at: u64,
    /// Memory of the domain, KiB.
    pub memory_kib: u64,
    memory: Part,
    /// Its disks.
    #[serde(default)]
    pub disks: Vec<SavedDisk>,
    /// The domain's configuration then.
    pub config: DomainConfig,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Name in the snapshot's folder.
    file: String,
    /// How it holds what it holds.
    kind: PartKind,
    /// The snapshot whose part of this name this one completes; absent: it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

/// How a part holds what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartKind {
    /// A saved domain.
    Stream,
    /// All bytes of a disk's target.
    Whole,
}

/// A disk's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDisk {
    /// Name of the disk.
    pub vdev: String,
    /// Where its content came from, and goes back to.
    pub target: String,
    part: Part,
}

/// All snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    folder: PathBuf,
}

/// A snapshot that is being made; dropped before it is finished, it is removed.
#[derive(Debug)]
#[must_use = "the snapshot is removed when this is dropped"]
pub struct Making {
    folder: PathBuf,
    finished: PathBuf,
    manifest: Manifest,
}

impl Drop for Making {
    fn drop(&mut self) {
        // Finished, it is no more there.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |error| SnapshotError::File { path, error }
}

impl Snapshots {
    /// Those below this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn path(&self, domain: &DomainName, name: &SnapshotName) -> PathBuf {
        self.folder.join(&**domain).join(&**name)
    }

    /// Begins one.
    ///
    /// # Errors
    /// There is one of that name; the file system's.
    pub fn begin(
        &self,
        name: &SnapshotName,
        config: &DomainConfig,
        memory_kib: u64,
    ) -> Result<Making, SnapshotError> {
        let finished = self.path(&config.name, name);
        if finished.exists() {
            return Err(SnapshotError::Exists {
                domain: config.name.to_string(),
                name: name.to_string(),
            });
        }
        let folder = self
            .folder
            .join(&*config.name)
            .join(format!("{MAKING}{name}"));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&folder)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Making {
            folder,
            finished,
            manifest: Manifest {
                version: VERSION,
                domain: config.name.to_string(),
                name: name.to_string(),
                at: since.map_or(0, |time| time.as_secs()),
                memory_kib,
                memory: Part {
                    file: MEMORY.into(),
                    kind: PartKind::Stream,
                    base: None,
                },
                disks: Vec::new(),
                config: config.clone(),
            },
        })
    }

    /// What a snapshot is made of, and its folder.
    ///
    /// # Errors
    /// There is none; it is of another version, or damaged.
    pub fn read(
        &self,
        domain: &DomainName,
        name: &SnapshotName,
    ) -> Result<(Manifest, PathBuf), SnapshotError> {
        let folder = self.path(domain, name);
        if !folder.exists() {
            return Err(SnapshotError::Absent {
                domain: domain.to_string(),
                name: name.to_string(),
            });
        }
        Ok((read_manifest(&folder)?, folder))
    }

    /// All snapshots, of one domain or of every one; those that cannot be read are told in
    /// the log and left out.
    pub fn list(&self, domain: Option<&DomainName>) -> Vec<SnapshotInfo> {
        let folders = match domain {
            Some(domain) => vec![self.folder.join(&**domain)],
            None => entries(&self.folder),
        };
        let mut found: Vec<SnapshotInfo> = folders
            .iter()
            .flat_map(|folder| entries(folder))
            .filter(|folder| !is_making(folder))
            .filter_map(|folder| match read_manifest(&folder) {
                Ok(manifest) => Some(SnapshotInfo {
                    domain: manifest.domain,
                    name: manifest.name,
                    at: manifest.at,
                    memory_kib: manifest.memory_kib,
                    bytes: bytes_of(&folder),
                }),
                Err(error) => {
                    tracing::warn!(%error, "snapshot");
                    None
                }
            })
            .collect();
        found.sort_by(|a, b| (&a.domain, a.at, &a.name).cmp(&(&b.domain, b.at, &b.name)));
        found
    }

    /// Removes what is left of snapshots that were being made, forgotten or gone back to when the
    /// daemon was killed.
    pub fn sweep(&self) {
        let folders = entries(&self.folder);
        for folder in folders.iter().flat_map(|folder| entries(folder)) {
            if is_making(&folder) {
                let _ = fs::remove_dir_all(&folder);
                continue;
            }
            let disks = read_manifest(&folder).map(|manifest| manifest.disks);
            for disk in disks.unwrap_or_default() {
                let _ = fs::remove_file(reverting(Path::new(&disk.target)));
            }
        }
    }

    /// Forgets one.
    ///
    /// # Errors
    /// There is none; the file system's.
    pub fn delete(&self, domain: &DomainName, name: &SnapshotName) -> Result<(), SnapshotError> {
        let folder = self.path(domain, name);
        // Out of sight first: what is left of it when something fails is no snapshot.
        let gone = folder.with_file_name(format!("{MAKING}{name}"));
        let _ = fs::remove_dir_all(&gone);
        match fs::rename(&folder, &gone) {
            Ok(()) => fs::remove_dir_all(&gone).map_err(at(&gone)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::Absent {
                domain: domain.to_string(),
                name: name.to_string(),
            }),
            Err(error) => Err(at(&folder)(error)),
        }
    }
}

impl Making {
    /// Where the domain's stream goes.
    pub fn memory(&self) -> PathBuf {
        self.folder.join(MEMORY)
    }

    /// Copies what the domain may write of its disks. Nothing writes to them meanwhile.
    ///
    /// # Errors
    /// A disk that cannot be copied; the file system's.
    pub fn copy_disks(&mut self) -> Result<(), SnapshotError> {
        let disks = self.manifest.config.disk.clone();
        for disk in disks.iter().filter(|disk| changes(disk)) {
            let Some(target) = &disk.target else { continue };
            let elsewhere = disk
                .backend
                .as_deref()
                .is_some_and(|b| !crate::config::is_dom0(b));
            let reason = match (elsewhere, &disk.script) {
                (true, _) => "only the domain that serves it has its content",
                (false, Some(_)) => "only its script knows where its content is",
                (false, None) => "",
            };
            if !reason.is_empty() {
                return Err(SnapshotError::Disk {
                    vdev: disk.vdev.to_string(),
                    reason: reason.into(),
                });
            }
            let file = format!("disk-{}", disk.vdev.number());
            copy(Path::new(target), &self.folder.join(&file))?;
            self.manifest.disks.push(SavedDisk {
                vdev: disk.vdev.to_string(),
                target: target.clone(),
                part: Part {
                    file,
                    kind: PartKind::Whole,
                    base: None,
                },
            });
        }
        Ok(())
    }

    /// It is complete.
    ///
    /// # Errors
    /// The file system's; then it is removed.
    pub fn finish(self) -> Result<(), SnapshotError> {
        let path = self.folder.join(MANIFEST);
        let text = toml::to_string(&self.manifest).map_err(|error| SnapshotError::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let mut file = new_file(&path)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(at(&path))?;
        fs::rename(&self.folder, &self.finished).map_err(at(&self.finished))?;
        if let Some(parent) = self.finished.parent() {
            File::open(parent)
                .and_then(|folder| folder.sync_all())
                .map_err(at(parent))?;
        }
        Ok(())
    }
}

impl Manifest {
    /// The stream of the domain.
    pub fn memory(&self, folder: &Path) -> PathBuf {
        folder.join(&self.memory.file)
    }

    /// Puts the disks' content back. Nobody uses them meanwhile. A file is replaced in one
    /// step, a device written over.
    ///
    /// # Errors
    /// The file system's; disks before the one that failed have gone back.
    pub fn restore_disks(&self, folder: &Path) -> Result<(), SnapshotError> {
        for disk in &self.disks {
            let (from, target) = (folder.join(&disk.part.file), Path::new(&disk.target));
            if target
                .metadata()
                .is_ok_and(|m| m.file_type().is_block_device())
            {
                overwrite(&from, target)?;
                continue;
            }
            let new = reverting(target);
            let _ = fs::remove_file(&new);
            copy(&from, &new)?;
            fs::rename(&new, target).map_err(at(target))?;
        }
        Ok(())
    }

    fn check(self, path: &Path) -> Result<Self, SnapshotError> {
        let wrong = |reason: String| SnapshotError::Manifest {
            path: path.to_owned(),
            reason,
        };
        if self.version != VERSION {
            return Err(wrong(format!(
                "version {} of the format, and only {VERSION} is understood",
                self.version
            )));
        }
        let parts = self.disks.iter().map(|disk| &disk.part);
        for part in parts.chain([&self.memory]) {
            if part.file.contains('/') || part.file.starts_with('.') || part.file.is_empty() {
                return Err(wrong(format!("`{}` is no file of it", part.file)));
            }
            if part.base.is_some() {
                return Err(wrong(
                    "it builds upon another one, which is not understood".into(),
                ));
            }
        }
        Ok(self)
    }
}

/// Where a disk's file is put together that is going to take its place.
fn reverting(target: &Path) -> PathBuf {
    target.with_extension("oxen-revert")
}

/// Whether the domain may change a disk.
fn changes(disk: &Disk) -> bool {
    disk.access == Access::ReadWrite && disk.format != DiskFormat::Empty
}

fn read_manifest(folder: &Path) -> Result<Manifest, SnapshotError> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|error| SnapshotError::Manifest {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    manifest.check(&path)
}

fn is_making(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(MAKING.as_bytes())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Bytes that its files take on disk.
fn bytes_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.blocks() * 512)
        .sum()
}

fn new_file(path: &Path) -> Result<File, SnapshotError> {
    OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(at(path))
}

/// A new file with the content of a file or a device: shared if the file system can, else
/// copied without its holes.
fn copy(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let mut source = File::open(from).map_err(at(from))?;
    // A device's backend goes around what dom0 remembers of it. Advice only.
    let _ = rustix::fs::fadvise(&source, 0, None, rustix::fs::Advice::DontNeed);
    let mut target = new_file(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return target.sync_all().map_err(at(to));
    }
    let length = source.seek(SeekFrom::End(0)).map_err(at(from))?;
    source.rewind().map_err(at(from))?;
    target.set_len(length).map_err(at(to))?;
    let mut chunk = vec![0; CHUNK];
    let mut place = 0;
    while place < length {
        let count = (length - place).min(CHUNK as u64) as usize;
        source.read_exact(&mut chunk[..count]).map_err(at(from))?;
        if chunk[..count].iter().any(|byte| *byte != 0) {
            target
                .seek(SeekFrom::Start(place))
                .and_then(|_| target.write_all(&chunk[..count]))
                .map_err(at(to))?;
        }
        place += count as u64;
    }
    target.sync_all().map_err(at(to))
}

/// Writes a file's content over a device.
fn overwrite(from: &Path, device: &Path) -> Result<(), SnapshotError> {
    let mut source = File::open(from).map_err(at(from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .open(device)
        .map_err(at(device))?;
    io::copy(&mut source, &mut target)
        .and_then(|_| target.sync_all())
        .map_err(at(device))
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
