//! What stands behind a disk: a block device, a file by a loop device, an image by `qemu-nbd`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::nbd::{self, NbdError};
use crate::config::{Access, Disk, DiskFormat};
use crate::sys::LoopDevice;

/// Key in the tools' copy of a disk whose value is the [`nbd::Server`] of its image.
pub const NBD_KEY: &str = "oxen-nbd";

/// Why a target cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// The file.
    #[error("disk {vdev}: {path}: {error}")]
    Target {
        /// Name of the disk.
        vdev: String,
        /// Its target.
        path: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// Neither a file nor a block device.
    #[error("disk {vdev}: {path} is neither a file nor a block device")]
    NoDisk {
        /// Name of the disk.
        vdev: String,
        /// Its target.
        path: String,
    },
    /// Loop devices.
    #[error("disk {vdev}: no loop device for {path}: {error}; is the module loop loaded?")]
    Loop {
        /// Name of the disk.
        vdev: String,
        /// Its target.
        path: String,
        /// The kernel's reason.
        error: io::Error,
    },
    /// dom0 cannot serve images.
    #[error("disk {vdev}: format {format} needs qemu-nbd and the module nbd: {reason}")]
    Nbd {
        /// Name of the disk.
        vdev: String,
        /// Its format.
        format: DiskFormat,
        /// What is missing.
        reason: String,
    },
    /// The image is damaged, or of another format.
    #[error("disk {vdev}: {path} cannot be served as {format}: {reason}")]
    Image {
        /// Name of the disk.
        vdev: String,
        /// Its target.
        path: String,
        /// Its format.
        format: DiskFormat,
        /// What `qemu-nbd` says.
        reason: String,
    },
    /// Somebody writes to it.
    #[error("disk {vdev}: {path} is in use by {user}; two that write destroy it")]
    InUse {
        /// Name of the disk.
        vdev: String,
        /// Its target.
        path: String,
        /// By whom.
        user: String,
    },
    /// Needs a target.
    #[error("disk {0} has no target")]
    NoTarget(String),
    /// A format nobody reads.
    #[error("disk {vdev}: format {format} is not supported; convert it with qemu-img")]
    Format {
        /// Name of the disk.
        vdev: String,
        /// Its format.
        format: DiskFormat,
    },
}

/// What a file or device is, whatever name it is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file: file system and inode.
    File(u64, u64),
    /// A block device: its number.
    Device(u64),
}

impl Identity {
    /// Of a path; `None` if there is nothing a disk could be.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        if meta.file_type().is_block_device() {
            Some(Self::Device(meta.rdev()))
        } else if meta.is_file() {
            Some(Self::File(meta.dev(), meta.ino()))
        } else {
            None
        }
    }
}

/// A block device of dom0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    path: PathBuf,
    number: u64,
}

impl BlockDevice {
    fn at(path: PathBuf) -> io::Result<Self> {
        let number = path.metadata()?.rdev();
        Ok(Self { path, number })
    }

    /// Its node.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Its major number.
    pub fn major(&self) -> u32 {
        libc::major(self.number)
    }

    /// Its minor number.
    pub fn minor(&self) -> u32 {
        libc::minor(self.number)
    }
}

/// What stands behind a disk, for as long as this is held or the backend uses it.
#[derive(Debug, Default)]
pub struct Backing {
    device: Option<BlockDevice>,
    nbd: Option<Nbd>,
    // Held for its `Drop`.
    _loop: Option<LoopDevice>,
}

/// An image served by `qemu-nbd`. It outlives this process, and is named in the store for
/// whoever ends it; dropped before that, it ends.
#[derive(Debug)]
struct Nbd {
    server: nbd::Server,
    keep: bool,
}

impl Drop for Nbd {
    fn drop(&mut self) {
        if !self.keep {
            self.server.end();
        }
    }
}

