//! What both decoders need of the x86-64 encoding: prefixes, ModRM, registers.
//!
//! Source: Intel SDM volume 2, chapter 2. Guest kernels run 64-bit code only.

use crate::arch::regs::{GuestRegs, RFLAGS_RF, RFLAGS_TF};

/// Longest instruction, in bytes.
pub const MAX_LEN: usize = 15;

/// Bytes moved by one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl Width {
    /// Bytes.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// Bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }

    /// A value with the low bits of this width set.
    #[must_use]
    #[inline]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// Repeat prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rep {
    /// F3.
    RepE,
    /// F2.
    RepNe,
}

/// Prefixes of one instruction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefixes {
    /// 66: 16-bit operand.
    pub operand16: bool,
    /// 67: 32-bit addresses.
    pub address32: bool,
    /// F0.
    pub lock: bool,
    /// F2 or F3, whichever came last.
    pub rep: Option<Rep>,
    /// 64 or 65: an FS or GS base takes part in the address.
    pub based: bool,
    /// REX byte, or 0.
    pub rex: u8,
}

impl Prefixes {
    pub const fn w(&self) -> bool {
        self.rex & 8 != 0
    }

    /// Adds REX.R to the `reg` field.
    const fn r(&self) -> u8 {
        (self.rex & 4) << 1
    }

    /// Adds REX.X to an index field.
    const fn x(&self) -> u8 {
        (self.rex & 2) << 2
    }

    /// Adds REX.B to an `rm`, base or opcode register field.
    const fn b(&self) -> u8 {
        (self.rex & 1) << 3
    }

    /// Operand size of an instruction whose low opcode bit says "not a byte".
    pub const fn width(&self, opcode: u8) -> Width {
        if opcode & 1 == 0 {
            Width::Byte
        } else {
            self.wide()
        }
    }

    /// Operand size of an instruction without byte form.
    pub const fn wide(&self) -> Width {
        if self.w() {
            Width::Qword
        } else if self.operand16 {
            Width::Word
        } else {
            Width::Dword
        }
    }
}

/// Walks over the bytes of one instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.get(..MAX_LEN).unwrap_or(bytes);
        Self { bytes, at: 0 }
    }

    /// Bytes consumed.
    pub const fn len(&self) -> u8 {
        self.at as u8
    }

    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A little-endian number of `N` bytes, sign-extended.
    #[inline]
    fn signed<const N: usize>(&mut self) -> Option<u64> {
        let part: [u8; N] = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        let mut all = [0; 8];
        all[8 - N..].copy_from_slice(&part);
        Some((i64::from_le_bytes(all) >> (64 - 8 * N)).cast_unsigned())
    }

    pub fn i8(&mut self) -> Option<u64> {
        self.signed::<1>()
    }

    pub fn i32(&mut self) -> Option<u64> {
        self.signed::<4>()
    }

    /// An immediate of `width`, at most 32 bits, sign-extended.
    pub fn immediate(&mut self, width: Width) -> Option<u64> {
        match width {
            Width::Byte => self.signed::<1>(),
            Width::Word => self.signed::<2>(),
            Width::Dword | Width::Qword => self.signed::<4>(),
        }
    }

    /// Prefixes, then the first opcode byte. A REX counts only if it comes last.
    #[inline]
    pub fn prefixes(&mut self) -> Option<(Prefixes, u8)> {
        let mut p = Prefixes::default();
        loop {
            let byte = self.u8()?;
            match byte {
                0x40..=0x4f => {
                    p.rex = byte;
                    continue;
                }
                0x66 => p.operand16 = true,
                0x67 => p.address32 = true,
                0xf0 => p.lock = true,
                0xf2 => p.rep = Some(Rep::RepNe),
                0xf3 => p.rep = Some(Rep::RepE),
                0x64 | 0x65 => p.based = true,
                // CS, SS, DS and ES overrides mean nothing in 64-bit code.
                0x26 | 0x2e | 0x36 | 0x3e => {}
                opcode => return Some((p, opcode)),
            }
            p.rex = 0;
        }
    }

    /// A ModRM byte with what follows it (SIB, displacement).
    #[inline]
    pub fn modrm(&mut self, p: &Prefixes, regs: &GuestRegs) -> Option<ModRm> {
        let byte = self.u8()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let reg = reg | p.r();
        if mode == 3 {
            let rm = Operand::Register(rm | p.b());
            return Some(ModRm { reg, rm });
        }
        let mut rip_relative = false;
        let mut base = 0;
        if rm == 4 {
            let sib = self.u8()?;
            let index = sib >> 3 & 7 | p.x();
            if index != 4 {
                base = regs.gpr(index) << (sib >> 6);
            }
            if sib & 7 == 5 && mode == 0 {
                base = base.wrapping_add(self.i32()?);
            } else {
                base = base.wrapping_add(regs.gpr(sib & 7 | p.b()));
            }
        } else if rm == 5 && mode == 0 {
            base = self.i32()?;
            rip_relative = true;
        } else {
            base = regs.gpr(rm | p.b());
        }
        let displacement = match mode {
            1 => self.i8()?,
            2 => self.i32()?,
            _ => 0,
        };
        let address = base.wrapping_add(displacement);
        let rm = Operand::Memory {
            address,
            rip_relative,
        };
        Some(ModRm { reg, rm })
    }
}

/// Where a ModRM's `rm` operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// A register, by number.
    Register(u8),
    /// Memory. If `rip_relative`, the address of the next instruction is yet to be added.
    Memory { address: u64, rip_relative: bool },
}

/// The two operands of a ModRM byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModRm {
    /// Register number or opcode extension (then only the low three bits count).
    pub reg: u8,
    pub rm: Operand,
}

/// Reads register `n` as an operand of `width`. Without REX, byte registers 4 to 7
/// are AH, CH, DH and BH.
#[inline]
pub(super) fn register(regs: &GuestRegs, n: u8, width: Width, rex: u8) -> u64 {
    if matches!(width, Width::Byte) && rex == 0 && n & 0xc == 4 {
        return regs.gpr(n & 3) >> 8 & 0xff;
    }
    regs.gpr(n) & width.mask()
}

/// Writes register `n` as an operand of `width`; 32-bit writes clear the upper half.
#[inline]
pub(super) fn set_register(regs: &mut GuestRegs, n: u8, width: Width, rex: u8, value: u64) {
    match width {
        Width::Byte if rex == 0 && n & 0xc == 4 => {
            let reg = regs.gpr_mut(n & 3);
            *reg = *reg & !0xff00 | (value & 0xff) << 8;
        }
        Width::Byte | Width::Word => {
            let reg = regs.gpr_mut(n);
            *reg = *reg & !width.mask() | value & width.mask();
        }
        Width::Dword | Width::Qword => *regs.gpr_mut(n) = value & width.mask(),
    }
}

/// Moves past an emulated instruction of `len` bytes. Returns whether the guest
/// single-steps, so that it is owed a debug exception.
#[inline]
pub(super) fn advance(regs: &mut GuestRegs, len: u8) -> bool {
    regs.rip = regs.rip.wrapping_add(len.into());
    regs.rflags &= !RFLAGS_RF;
    regs.rflags & RFLAGS_TF != 0
}
