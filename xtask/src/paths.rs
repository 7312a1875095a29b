//! Where things are in the repository and in its cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's top folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder, as the environment or the default has it.
pub fn cargo_target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cache of everything downloaded or built for the machine: `target/oxen`.
///
/// # Errors
/// When the folder cannot be created.
pub fn cache() -> Result<PathBuf> {
    made(cargo_target().join("oxen"))
}

/// A folder in the cache, created when missing.
///
/// # Errors
/// When the folder cannot be created.
pub fn cache_dir(name: &str) -> Result<PathBuf> {
    made(cache()?.join(name))
}

fn made(dir: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The path as a user at the top folder would write it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A scratch folder that is gone when this value is.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a scratch folder of this process under the cache.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(purpose: &str) -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        cache_dir(&format!(
            "scratch/{purpose}-{}-{number}",
            std::process::id()
        ))
        .map(Self)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind costs disk space only, and lies in the cache.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