impl Backing {
    /// Nothing: an empty drive, or a script's affair.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens the target of a disk.
    ///
    /// # Errors
    /// See [`BackingError`].
    pub fn open(disk: &Disk) -> Result<Self, BackingError> {
        let vdev = disk.vdev.to_string();
        if disk.format == DiskFormat::Empty {
            return Ok(Self::none());
        }
        let Some(target) = &disk.target else {
            return if disk.cdrom {
                Ok(Self::none())
            } else {
                Err(BackingError::NoTarget(vdev))
            };
        };
        let path = Path::new(target);
        let writable = disk.access == Access::ReadWrite;
        let wrong = |error| BackingError::Target {
            vdev: vdev.clone(),
            path: target.clone(),
            error,
        };
        let meta = path.metadata().map_err(wrong)?;
        if Identity::of(path).is_none() {
            return Err(BackingError::NoDisk {
                vdev,
                path: target.clone(),
            });
        }
        let mut backing = Self::none();
        match disk.format {
            DiskFormat::Raw if meta.file_type().is_block_device() => {
                // Refused here rather than by the backend's silence.
                open(path, writable).map_err(wrong)?;
                backing.device = Some(BlockDevice::at(path.to_owned()).map_err(wrong)?);
            }
            DiskFormat::Raw => {
                let file = open(path, writable).map_err(wrong)?;
                let made = LoopDevice::attach(&file, path, writable).and_then(|device| {
                    backing.device = Some(BlockDevice::at(device.path())?);
                    Ok(device)
                });
                backing._loop = Some(made.map_err(|error| BackingError::Loop {
                    vdev: vdev.clone(),
                    path: target.clone(),
                    error,
                })?);
            }
            DiskFormat::Qcow | DiskFormat::Qcow2 | DiskFormat::Vhd => {
                open(path, writable).map_err(wrong)?;
                let refused = |error| nbd_error(error, disk, target);
                let server = nbd::start(path, disk.format, writable).map_err(refused)?;
                let nbd = Nbd {
                    server,
                    keep: false,
                };
                let node = nbd.server.device().to_owned();
                backing.device = Some(BlockDevice::at(node).map_err(wrong)?);
                backing.nbd = Some(nbd);
            }
            DiskFormat::Qed | DiskFormat::Empty => {
                return Err(BackingError::Format {
                    vdev,
                    format: disk.format,
                });
            }
        }
        Ok(backing)
    }

    /// The device for the backend; none for an empty drive.
    pub const fn device(&self) -> Option<&BlockDevice> {
        self.device.as_ref()
    }

    /// Who serves the image, if it is one.
    pub fn nbd(&self) -> Option<&nbd::Server> {
        self.nbd.as_ref().map(|nbd| &nbd.server)
    }

    /// From now on the store's record of the disk answers for its end.
    pub fn recorded(&mut self) {
        if let Some(nbd) = &mut self.nbd {
            nbd.keep = true;
        }
    }
}

fn open(path: &Path, writable: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(writable).open(path)
}

fn nbd_error(error: NbdError, disk: &Disk, target: &str) -> BackingError {
    let (vdev, format) = (disk.vdev.to_string(), disk.format);
    match error {
        NbdError::Lacking(reason) => BackingError::Nbd {
            vdev,
            format,
            reason,
        },
        NbdError::Refused(reason) => BackingError::Image {
            vdev,
            path: target.to_owned(),
            format,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(disk: &str) -> String {
        let disk = Disk::from_toml(disk).unwrap();
        Backing::open(&disk).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_a_disk_is_told_with_its_name() {
        let text = fails("vdev = \"xvda\"\ntarget = \"/nonexistent/a.img\"");
        assert!(
            text.starts_with("disk xvda: /nonexistent/a.img: No such file"),
            "{text}"
        );
        for what in ["/", "/dev/null"] {
            let text = fails(&format!("vdev = \"xvdb\"\ntarget = \"{what}\""));
            let wanted = format!("disk xvdb: {what} is neither a file nor a block device");
            assert_eq!(text, wanted);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let text = fails(&format!(
            "vdev = \"xvda\"\ntarget = \"{path}\"\nformat = \"qed\""
        ));
        assert!(
            text.contains("format qed is not supported; convert it"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_drive_has_nothing_behind_it() {
        let disk = "vdev = \"xvdc\"\nformat = \"empty\"\ncdrom = true\naccess = \"ro\"";
        let backing = Backing::open(&Disk::from_toml(disk).unwrap()).unwrap();
        assert!(backing.device().is_none() && backing.nbd().is_none());
    }
}
