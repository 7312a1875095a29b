//! Decoder of the privileged instructions a PV kernel may still use.
//!
//! They fault with #GP(0), as guest kernels run at CPL 3. What is not listed in
//! [`Insn`] is not emulated: the guest gets its exception.
//!
//! Source of encodings: Intel SDM volume 2.

use super::insn::{Cursor, Operand, Prefixes, Rep, Width};
use crate::arch::regs::GuestRegs;

/// Which port an I/O instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Within the instruction.
    Fixed(u8),
    /// In `dx`.
    Dx,
}

/// A privileged instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "cases and fields are the manual's names")]
pub enum Insn {
    ReadCr {
        cr: u8,
        reg: u8,
    },
    WriteCr {
        cr: u8,
        reg: u8,
    },
    ReadDr {
        dr: u8,
        reg: u8,
    },
    WriteDr {
        dr: u8,
        reg: u8,
    },
    Clts,
    Cli,
    Sti,
    In {
        port: Port,
        width: Width,
    },
    Out {
        port: Port,
        width: Width,
    },
    Ins {
        width: Width,
        repeat: bool,
    },
    Outs {
        width: Width,
        repeat: bool,
    },
    Rdmsr,
    Wrmsr,
    Rdtsc,
    Rdtscp,
    Cpuid,
    /// `wbinvd` or `wbnoinvd`.
    Wbinvd,
    Xsetbv,
}

/// A decoded instruction and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What to do.
    pub insn: Insn,
    /// How far to move `rip`.
    pub len: u8,
}

/// Bytes that ask for emulation of the instruction after them: `ud2a`, "xen".
/// Source: Xen `include/public/arch-x86/xen.h`, `XEN_EMULATE_PREFIX`.
const FORCED_EMULATION: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

impl Decoded {
    /// Decodes the privileged instruction at `rip`; `None` if it is not one of
    /// [`Insn`] or `bytes` ends too early.
    #[must_use]
    pub fn at(bytes: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(bytes);
        let (p, opcode) = c.prefixes()?;
        if p.lock {
            return None;
        }
        let insn = match opcode {
            0xe4 | 0xe5 => Insn::In {
                port: Port::Fixed(c.u8()?),
                width: io_width(&p, opcode),
            },
            0xe6 | 0xe7 => Insn::Out {
                port: Port::Fixed(c.u8()?),
                width: io_width(&p, opcode),
            },
            0xec | 0xed => Insn::In {
                port: Port::Dx,
                width: io_width(&p, opcode),
            },
            0xee | 0xef => Insn::Out {
                port: Port::Dx,
                width: io_width(&p, opcode),
            },
            0x6c | 0x6d if !p.address32 => Insn::Ins {
                width: io_width(&p, opcode),
                repeat: p.rep.is_some(),
            },
            0x6e | 0x6f if !p.address32 && !p.based => Insn::Outs {
                width: io_width(&p, opcode),
                repeat: p.rep.is_some(),
            },
            0xfa => Insn::Cli,
            0xfb => Insn::Sti,
            0x0f => two_byte(&mut c, &p)?,
            _ => return None,
        };
        Some(Self { insn, len: c.len() })
    }

    /// Decodes a forced-emulation prefix and the `cpuid` after it, to be tried on
    /// every invalid-opcode exception. Nothing else may be forced.
    #[must_use]
    #[inline]
    pub fn forced(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&FORCED_EMULATION)?;
        rest.starts_with(&[0x0f, 0xa2]).then_some(Self {
            insn: Insn::Cpuid,
            len: 7,
        })
    }
}

/// Opcodes after 0f.
fn two_byte(c: &mut Cursor<'_>, p: &Prefixes) -> Option<Insn> {
    Some(match c.u8()? {
        0x01 => match c.u8()? {
            0xd1 if p.rep.is_none() && !p.operand16 => Insn::Xsetbv,
            0xf9 => Insn::Rdtscp,
            _ => return None,
        },
        0x06 => Insn::Clts,
        0x09 => match p.rep {
            None | Some(Rep::RepE) => Insn::Wbinvd,
            Some(Rep::RepNe) => return None,
        },
        0x20 => {
            let (cr, reg) = special(c, p)?;
            matches!(cr, 0 | 2 | 3 | 4).then_some(Insn::ReadCr { cr, reg })?
        }
        0x22 => {
            let (cr, reg) = special(c, p)?;
            matches!(cr, 0 | 2 | 3 | 4).then_some(Insn::WriteCr { cr, reg })?
        }
        0x21 => {
            let (dr, reg) = special(c, p)?;
            (dr < 8).then_some(Insn::ReadDr { dr, reg })?
        }
        0x23 => {
            let (dr, reg) = special(c, p)?;
            (dr < 8).then_some(Insn::WriteDr { dr, reg })?
        }
        0x30 => Insn::Wrmsr,
        0x31 => Insn::Rdtsc,
        0x32 => Insn::Rdmsr,
        0xa2 => Insn::Cpuid,
        _ => return None,
    })
}

/// ModRM of moves to and from special registers: the mode field is ignored.
fn special(c: &mut Cursor<'_>, p: &Prefixes) -> Option<(u8, u8)> {
    let byte = c.u8()? | 0xc0;
    let m = Cursor::new(&[byte]).modrm(p, &GuestRegs::default())?;
    match m.rm {
        Operand::Register(reg) => Some((m.reg, reg)),
        Operand::Memory { .. } => None,
    }
}

