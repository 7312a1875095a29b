//! Decoder of stores to page tables.
//!
//! With `vm_assist` type 2 a guest kernel writes entries of its L1 tables with
//! ordinary instructions. The tables are mapped read-only, so each store faults, and
//! becomes a checked update of one entry:
//!
//! ```text
//! let op = StoreOp::decode(bytes, regs, fault)?;
//! loop { old = entry; new = op.merge(old); if checked compare-exchange(old, new) { break } }
//! op.commit(old, regs);
//! ```
//!
//! The room knows neither page tables nor domains. Hot: runs 100,000 times and more.

use super::insn::{self, Cursor, Operand, Prefixes, Width};
use crate::addr::GuestVa;
use crate::arch::regs::{
    GuestRegs, RFLAGS_AF, RFLAGS_CF, RFLAGS_DF, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF,
};

/// Arithmetic and logic of opcodes 00 to 3f and 80 to 83, by their number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
}

impl Alu {
    const fn from_number(n: u8) -> Option<Self> {
        Some(match n & 7 {
            0 => Self::Add,
            1 => Self::Or,
            2 => Self::Adc,
            3 => Self::Sbb,
            4 => Self::And,
            5 => Self::Sub,
            6 => Self::Xor,
            _ => return None, // CMP does not write.
        })
    }
}

/// Bit instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bit {
    Set,
    Reset,
    Complement,
}

/// What happens to the memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Becomes the source.
    Store,
    /// As `Store`, and moves `rdi`; `true`: repeated, counts `rcx` down.
    String(bool),
    /// Becomes the source, and the register gets the old value.
    Exchange(u8),
    /// Becomes a function of the old value and the source.
    Alu(Alu),
    /// Bit number `source` changes.
    Bit(Bit),
    /// Becomes the source if it equals `rax`; else `rax` gets the old value.
    CompareExchange,
    /// `cmpxchg8b`: as `CompareExchange`, with `edx:eax`.
    CompareExchange8b,
    /// The old value goes to the register, the sum to memory.
    ExchangeAdd(u8),
}

/// A store to an aligned part of one 8-byte entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOp {
    action: Action,
    width: Width,
    rex: u8,
    len: u8,
    /// Bits between the entry's lowest and the operand's lowest.
    shift: u8,
    /// Carry flag before, for ADC and SBB.
    carry: bool,
    /// Source operand, or bit number, within `width`.
    source: u64,
    /// What CMPXCHG compares with.
    expected: u64,
}

impl StoreOp {
    /// Decodes the instruction in `bytes` (at `rip`) if it is a store this room knows
    /// whose operand lies at `fault` and is naturally aligned; else `None`, and the
    /// page fault is the guest's.
    #[must_use]
    pub fn decode(bytes: &[u8], regs: &GuestRegs, fault: GuestVa) -> Option<Self> {
        if let Some(op) = Self::quick(bytes, regs, fault) {
            return Some(op);
        }
        let mut c = Cursor::new(bytes);
        let (p, opcode) = c.prefixes()?;
        if p.based || p.address32 {
            return None;
        }
        let op = match opcode {
            0x88 | 0x89 => from_register(&mut c, &p, regs, p.width(opcode), |_| Action::Store)?,
            0x86 | 0x87 => from_register(&mut c, &p, regs, p.width(opcode), Action::Exchange)?,
            0x0f => two_byte(&mut c, &p, regs)?,
            0xc6 | 0xc7 => {
                let (reg, op) = from_immediate(&mut c, &p, regs, p.width(opcode), None)?;
                (reg & 7 == 0).then_some(op)?
            }
            0x80 | 0x81 | 0x83 => {
                let imm = (opcode == 0x83).then_some(Width::Byte);
                let (reg, mut op) = from_immediate(&mut c, &p, regs, p.width(opcode), imm)?;
                op.op.action = Action::Alu(Alu::from_number(reg)?);
                op
            }
            0x00..=0x37 if opcode & 6 == 0 => {
                let alu = Alu::from_number(opcode >> 3)?;
                from_register(&mut c, &p, regs, p.width(opcode), |_| Action::Alu(alu))?
            }
            0xaa | 0xab => stos(&p, regs, p.width(opcode))?,
            _ => return None,
        };
        op.finish(&p, &c, regs, fault)
    }

