//! The framebuffer fields that both Multiboot protocols lay out alike.

use crate::bytes::{u8_at, u32_at, u64_at};
use hv_core::start::boot_info::{Framebuffer, FramebufferKind};

/// Reads the fields from `base` on; the positions and sizes of the colours, three pairs of
/// bytes, begin at `colours`. `None` if `bytes` ends too early or the kind is unknown.
///
/// Source: Multiboot 0.6.96, 3.3 (offset 88); Multiboot 2.0, 3.6.12 (offset 8).
pub(crate) fn read(bytes: &[u8], base: usize, colours: usize) -> Option<Framebuffer> {
    let kind = match u8_at(bytes, base + 21)? {
        0 => FramebufferKind::Indexed,
        1 => {
            let field = |at| Some((u8_at(bytes, at)?, u8_at(bytes, at + 1)?));
            FramebufferKind::Rgb([field(colours)?, field(colours + 2)?, field(colours + 4)?])
        }
        2 => FramebufferKind::Text,
        _ => return None,
    };
    Some(Framebuffer {
        address: u64_at(bytes, base)?,
        pitch: u32_at(bytes, base + 8)?,
        width: u32_at(bytes, base + 12)?,
        height: u32_at(bytes, base + 16)?,
        bits: u8_at(bytes, base + 20)?,
        kind,
    })
}
