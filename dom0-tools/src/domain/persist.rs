//! What is kept on disk about domains, so that a new daemon knows what the old one did.
//!
//! ```text
//! FOLDER/making/UUID         a domain of this UUID is being made, and is not complete
//! FOLDER/domains/UUID.toml   the configuration of one that is complete
//! FOLDER/starting/UUID.toml  the configuration of one whose successor is due
//! FOLDER/saving/UUID         one that is asked to suspend itself, and has to go on afterwards
//! FOLDER/writing/UUID        the name of a file that one is being written to
//! FOLDER/ending/UUID         one that is being destroyed
//! FOLDER/snapshots/          see [`super::snapshot`]
//! ```
//!
//! The first is written before the hypervisor is asked for the domain and becomes the second, so
//! that at any moment a domain found running is one or the other, or somebody else's. Both at once
//! is one that is complete and still to be let run.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::snapshot::Snapshots;
use crate::config::{DomainConfig, Uuid};

/// Where it is.
pub const FOLDER: &str = "/var/lib/oxen";

/// The folder.
#[derive(Clone, Debug)]
pub struct Persist {
    folder: PathBuf,
}

/// What is known about a domain of a UUID.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nothing: it is somebody else's.
    Nothing,
    /// It was not complete.
    Making,
    /// It was.
    Complete(Box<DomainConfig>),
}