    /// `xchg` or `mov` of a whole entry through a plain pointer: what Linux does nearly
    /// every time.
    #[inline]
    fn quick(bytes: &[u8], regs: &GuestRegs, fault: GuestVa) -> Option<Self> {
        let &[rex @ 0x48..=0x4f, opcode, modrm @ 0..=0x3f, ..] = bytes else {
            return None;
        };
        // No SIB byte, no displacement.
        if matches!(modrm & 7, 4 | 5) || fault.0 & 7 != 0 {
            return None;
        }
        let action = match opcode {
            0x87 => Action::Exchange(modrm >> 3 | (rex & 4) << 1),
            0x89 => Action::Store,
            _ => return None,
        };
        let register = |n| insn::register(regs, n, Width::Qword, rex);
        if register(modrm & 7 | (rex & 1) << 3) != fault.0 {
            return None;
        }
        Some(Self {
            action,
            width: Width::Qword,
            rex,
            len: 3,
            shift: 0,
            carry: false,
            source: register(modrm >> 3 | (rex & 4) << 1),
            expected: 0,
        })
    }

    /// The entry after the instruction, given the entry before. If they are equal
    /// there is nothing to write.
    #[must_use]
    #[inline]
    pub fn merge(&self, entry: u64) -> u64 {
        let old = self.operand(entry);
        let new = match self.action {
            Action::Store | Action::String(_) | Action::Exchange(_) => self.source,
            Action::Alu(alu) => self.alu(alu, old).0,
            Action::Bit(bit) => {
                let one = 1 << self.source;
                match bit {
                    Bit::Set => old | one,
                    Bit::Reset => old & !one,
                    Bit::Complement => old ^ one,
                }
            }
            Action::CompareExchange | Action::CompareExchange8b => {
                if old == self.expected {
                    self.source
                } else {
                    old
                }
            }
            Action::ExchangeAdd(_) => old.wrapping_add(self.source),
        };
        let mask = self.width.mask();
        entry & !(mask << self.shift) | (new & mask) << self.shift
    }

    /// Completes the instruction after the entry changed from `entry` to
    /// [`merge`](Self::merge)`(entry)`: registers, flags, `rip`. Returns whether the
    /// guest single-steps and is owed a debug exception.
    #[inline]
    pub fn commit(&self, entry: u64, regs: &mut GuestRegs) -> bool {
        let old = self.operand(entry);
        let mut len = self.len;
        match self.action {
            Action::Store => {}
            Action::Exchange(n) => insn::set_register(regs, n, self.width, self.rex, old),
            Action::String(repeated) => {
                let step = self.width.bytes();
                regs.rdi = if regs.rflags & RFLAGS_DF == 0 {
                    regs.rdi.wrapping_add(step)
                } else {
                    regs.rdi.wrapping_sub(step)
                };
                if repeated {
                    regs.rcx = regs.rcx.wrapping_sub(1);
                    if regs.rcx != 0 {
                        // The guest executes the rest itself, or faults again.
                        len = 0;
                    }
                }
            }
            Action::Alu(alu) => set_flags(regs, self.alu(alu, old).1),
            Action::Bit(_) => {
                let carry = old >> self.source & 1;
                regs.rflags = regs.rflags & !RFLAGS_CF | carry;
            }
            Action::CompareExchange => {
                let flags = subtract(self.expected, old, false, self.width).1;
                set_flags(regs, flags);
                if old != self.expected {
                    insn::set_register(regs, 0, self.width, self.rex, old);
                }
            }
            Action::CompareExchange8b => {
                regs.rflags &= !RFLAGS_ZF;
                if old == self.expected {
                    regs.rflags |= RFLAGS_ZF;
                } else {
                    regs.rax = old & u64::from(u32::MAX);
                    regs.rdx = old >> 32;
                }
            }
            Action::ExchangeAdd(n) => {
                let flags = add(old, self.source, false, self.width).1;
                insn::set_register(regs, n, self.width, self.rex, old);
                set_flags(regs, flags);
            }
        }
        insn::advance(regs, len)
    }