/// I/O moves 32 bits at most, whatever REX.W says.
const fn io_width(p: &Prefixes, opcode: u8) -> Width {
    match p.width(opcode) {
        Width::Qword => {
            if p.operand16 {
                Width::Word
            } else {
                Width::Dword
            }
        }
        width => width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(bytes: &[u8]) -> Option<(Insn, u8)> {
        Decoded::at(bytes).map(|d| (d.insn, d.len))
    }

    #[test]
    fn control_and_debug_registers() {
        // mov %cr0,%rax; mov %rax,%cr4; mov %cr2,%rdi; mov %r15,%cr3
        let (cr, reg) = (0, 0);
        assert_eq!(at(&[0x0f, 0x20, 0xc0]), Some((Insn::ReadCr { cr, reg }, 3)));
        let cr = 4;
        assert_eq!(
            at(&[0x0f, 0x22, 0xe0]),
            Some((Insn::WriteCr { cr, reg }, 3))
        );
        let (cr, reg) = (2, 7);
        assert_eq!(at(&[0x0f, 0x20, 0xd7]), Some((Insn::ReadCr { cr, reg }, 3)));
        let (cr, reg) = (3, 15);
        assert_eq!(
            at(&[0x41, 0x0f, 0x22, 0xdf]),
            Some((Insn::WriteCr { cr, reg }, 4))
        );
        // mov %cr8,%rax is not emulated.
        assert_eq!(at(&[0x44, 0x0f, 0x20, 0xc0]), None);
        // mov %db7,%rdx; mov %rdx,%db0
        let (dr, reg) = (7, 2);
        assert_eq!(at(&[0x0f, 0x21, 0xfa]), Some((Insn::ReadDr { dr, reg }, 3)));
        let dr = 0;
        assert_eq!(
            at(&[0x0f, 0x23, 0xc2]),
            Some((Insn::WriteDr { dr, reg }, 3))
        );
        // The mode field of the ModRM byte is ignored.
        assert_eq!(
            at(&[0x0f, 0x23, 0x02]),
            Some((Insn::WriteDr { dr, reg }, 3))
        );
    }

    #[test]
    fn io_forms() {
        use Width::{Byte, Dword, Word};
        let inp = |port, width| Insn::In { port, width };
        let out = |port, width| Insn::Out { port, width };
        assert_eq!(at(&[0xe4, 0x61]), Some((inp(Port::Fixed(0x61), Byte), 2)));
        assert_eq!(at(&[0xe7, 0x80]), Some((out(Port::Fixed(0x80), Dword), 2)));
        assert_eq!(at(&[0xec]), Some((inp(Port::Dx, Byte), 1)));
        assert_eq!(at(&[0x66, 0xed]), Some((inp(Port::Dx, Word), 2)));
        assert_eq!(at(&[0x48, 0xef]), Some((out(Port::Dx, Dword), 2)));
        assert_eq!(at(&[0x66, 0x48, 0xef]), Some((out(Port::Dx, Word), 3)));
        let repeat = true;
        let width = Word;
        assert_eq!(
            at(&[0xf3, 0x66, 0x6d]),
            Some((Insn::Ins { width, repeat }, 3))
        );
        let (repeat, width) = (false, Dword);
        assert_eq!(at(&[0x6f]), Some((Insn::Outs { width, repeat }, 1)));
        assert_eq!(at(&[0x65, 0x6f]), None);
        assert_eq!(at(&[0xe4]), None);
    }

    #[test]
    fn the_rest() {
        for (bytes, insn) in [
            (&[0x0f, 0x06][..], Insn::Clts),
            (&[0xfa], Insn::Cli),
            (&[0xfb], Insn::Sti),
            (&[0x0f, 0x30], Insn::Wrmsr),
            (&[0x0f, 0x31], Insn::Rdtsc),
            (&[0x0f, 0x32], Insn::Rdmsr),
            (&[0x0f, 0xa2], Insn::Cpuid),
            (&[0x0f, 0x01, 0xf9], Insn::Rdtscp),
            (&[0x0f, 0x01, 0xd1], Insn::Xsetbv),
            (&[0x0f, 0x09], Insn::Wbinvd),
            (&[0xf3, 0x0f, 0x09], Insn::Wbinvd),
        ] {
            assert_eq!(at(bytes), Some((insn, bytes.len() as u8)), "{bytes:x?}");
        }
        // hlt, lgdt, invlpg, swapgs, lmsw, rdpmc, invd, locked cli
        for bytes in [
            &[0xf4][..],
            &[0x0f, 0x01, 0x10],
            &[0x0f, 0x01, 0x38],
            &[0x0f, 0x01, 0xf8],
            &[0x0f, 0x01, 0xf0],
            &[0x0f, 0x33],
            &[0x0f, 0x08],
            &[0xf0, 0xfa],
            &[0x0f],
            &[],
        ] {
            assert_eq!(at(bytes), None, "{bytes:x?}");
        }
        // Sixteen bytes are too many.
        let mut long = [0x66; 16];
        long[15] = 0xfa;
        assert_eq!(at(&long), None);
        assert_eq!(at(&long[1..]), Some((Insn::Cli, 15)));
    }

    #[test]
    fn forced_emulation() {
        let code = *b"\x0f\x0bxen\x0f\xa2\x90";
        let cpuid = Decoded {
            insn: Insn::Cpuid,
            len: 7,
        };
        assert_eq!(Decoded::forced(&code), Some(cpuid));
        assert_eq!(Decoded::forced(&code[..6]), None);
        assert_eq!(Decoded::forced(b"\x0f\x0bxen\x0f\x30"), None);
        assert_eq!(Decoded::forced(b"\x0f\x0bxeN\x0f\xa2"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 4000 }))]

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Some(d) = Decoded::at(&bytes) {
                prop_assert!(d.len >= 1 && usize::from(d.len) <= bytes.len().min(15));
                // What follows an instruction does not matter.
                prop_assert_eq!(Decoded::at(&bytes[..d.len.into()]), Some(d));
            }
        }
    }
}
