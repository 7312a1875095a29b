//! What the boot loader says, as `hv_core::start::BootInfo`.
//!
//! Safe and pure: the binary (`main.rs`) finds the bytes, this library reads them.
//! Loaders are trusted not to be hostile, but not to be right: every length is
//! checked, and what makes no sense is left out and noted in `BootInfo::damaged`.
#![no_std]

#[cfg(test)]
extern crate std;

mod bytes;
mod framebuffer;
pub mod multiboot1;
pub mod multiboot2;

use hv_core::start::boot_info::BootInfo;

/// Whether the loader puts the image's name before our command line and those of
/// modules. GRUB 2 does not; every other loader does.
fn names_images(info: &BootInfo) -> bool {
    let version = info.loader_name.strip_prefix("GRUB ");
    !version.is_some_and(|v| {
        v.bytes()
            .next()
            .is_some_and(|b| b.is_ascii_digit() && b != b'0')
    })
}

/// Cuts the image's name off a command line, unless the loader left it out.
fn arguments(line: &str, named: bool) -> &str {
    let line = line.trim();
    if !named {
        return line;
    }
    line.split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim_start())
}

/// Applies [`arguments`] to every command line, once the loader's name is known.
fn strip_names(info: &mut BootInfo) {
    let named = names_images(info);
    let lines = core::iter::once(&mut info.command_line as &mut dyn Line).chain(
        info.modules
            .iter_mut()
            .map(|m| &mut m.command_line as &mut dyn Line),
    );
    for line in lines {
        line.keep_arguments(named);
    }
}

/// A command line of whatever capacity.
trait Line {
    fn keep_arguments(&mut self, named: bool);
}

impl<const N: usize> Line for heapless::String<N> {
    fn keep_arguments(&mut self, named: bool) {
        let mut kept = Self::new();
        // It is part of a line that fits.
        let _ = kept.push_str(arguments(self, named));
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_go_unless_grub_left_them_out() {
        assert_eq!(arguments("oxen.elf com1=115200 ", true), "com1=115200");
        assert_eq!(arguments("oxen.elf", true), "");
        assert_eq!(arguments(" com1=115200 x", false), "com1=115200 x");
        let mut info = BootInfo::new();
        assert!(names_images(&info));
        info.loader_name.push_str("GRUB 0.97").unwrap();
        assert!(names_images(&info));
        info.loader_name.clear();
        info.loader_name.push_str("GRUB 2.06-13").unwrap();
        assert!(!names_images(&info));
    }
}