    /// The instruction's operand out of an entry.
    #[inline]
    const fn operand(&self, entry: u64) -> u64 {
        entry >> self.shift & self.width.mask()
    }

    #[inline]
    fn alu(&self, alu: Alu, old: u64) -> (u64, u64) {
        let (b, w) = (self.source, self.width);
        match alu {
            Alu::Add => add(old, b, false, w),
            Alu::Adc => add(old, b, self.carry, w),
            Alu::Sub => subtract(old, b, false, w),
            Alu::Sbb => subtract(old, b, self.carry, w),
            Alu::Or => logic(old | b, w),
            Alu::And => logic(old & b, w),
            Alu::Xor => logic(old ^ b, w),
        }
    }
}

/// A store whose length and address are yet to be checked.
struct Draft {
    op: StoreOp,
    target: Operand,
}

impl Draft {
    #[inline]
    fn finish(
        mut self,
        p: &Prefixes,
        c: &Cursor<'_>,
        regs: &GuestRegs,
        fault: GuestVa,
    ) -> Option<StoreOp> {
        let Operand::Memory {
            mut address,
            rip_relative,
        } = self.target
        else {
            return None;
        };
        let len = c.len();
        if rip_relative {
            address = address.wrapping_add(regs.rip).wrapping_add(len.into());
        }
        let aligned = fault.0 & (self.op.width.bytes() - 1) == 0;
        let lockable = !matches!(self.op.action, Action::Store | Action::String(_));
        if address != fault.0 || !aligned || (p.lock && !lockable) {
            return None;
        }
        self.op.len = len;
        self.op.shift = ((fault.0 & 7) * 8) as u8;
        Some(self.op)
    }
}

#[inline]
fn draft(action: Action, width: Width, p: &Prefixes, source: u64, target: Operand) -> Draft {
    Draft {
        op: StoreOp {
            action,
            width,
            rex: p.rex,
            len: 0,
            shift: 0,
            carry: false,
            source: source & width.mask(),
            expected: 0,
        },
        target,
    }
}

/// `op rm, reg`; the action may need the register's number.
#[inline]
fn from_register(
    c: &mut Cursor<'_>,
    p: &Prefixes,
    regs: &GuestRegs,
    width: Width,
    action: impl FnOnce(u8) -> Action,
) -> Option<Draft> {
    let m = c.modrm(p, regs)?;
    let source = insn::register(regs, m.reg, width, p.rex);
    let mut d = draft(action(m.reg), width, p, source, m.rm);
    d.op.carry = regs.rflags & RFLAGS_CF != 0;
    d.op.expected = regs.rax & width.mask();
    Some(d)
}

/// `op rm, imm`, with the ModRM's opcode extension.
#[inline]
fn from_immediate(
    c: &mut Cursor<'_>,
    p: &Prefixes,
    regs: &GuestRegs,
    width: Width,
    imm: Option<Width>,
) -> Option<(u8, Draft)> {
    let m = c.modrm(p, regs)?;
    let source = c.immediate(imm.unwrap_or(width))?;
    let mut d = draft(Action::Store, width, p, source, m.rm);
    d.op.carry = regs.rflags & RFLAGS_CF != 0;
    Some((m.reg, d))
}

/// Opcodes after 0f.
fn two_byte(c: &mut Cursor<'_>, p: &Prefixes, regs: &GuestRegs) -> Option<Draft> {
    let opcode = c.u8()?;
    let width = p.width(opcode);
    match opcode {
        0xb0 | 0xb1 => from_register(c, p, regs, width, |_| Action::CompareExchange),
        0xc0 | 0xc1 => from_register(c, p, regs, width, Action::ExchangeAdd),
        // MOVNTI
        0xc3 if !p.operand16 && p.rep.is_none() => {
            from_register(c, p, regs, p.wide(), |_| Action::Store)
        }
        0xab => bit_register(c, p, regs, Bit::Set),
        0xb3 => bit_register(c, p, regs, Bit::Reset),
        0xbb => bit_register(c, p, regs, Bit::Complement),
        0xba => {
            let (reg, mut d) = from_immediate(c, p, regs, p.wide(), Some(Width::Byte))?;
            d.op.action = Action::Bit(match reg & 7 {
                5 => Bit::Set,
                6 => Bit::Reset,
                7 => Bit::Complement,
                _ => return None,
            });
            d.op.source &= u64::from(d.op.width.bits() - 1);
            Some(d)
        }
        0xc7 if !p.w() => {
            let m = c.modrm(p, regs)?;
            if m.reg & 7 != 1 {
                return None;
            }
            let source = regs.rcx << 32 | regs.rbx & u64::from(u32::MAX);
            let mut d = draft(Action::CompareExchange8b, Width::Qword, p, source, m.rm);
            d.op.expected = regs.rdx << 32 | regs.rax & u64::from(u32::MAX);
            Some(d)
        }
        _ => None,
    }
}

