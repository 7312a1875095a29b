//! What dom0 needs to create domains: a toolstack with its daemons, and everything those load.
//!
//! Debian's tools come out of their packages, with the shared libraries that each file names as
//! needed (`DT_NEEDED`), so neither Xen nor its tools are ever installed on the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::read::elf::{Dyn, ElfFile64, FileHeader};

use crate::cpio::Archive;
use crate::{build, packages};

/// Whose tools manage the domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Toolstack {
    /// None: dom0 alone
    #[default]
    None,
    /// Debian's `xl` with xenstored and xenconsoled
    Xl,
    /// This project's `ox` with its daemon `oxd`
    Ox,
}

impl Toolstack {
    /// Name in file names and messages; also the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xl => "xl",
            Self::Ox => "ox",
        }
    }
}

/// Debian's programs: package, and paths in it. They stay where Debian has them: `libxl` looks for
/// its helpers and scripts there.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "xen-utils-4.17",
        &[
            "usr/lib/xen-4.17/bin/libxl-save-helper",
            "usr/lib/xen-4.17/bin/lsevtchn",
            "usr/lib/xen-4.17/bin/xen-diag",
            "usr/lib/xen-4.17/bin/xen-init-dom0",
            "usr/lib/xen-4.17/bin/xenconsole",
            "usr/lib/xen-4.17/bin/xenconsoled",
            "usr/lib/xen-4.17/bin/xenctx",
            "usr/lib/xen-4.17/bin/xenstore-control",
            "usr/lib/xen-4.17/bin/xenstored",
            "usr/lib/xen-4.17/bin/xentop",
            "usr/lib/xen-4.17/bin/xl",
        ],
    ),
    (
        "xenstore-utils",
        &[
            "usr/bin/xenstore-chmod",
            "usr/bin/xenstore-exists",
            "usr/bin/xenstore-list",
            "usr/bin/xenstore-ls",
            "usr/bin/xenstore-read",
            "usr/bin/xenstore-rm",
            "usr/bin/xenstore-watch",
            "usr/bin/xenstore-write",
        ],
    ),
    (
        "xen-utils-common",
        &[
            "etc/xen/xl.conf",
            "etc/xen/scripts/block",
            "etc/xen/scripts/block-common.sh",
            "etc/xen/scripts/hotplugpath.sh",
            "etc/xen/scripts/locking.sh",
            "etc/xen/scripts/logging.sh",
            "etc/xen/scripts/vif-bridge",
            "etc/xen/scripts/vif-common.sh",
            "etc/xen/scripts/vif-route",
            "etc/xen/scripts/xen-hotplug-common.sh",
            "etc/xen/scripts/xen-network-common.sh",
            "etc/xen/scripts/xen-script-common.sh",
        ],
    ),
    // The scripts are written for it, and busybox has no `flock`.
    ("bash", &["bin/bash"]),
    ("util-linux", &["usr/bin/flock"]),
];

/// Our own: what `/init` runs to start either toolstack, what tests use, what a person is shown,
/// and a guest to try.
const SHELL_FILES: &[(&str, &str)] = &[
    ("lib/toolstack.sh", include_str!("userspace/toolstack.sh")),
    ("lib/guests.sh", include_str!("userspace/guests.sh")),
    (
        "lib/demonstration.sh",
        include_str!("userspace/demonstration.sh"),
    ),
    ("etc/guest.cfg", include_str!("userspace/guest.cfg")),
];

/// Where shared libraries are looked for.
const LIBRARY_PACKAGES: &[&str] = &[
    "libc6",
    "libgcc-s1",
    "liblzma5",
    "libtinfo6",
    "libncurses6",
    "libuuid1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libzstd1",
    "zlib1g",
];

/// Loaded by `dlopen` when a thread ends; without it `xl` aborts.
const LOADED_LATE: &[&str] = &["libgcc_s.so.1"];

/// Where the image keeps libraries: a folder the dynamic linker looks into by itself.
const LIBRARY_FOLDER: &str = "lib/x86_64-linux-gnu";
/// What programs name as their interpreter.
const INTERPRETER: &str = "lib64/ld-linux-x86-64.so.2";

/// Downloads everything, for `setup`.
///
/// # Errors
/// When a package cannot be had.
pub fn download() -> Result<()> {
    for package in PROGRAMS
        .iter()
        .map(|entry| entry.0)
        .chain(LIBRARY_PACKAGES.iter().copied())
    {
        packages::unpacked(package)?;
    }
    Ok(())
}

