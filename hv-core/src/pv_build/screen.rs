//! What dom0 is told about the screen. Pure.

use crate::console::screen::{Framebuffer, FramebufferKind};
use xen_abi::arch_x86::{
    Dom0VgaConsoleInfo, TextMode3, VesaLfb, XEN_VGATYPE_EFI_LFB, XEN_VGATYPE_TEXT_MODE_3,
    XEN_VGATYPE_VESA_LFB,
};
use zerocopy::{FromZeros, IntoBytes};

/// Height of a character in 80x25 text. Source: IBM VGA, mode 3.
const FONT_HEIGHT: u16 = 16;
/// VBE capabilities: the controller need not be a VGA. Source: VBE 3.0, 4.3.
const NOT_VGA: u32 = 2;
/// VBE attributes of a mode: supported, with more information, colour, graphics, linear.
/// Source: VBE 3.0, 4.4.
const LINEAR_GRAPHICS: u16 = 0x9b;

/// The screen as dom0 wants it described: left by `efi` firmware or by a BIOS, with the cursor
/// (column, row) of its text. `None` for a screen that the interface has no words for.
#[must_use]
pub fn console_info(
    screen: &Framebuffer,
    efi: bool,
    cursor: (u16, u16),
) -> Option<Dom0VgaConsoleInfo> {
    let mut info = Dom0VgaConsoleInfo::new_zeroed();
    match screen.kind {
        FramebufferKind::Indexed => return None,
        FramebufferKind::Text => {
            let text = TextMode3 {
                font_height: FONT_HEIGHT,
                cursor_x: cursor.0,
                cursor_y: cursor.1,
                rows: screen.height.try_into().ok()?,
                columns: screen.width.try_into().ok()?,
            };
            info.video_type = XEN_VGATYPE_TEXT_MODE_3;
            text.write_to_prefix(info.u.as_mut_bytes()).ok()?;
        }
        FramebufferKind::Rgb(colours) => {
            info.video_type = if efi {
                XEN_VGATYPE_EFI_LFB
            } else {
                XEN_VGATYPE_VESA_LFB
            };
            info.u = linear(screen, &colours, efi)?;
        }
    }
    Some(info)
}

fn linear(screen: &Framebuffer, colours: &[(u8, u8); 3], efi: bool) -> Option<VesaLfb> {
    let memory = screen.memory();
    let used = colours
        .iter()
        .map(|(at, size)| at.saturating_add(*size))
        .max()?;
    let [red, green, blue] = *colours;
    let mut lfb = VesaLfb::new_zeroed();
    lfb.width = screen.width.try_into().ok()?;
    lfb.height = screen.height.try_into().ok()?;
    lfb.bytes_per_line = screen.pitch.try_into().ok()?;
    lfb.bits_per_pixel = screen.bits.into();
    lfb.lfb_base = screen.address as u32;
    lfb.ext_lfb_base = (screen.address >> 32) as u32;
    lfb.lfb_size = (memory.end - memory.start)
        .div_ceil(64 << 10)
        .try_into()
        .ok()?;
    (lfb.red_pos, lfb.red_size) = red;
    (lfb.green_pos, lfb.green_size) = green;
    (lfb.blue_pos, lfb.blue_size) = blue;
    // What no colour uses, above them.
    (lfb.rsvd_pos, lfb.rsvd_size) = match screen.bits.checked_sub(used)? {
        0 => (0, 0),
        rest => (used, rest),
    };
    (lfb.gbl_caps, lfb.mode_attrs) = if efi {
        (NOT_VGA, 0)
    } else {
        (0, LINEAR_GRAPHICS)
    };
    Some(lfb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    const SCREEN: Framebuffer = Framebuffer {
        address: 0x40_8000_0000,
        pitch: 5120,
        width: 1280,
        height: 800,
        bits: 32,
        kind: FramebufferKind::Rgb([(16, 8), (8, 8), (0, 8)]),
    };

    #[test]
    fn a_linear_framebuffer() {
        let info = console_info(&SCREEN, true, (0, 0)).expect("can be described");
        assert_eq!(info.video_type, XEN_VGATYPE_EFI_LFB);
        let lfb = info.u;
        assert_eq!(
            (lfb.width, lfb.height, lfb.bytes_per_line),
            (1280, 800, 5120)
        );
        assert_eq!((lfb.lfb_base, lfb.ext_lfb_base), (0x8000_0000, 0x40));
        assert_eq!(lfb.lfb_size, 63);
        assert_eq!((lfb.red_pos, lfb.green_size), (16, 8));
        assert_eq!((lfb.rsvd_pos, lfb.rsvd_size), (24, 8));
        let vesa = console_info(&SCREEN, false, (0, 0)).expect("can be described");
        assert_eq!(vesa.video_type, XEN_VGATYPE_VESA_LFB);
    }

    #[test]
    fn sixteen_bits_leave_nothing_over() {
        let screen = Framebuffer {
            bits: 16,
            kind: FramebufferKind::Rgb([(11, 5), (5, 6), (0, 5)]),
            ..SCREEN
        };
        let lfb = console_info(&screen, false, (0, 0))
            .expect("can be described")
            .u;
        assert_eq!((lfb.rsvd_pos, lfb.rsvd_size), (0, 0));
    }

    #[test]
    fn text() {
        let info =
            console_info(&Framebuffer::TEXT_80X25, false, (3, 24)).expect("can be described");
        assert_eq!(info.video_type, XEN_VGATYPE_TEXT_MODE_3);
        let (text, _) = TextMode3::read_from_prefix(info.u.as_bytes()).expect("it is there");
        assert_eq!(
            (text.rows, text.columns, text.cursor_x, text.cursor_y),
            (25, 80, 3, 24)
        );
        assert_eq!(text.font_height, 16);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        for screen in [
            Framebuffer {
                kind: FramebufferKind::Indexed,
                ..SCREEN
            },
            Framebuffer {
                width: 1 << 16,
                ..SCREEN
            },
            Framebuffer { bits: 16, ..SCREEN },
            Framebuffer {
                kind: FramebufferKind::Rgb([(255, 255); 3]),
                ..SCREEN
            },
        ] {
            assert_eq!(console_info(&screen, true, (0, 0)), None);
        }
    }
}
