//! Kernel files, which may be hostile.

use std::fmt;

use pv_image::{KernelFile, KernelImage};

use super::error::{Error, Result};

/// Largest kernel after unpacking, bytes. A file of a few KiB may claim any size; a kernel with its
/// symbols has about 60 MiB.
const MOST_UNPACKED: usize = 256 << 20;

/// A kernel's ELF file, unpacked and checked.
pub struct Kernel {
    elf: Vec<u8>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({} bytes)", self.elf.len())
    }
}

impl Kernel {
    /// Looks into a kernel file: bzImage (gzip, xz, zstd, lz4), ELF, or a gzipped ELF file.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::KernelTooLarge`].
    pub fn open(file: Vec<u8>) -> Result<Self> {
        let elf = match KernelFile::open(&file)? {
            KernelFile::Plain(elf) if elf.len() == file.len() => file,
            KernelFile::Plain(elf) => elf.to_vec(),
            KernelFile::Packed(packed) => {
                let bytes = packed.unpacked_size();
                if bytes > MOST_UNPACKED {
                    return Err(Error::KernelTooLarge {
                        bytes,
                        most: MOST_UNPACKED,
                    });
                }
                // Pages that are never written take no memory.
                let mut elf = vec![0; bytes];
                let filled = packed.unpack(&mut elf)?.len();
                elf.truncate(filled);
                elf
            }
        };
        let kernel = Self { elf };
        kernel.image()?;
        Ok(kernel)
    }

    /// What to load, and what the kernel says about itself.
    pub(super) fn image(&self) -> Result<KernelImage<'_>> {
        Ok(KernelImage::parse(&self.elf)?)
    }
}