/// Adds a toolstack. Debian's files come with either: they are the clients, drivers' scripts and
/// diagnosis that `ox` is tried with too.
///
/// # Errors
/// When a file cannot be had.
pub fn add(archive: &mut Archive, toolstack: Toolstack) -> Result<()> {
    let mut image = Image::default();
    let libraries = Libraries::new()?;
    for (package, paths) in PROGRAMS {
        let folder = packages::unpacked(package)?;
        for path in *paths {
            image.program(&libraries, path, &folder.join(path))?;
        }
    }
    for name in LOADED_LATE {
        image.library(&libraries, name)?;
    }
    image.write(archive);
    if toolstack == Toolstack::Ox {
        for (file, path) in build::toolstack()?.iter().zip(["bin/ox", "bin/oxd"]) {
            archive.file(path, 0o755, &read(file)?);
        }
    }
    archive.file("etc/toolstack", 0o644, toolstack.name().as_bytes());
    for (path, content) in SHELL_FILES {
        archive.file(path, 0o644, content.as_bytes());
    }
    Ok(())
}

/// Files by their path in the image.
#[derive(Default)]
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    /// Files that are to be found in `bin` too: path, name.
    commands: Vec<(String, String)>,
}

impl Image {
    fn program(&mut self, libraries: &Libraries, path: &str, file: &Path) -> Result<()> {
        let content = read(file)?;
        let name = path.rsplit('/').next().unwrap_or(path);
        if !path.starts_with("etc/") && !path.starts_with("bin/") {
            self.commands.push((path.to_owned(), name.to_owned()));
        }
        for needed in needed(&content).with_context(|| file.display().to_string())? {
            self.library(libraries, &needed)?;
        }
        self.files.insert(path.to_owned(), content);
        Ok(())
    }

    fn library(&mut self, libraries: &Libraries, name: &str) -> Result<()> {
        let path = format!("{LIBRARY_FOLDER}/{name}");
        if self.files.contains_key(&path) {
            return Ok(());
        }
        let file = libraries.find(name)?;
        let content = read(&file)?;
        let more = needed(&content).with_context(|| file.display().to_string())?;
        self.files.insert(path, content);
        for name in more {
            self.library(libraries, &name)?;
        }
        Ok(())
    }

    fn write(self, archive: &mut Archive) {
        let mut folders: Vec<String> = Vec::new();
        let interpreter = format!("../{LIBRARY_FOLDER}/ld-linux-x86-64.so.2");
        for path in self.files.keys().map(String::as_str).chain([INTERPRETER]) {
            for (at, _) in path.match_indices('/') {
                let folder = path[..at].to_owned();
                if !folders.contains(&folder) {
                    archive.directory(&folder);
                    folders.push(folder);
                }
            }
        }
        for (path, content) in &self.files {
            archive.file(path, 0o755, content);
        }
        for (path, name) in &self.commands {
            archive.symlink(&format!("bin/{name}"), &format!("/{path}"));
        }
        archive.symlink(INTERPRETER, &interpreter);
    }
}

/// The folders of the packages that hold libraries.
struct Libraries(Vec<PathBuf>);

impl Libraries {
    fn new() -> Result<Self> {
        let mut folders = Vec::new();
        for package in LIBRARY_PACKAGES {
            let files = packages::unpacked(package)?;
            folders.extend(["lib", "usr/lib"].map(|lib| files.join(lib).join("x86_64-linux-gnu")));
        }
        Ok(Self(folders))
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let mut places = self.0.iter().map(|folder| folder.join(name));
        places
            .find(|file| file.exists())
            .with_context(|| format!("no package of {LIBRARY_PACKAGES:?} holds {name}"))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The libraries an ELF file names as needed; none for a script.
fn needed(content: &[u8]) -> Result<Vec<String>> {
    if !content.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let file = ElfFile64::<object::Endianness>::parse(content).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, content)?;
    let Some((entries, link)) = sections.dynamic(endian, content)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, content, link)?;
    entries
        .iter()
        .filter(|entry| entry.tag32(endian) == Some(object::elf::DT_NEEDED))
        .map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn a_script_needs_no_library_and_this_test_needs_libc() {
        assert!(needed(b"#!/bin/sh\n").unwrap().is_empty());
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&me).unwrap().contains(&"libc.so.6".to_owned()));
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        assert!(needed(b"\x7fELF\x02").is_err());
    }
}