impl Persist {
    /// Below this folder, which is made if need be.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for part in [
            "making", "domains", "starting", "saving", "writing", "ending",
        ] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Snapshots that are kept there too.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(&self.folder.join("snapshots"))
    }

    fn making(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("making").join(uuid.to_string())
    }

    fn complete(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("domains").join(format!("{uuid}.toml"))
    }

    /// A domain of this configuration is going to be made.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(&self, uuid: Uuid, config: &DomainConfig) -> io::Result<()> {
        write(&self.making(uuid), &config.to_toml())
    }

    /// It is complete, and stays paused.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&self, uuid: Uuid) -> io::Result<()> {
        std::fs::rename(self.making(uuid), self.complete(uuid))
    }

    /// It is complete, and will be let run: then [`Self::mark_running`].
    ///
    /// # Errors
    /// The file system's.
    pub fn finish_to_run(&self, uuid: Uuid) -> io::Result<()> {
        remove(&self.complete(uuid));
        std::fs::hard_link(self.making(uuid), self.complete(uuid))
    }

    /// It was let run.
    pub fn mark_running(&self, uuid: Uuid) {
        remove(&self.making(uuid));
    }

    /// Whether a complete one is still to be let run.
    pub fn is_to_run(&self, uuid: Uuid) -> bool {
        self.making(uuid).exists() && self.complete(uuid).exists()
    }

    /// A complete domain has another configuration: the old one or the new one is there at
    /// any moment.
    ///
    /// # Errors
    /// The file system's.
    pub fn change(&self, uuid: Uuid, config: &DomainConfig) -> io::Result<()> {
        let new = self.complete(uuid).with_extension("new");
        write(&new, &config.to_toml())?;
        std::fs::rename(new, self.complete(uuid))
    }

    /// There is no such domain any more.
    pub fn forget(&self, uuid: Uuid) {
        // Last what says that the rest must go.
        for path in [
            self.making(uuid),
            self.complete(uuid),
            self.saving(uuid),
            self.writing(uuid),
            self.ending(uuid),
        ] {
            remove(&path);
        }
    }

    fn ending(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("ending").join(uuid.to_string())
    }

    /// The domain of this UUID is destroyed from now on: its devices may be gone already.
    ///
    /// # Errors
    /// The file system's.
    pub fn mark_ending(&self, uuid: Uuid) -> io::Result<()> {
        write(&self.ending(uuid), "")
    }

    /// Whether its destruction has begun.
    pub fn is_ending(&self, uuid: Uuid) -> bool {
        self.ending(uuid).exists()
    }

    fn saving(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("saving").join(uuid.to_string())
    }

    /// The domain of this UUID is asked to suspend itself: whoever finds it suspended and does not
    /// save it lets it go on.
    ///
    /// # Errors
    /// The file system's.
    pub fn mark_saving(&self, uuid: Uuid) -> io::Result<()> {
        write(&self.saving(uuid), "")
    }

    /// It goes on.
    pub fn unmark_saving(&self, uuid: Uuid) {
        remove(&self.saving(uuid));
    }

    /// Whether it was asked, and nothing has come of it yet.
    pub fn is_saving(&self, uuid: Uuid) -> bool {
        self.saving(uuid).exists()
    }

    fn writing(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("writing").join(uuid.to_string())
    }

    /// The domain of this UUID is going to be written to `file`.
    ///
    /// # Errors
    /// The file system's.
    pub fn mark_writing(&self, uuid: Uuid, file: &Path) -> io::Result<()> {
        write(&self.writing(uuid), &file.to_string_lossy())
    }

    /// It is written, or will not be.
    pub fn unmark_writing(&self, uuid: Uuid) {
        remove(&self.writing(uuid));
    }

    /// Files that were being written when a former daemon was killed.
    pub fn unfinished(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("writing")) else {
            return Vec::new();
        };
        let texts = entries
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts.map(PathBuf::from).collect()
    }

    fn starting(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("starting").join(format!("{uuid}.toml"))
    }

    /// The domain of this UUID ends, and one of the same configuration is to follow.
    ///
    /// # Errors
    /// The file system's.
    pub fn mark_start(&self, uuid: Uuid, config: &DomainConfig) -> io::Result<()> {
        write(&self.starting(uuid), &config.to_toml())
    }

    /// It has followed, or shall not any more.
    pub fn unmark_start(&self, uuid: Uuid) {
        remove(&self.starting(uuid));
    }

    /// Configurations of the domains that were to follow.
    pub fn due(&self) -> Vec<DomainConfig> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("starting")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let text = std::fs::read_to_string(entry.path()).ok()?;
                DomainConfig::from_toml(&text, "starting").ok()
            })
            .collect()
    }

    /// What is known about a UUID.
    pub fn known(&self, uuid: Uuid) -> Known {
        if let Ok(text) = std::fs::read_to_string(self.complete(uuid)) {
            let file = self.complete(uuid).display().to_string();
            match DomainConfig::from_toml(&text, &file) {
                Ok(config) => return Known::Complete(Box::new(config)),
                Err(error) => tracing::error!(%error, "configuration of a running domain"),
            }
        }
        if self.making(uuid).exists() {
            Known::Making
        } else {
            Known::Nothing
        }
    }

    /// Forgets all UUIDs but those of `living`, and nothing that is owed.
    pub fn retain(&self, living: &[Uuid]) {
        for part in ["making", "domains", "saving", "writing", "ending"] {
            let Ok(entries) = std::fs::read_dir(self.folder.join(part)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let uuid = path
                    .file_stem()
                    .and_then(|stem| stem.to_str()?.parse::<Uuid>().ok());
                if !uuid.is_some_and(|uuid| living.contains(&uuid)) {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "not removed");
    }
}

/// Writes a file that is on disk when this returns.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(persist: &Persist, uuid: Uuid) -> DomainConfig {
        match persist.known(uuid) {
            Known::Complete(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_domain_is_half_made_or_complete_or_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let persist = Persist::open(folder.path()).unwrap();
        let text = "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\n";
        let mut config = DomainConfig::from_toml(text, "test").unwrap();
        let (uuid, other) = (Uuid([1; 16]), Uuid([2; 16]));
        assert_eq!(persist.known(uuid), Known::Nothing);
        persist.begin(uuid, &config).unwrap();
        assert_eq!(persist.known(uuid), Known::Making);
        persist.finish_to_run(uuid).unwrap();
        assert!(persist.is_to_run(uuid));
        persist.mark_running(uuid);
        assert!(!persist.is_to_run(uuid));
        assert_eq!(
            persist.known(uuid),
            Known::Complete(Box::new(config.clone()))
        );
        config.cmdline = "x".into();
        persist.change(uuid, &config).unwrap();
        assert_eq!(persist.known(uuid), Known::Complete(Box::new(config)));
        assert!(persist.due().is_empty());
        persist
            .mark_start(uuid, &config_of(&persist, uuid))
            .unwrap();
        // What is owed outlives the sweep that follows a daemon's death.
        persist.retain(&[uuid]);
        assert_eq!(persist.due().len(), 1);
        persist.unmark_start(uuid);
        assert!(persist.due().is_empty());
        persist.mark_saving(uuid).unwrap();
        let file = Path::new("/tmp/web.save");
        persist.mark_writing(uuid, file).unwrap();
        assert_eq!(persist.unfinished(), [file]);
        persist.unmark_writing(uuid);
        assert!(persist.unfinished().is_empty());
        persist.mark_ending(uuid).unwrap();
        persist.retain(&[uuid]);
        assert!(persist.is_saving(uuid) && persist.is_ending(uuid));
        persist.retain(&[uuid, other]);
        assert_ne!(persist.known(uuid), Known::Nothing);
        persist.retain(&[other]);
        assert!(!persist.is_saving(uuid) && !persist.is_ending(uuid));
        assert_eq!(persist.known(uuid), Known::Nothing);
    }
}