/// `bts rm, reg` and kin. The bit number is signed and unbounded, so it moves the
/// address by whole operands.
fn bit_register(c: &mut Cursor<'_>, p: &Prefixes, regs: &GuestRegs, bit: Bit) -> Option<Draft> {
    let width = p.wide();
    let m = c.modrm(p, regs)?;
    let raw = insn::register(regs, m.reg, width, p.rex);
    let unused = 64 - width.bits();
    let number = (raw << unused).cast_signed() >> unused;
    let units = number >> width.bits().trailing_zeros();
    let number = number.cast_unsigned() & u64::from(width.bits() - 1);
    let Operand::Memory {
        address,
        rip_relative,
    } = m.rm
    else {
        return None;
    };
    let step = units.cast_unsigned().wrapping_mul(width.bytes());
    let target = Operand::Memory {
        address: address.wrapping_add(step),
        rip_relative,
    };
    Some(draft(Action::Bit(bit), width, p, number, target))
}

/// `stos`, with or without repeat.
fn stos(p: &Prefixes, regs: &GuestRegs, width: Width) -> Option<Draft> {
    let repeated = p.rep.is_some();
    if repeated && regs.rcx == 0 {
        return None; // Such a `rep stos` stores nothing and cannot have faulted.
    }
    let target = Operand::Memory {
        address: regs.rdi,
        rip_relative: false,
    };
    Some(draft(Action::String(repeated), width, p, regs.rax, target))
}

/// Flags arithmetic sets.
const ARITHMETIC: u64 = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;

#[inline]
fn set_flags(regs: &mut GuestRegs, flags: u64) {
    regs.rflags = regs.rflags & !ARITHMETIC | flags;
}

/// SF, ZF and PF of a result of `width`.
#[inline]
fn result_flags(result: u64, width: Width) -> u64 {
    let result = result & width.mask();
    let mut flags = 0;
    if result == 0 {
        flags |= RFLAGS_ZF;
    }
    if result >> (width.bits() - 1) != 0 {
        flags |= RFLAGS_SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= RFLAGS_PF;
    }
    flags
}

#[inline]
fn logic(result: u64, width: Width) -> (u64, u64) {
    (result, result_flags(result, width))
}

/// `a + b + carry` and its flags; `a` and `b` have no bits above `width`.
#[inline]
fn add(a: u64, b: u64, carry: bool, width: Width) -> (u64, u64) {
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let sum = wide as u64 & width.mask();
    let mut flags = result_flags(sum, width);
    if wide >> width.bits() != 0 {
        flags |= RFLAGS_CF;
    }
    if ((a ^ sum) & (b ^ sum)) >> (width.bits() - 1) & 1 != 0 {
        flags |= RFLAGS_OF;
    }
    (sum, flags | (a ^ b ^ sum) & RFLAGS_AF)
}

/// `a - b - borrow` and its flags; `a` and `b` have no bits above `width`.
#[inline]
fn subtract(a: u64, b: u64, borrow: bool, width: Width) -> (u64, u64) {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow.into()) & width.mask();
    let mut flags = result_flags(difference, width);
    if u128::from(a) < u128::from(b) + u128::from(borrow) {
        flags |= RFLAGS_CF;
    }
    if ((a ^ b) & (a ^ difference)) >> (width.bits() - 1) & 1 != 0 {
        flags |= RFLAGS_OF;
    }
    (difference, flags | (a ^ b ^ difference) & RFLAGS_AF)
}

#[cfg(test)]
mod tests;
