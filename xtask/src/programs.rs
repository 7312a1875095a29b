//! Debian's programs in an initramfs: out of their packages, with the shared libraries that each file
//! names as needed (`DT_NEEDED`), so none of them is ever installed on the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::read::elf::{Dyn, ElfFile64, FileHeader};

use crate::cpio::Archive;
use crate::packages::unpacked;

/// Packages, and paths in them.
pub type Programs = &'static [(&'static str, &'static [&'static str])];

/// Where the image keeps libraries: a folder the dynamic linker looks into by itself.
const LIBRARY_FOLDER: &str = "lib/x86_64-linux-gnu";
/// What programs name as their interpreter.
const INTERPRETER: &str = "lib64/ld-linux-x86-64.so.2";

/// Downloads programs and the packages of their libraries.
///
/// # Errors
/// When a package cannot be had.
pub fn download(programs: Programs, libraries: &[&str]) -> Result<()> {
    let programs = programs.iter().map(|entry| entry.0);
    for package in programs.chain(libraries.iter().copied()) {
        unpacked(package)?;
    }
    Ok(())
}

/// Adds programs with what they load: libraries of these packages, and those of `late` too, which no
/// file names.
///
/// # Errors
/// When a file cannot be had.
pub fn add(
    archive: &mut Archive,
    programs: Programs,
    libraries: &[&str],
    late: &[&str],
) -> Result<()> {
    let mut image = Image::default();
    let libraries = Libraries::of(libraries)?;
    for (package, paths) in programs {
        let folder = unpacked(package)?;
        for path in *paths {
            image.program(&libraries, path, &folder.join(path))?;
        }
    }
    for name in late {
        image.library(&libraries, name)?;
    }
    image.write(archive);
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
        // There `sbin` is `bin`.
        let path = path
            .strip_prefix('s')
            .filter(|rest| rest.starts_with("bin/"))
            .unwrap_or(path);
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
    fn of(packages: &[&str]) -> Result<Self> {
        let mut folders = Vec::new();
        for package in packages {
            let files = unpacked(package)?;
            folders.extend(["lib", "usr/lib"].map(|lib| files.join(lib).join("x86_64-linux-gnu")));
        }
        Ok(Self(folders))
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let mut places = self.0.iter().map(|folder| folder.join(name));
        places
            .find(|file| file.exists())
            .with_context(|| format!("none of the packages listed holds {name}: {:?}", self.0))
    }
}

/// The content of a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(file: &Path) -> Result<Vec<u8>> {
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
