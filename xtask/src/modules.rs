//! Which kernel modules a driver needs, and in which order they are to be loaded.
//!
//! Each `.ko` file says so itself (`depends=` in its `.modinfo` section), so the answer needs no
//! `depmod` and no installed kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The modules of one kernel package, by name (with `_` for `-`, as the kernel has it).
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
}

/// One module to load.
pub struct Module {
    /// The file in the package.
    pub file: PathBuf,
    /// Name as the kernel has it.
    pub name: String,
    /// Names of the modules it needs.
    pub needs: Vec<String>,
}

impl Modules {
    /// Finds every module below a `lib/modules/<version>` folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder)
                .with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "ko")
                    && let Some(stem) = path.file_stem()
                {
                    files.insert(kernel_name(&stem.to_string_lossy()), path);
                }
            }
        }
        Ok(Self { files })
    }

    /// The given modules and all they need, each behind what it needs. Names the package lacks
    /// (built into the kernel, or not offered) are left out.
    ///
    /// # Errors
    /// When a module's file cannot be read.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in names {
            self.add(&kernel_name(name), &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, order: &mut Vec<Module>) -> Result<()> {
        let Some(file) = self.files.get(name) else {
            return Ok(());
        };
        if order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let content =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let needs = depends(&content);
        for need in &needs {
            self.add(need, order)?;
        }
        order.push(Module {
            file: file.clone(),
            name: name.to_owned(),
            needs,
        });
        Ok(())
    }
}

fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads `depends=a,b` from the zero-separated strings of a module's `.modinfo` section.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let end = value
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(kernel_name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::depends;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            depends(b"x\0depends=virtio,virtio-ring\0y"),
            ["virtio", "virtio_ring"]
        );
        assert!(depends(b"x\0depends=\0y").is_empty());
        assert!(depends(b"nothing").is_empty());
    }
}
