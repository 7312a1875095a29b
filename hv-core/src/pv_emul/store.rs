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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: u64 = 0x8000_0001_2345_6067;

    fn regs() -> GuestRegs {
        GuestRegs {
            rax: 0x1122_3344_5566_7788,
            rcx: 0x9,
            rdx: 0xaabb_ccdd_eeff_0011,
            rbx: 0x40,
            rdi: 0xffff_8880_0000_1230,
            rsi: 0xffff_8880_0000_1000,
            rip: 0xffff_ffff_8100_0000,
            rflags: 0x202,
            ..GuestRegs::default()
        }
    }

    /// Decodes at `va`, applies to [`ENTRY`]; the new entry and the registers after.
    fn run(bytes: &[u8], regs: &GuestRegs, va: u64) -> Option<(u64, GuestRegs)> {
        let op = StoreOp::decode(bytes, regs, GuestVa(va))?;
        let mut after = *regs;
        op.commit(ENTRY, &mut after);
        Some((op.merge(ENTRY), after))
    }

    #[test]
    fn the_quick_way_is_the_long_way() {
        let r = GuestRegs {
            r9: 0xffff_8880_0000_1230,
            ..regs()
        };
        for rex in 0x40..=0x4f {
            for opcode in [0x87, 0x89] {
                for modrm in 0..=0xff {
                    let bytes = [rex, opcode, modrm, 0, 0, 0, 0, 0];
                    let fault = GuestVa(r.rdi);
                    let Some(quick) = StoreOp::quick(&bytes, &r, fault) else {
                        continue;
                    };
                    // The operand-size prefix without effect takes the long way.
                    let long: Vec<u8> = [0x2e].into_iter().chain(bytes).collect();
                    let slow = StoreOp::decode(&long, &r, fault).expect("the same");
                    let (mut a, mut b) = (r, r);
                    quick.commit(ENTRY, &mut a);
                    slow.commit(ENTRY, &mut b);
                    b.rip -= 1;
                    assert_eq!((a, quick.merge(ENTRY)), (b, slow.merge(ENTRY)));
                }
            }
        }
    }

    #[test]
    fn moves() {
        let r = regs();
        let (at, odd) = (r.rdi, r.rdi + 4);
        for (bytes, va, new) in [
            // mov %rax,(%rdi)
            (&[0x48, 0x89, 0x07][..], at, r.rax),
            // mov %eax,4(%rdi)
            (&[0x89, 0x47, 0x04], odd, 0x5566_7788_2345_6067),
            // mov %ax,(%rdi)
            (&[0x66, 0x89, 0x07], at, 0x8000_0001_2345_7788),
            // mov %ah,(%rdi)
            (&[0x88, 0x27], at, 0x8000_0001_2345_6077),
            // mov %spl,(%rdi)
            (&[0x40, 0x88, 0x27], at, 0x8000_0001_2345_6000),
            // movq $-2,(%rdi)
            (
                &[0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff],
                at,
                u64::MAX - 1,
            ),
            // movb $0x99,1(%rdi)
            (&[0xc6, 0x47, 0x01, 0x99], at + 1, 0x8000_0001_2345_9967),
            // mov %rdx,(%rsi,%rbx,8), i.e. 0x1000 + 0x200
            (&[0x48, 0x89, 0x14, 0xde], r.rsi + 0x200, r.rdx),
            // movnti %rdx,(%rdi)
            (&[0x48, 0x0f, 0xc3, 0x17], at, r.rdx),
            // mov %rdx,0x10(%rip)
            (&[0x48, 0x89, 0x15, 0x11, 0, 0, 0], r.rip + 0x18, r.rdx),
        ] {
            let (entry, after) = run(bytes, &r, va).expect("decodes");
            assert_eq!(entry, new, "{bytes:x?}");
            let expected = GuestRegs {
                rip: r.rip + bytes.len() as u64,
                ..r
            };
            assert_eq!(after, expected, "{bytes:x?}");
        }
    }

    #[test]
    fn exchange_gives_the_old_value() {
        let r = regs();
        // xchg %rax,(%rdi)
        let (entry, after) = run(&[0x48, 0x87, 0x07], &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rax), (r.rax, ENTRY));
        // xchg %edx,(%rdi): upper half of rdx cleared
        let (entry, after) = run(&[0x87, 0x17], &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rdx), (0x8000_0001_eeff_0011, 0x2345_6067));
    }

    #[test]
    fn locked_logic_sets_flags() {
        let r = regs();
        // lock andb $0xfd,(%rdi)
        let (entry, after) = run(&[0xf0, 0x80, 0x27, 0xfd], &r, r.rdi).expect("decodes");
        assert_eq!(entry, ENTRY & !2);
        assert_eq!(
            after.rflags,
            0x202
                | if 0x65_u8.count_ones().is_multiple_of(2) {
                    4
                } else {
                    0
                }
        );
        // lock and %rax,(%rdi) with rax = 0
        let zero = GuestRegs { rax: 0, ..r };
        let (entry, after) = run(&[0xf0, 0x48, 0x21, 0x07], &zero, r.rdi).expect("decodes");
        assert_eq!((entry, after.rflags & RFLAGS_ZF), (0, RFLAGS_ZF));
        // lock orq $2,(%rdi); xorq
        let (entry, _) = run(&[0xf0, 0x48, 0x83, 0x0f, 0x08], &r, r.rdi).expect("decodes");
        assert_eq!(entry, ENTRY | 8);
        let (entry, _) = run(&[0x48, 0x83, 0x37, 0x01], &r, r.rdi).expect("decodes");
        assert_eq!(entry, ENTRY ^ 1);
        // CMP is not a store.
        assert!(run(&[0x48, 0x83, 0x3f, 0x01], &r, r.rdi).is_none());
        assert!(run(&[0x48, 0x39, 0x07], &r, r.rdi).is_none());
    }

    #[test]
    fn bits() {
        let r = regs();
        // lock btrq $1,(%rdi)
        let (entry, after) =
            run(&[0xf0, 0x48, 0x0f, 0xba, 0x37, 0x01], &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rflags), (ENTRY & !2, 0x203));
        // lock bts %rcx,(%rdi): bit 9 was clear
        let (entry, after) = run(&[0xf0, 0x48, 0x0f, 0xab, 0x0f], &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rflags), (ENTRY | 1 << 9, 0x202));
        // btc %rbx,(%rsi): bit 64 is bit 0 of the next quadword
        let (entry, _) = run(&[0x48, 0x0f, 0xbb, 0x1e], &r, r.rsi + 8).expect("decodes");
        assert_eq!(entry, ENTRY ^ 1);
        assert!(run(&[0x48, 0x0f, 0xbb, 0x1e], &r, r.rsi).is_none());
        // btr with a negative bit number reaches down
        let down = GuestRegs { rcx: u64::MAX, ..r };
        let (entry, _) = run(&[0x48, 0x0f, 0xb3, 0x0f], &down, r.rdi - 8).expect("decodes");
        assert_eq!(entry, ENTRY & !(1 << 63));
        // BT is not a store.
        assert!(run(&[0x48, 0x0f, 0xba, 0x27, 0x01], &r, r.rdi).is_none());
    }

    #[test]
    fn compare_exchange() {
        let r = regs();
        // lock cmpxchg %rdx,(%rdi): rax differs
        let code = [0xf0, 0x48, 0x0f, 0xb1, 0x17];
        let (entry, after) = run(&code, &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rax), (ENTRY, ENTRY));
        assert_eq!(after.rflags & RFLAGS_ZF, 0);
        let equal = GuestRegs { rax: ENTRY, ..r };
        let (entry, after) = run(&code, &equal, r.rdi).expect("decodes");
        assert_eq!((entry, after.rax), (r.rdx, ENTRY));
        assert_eq!(after.rflags, 0x202 | RFLAGS_ZF | RFLAGS_PF);
        // lock cmpxchg8b (%rdi)
        let equal = GuestRegs {
            rax: ENTRY & 0xffff_ffff,
            rdx: ENTRY >> 32,
            rcx: 5,
            rbx: 6,
            ..r
        };
        let code = [0xf0, 0x0f, 0xc7, 0x0f];
        let (entry, after) = run(&code, &equal, r.rdi).expect("decodes");
        assert_eq!((entry, after.rflags), (5 << 32 | 6, 0x202 | RFLAGS_ZF));
        let (entry, after) = run(&code, &r, r.rdi).expect("decodes");
        assert_eq!(entry, ENTRY);
        assert_eq!((after.rax, after.rdx), (ENTRY & 0xffff_ffff, ENTRY >> 32));
    }

    #[test]
    fn exchange_add() {
        let r = regs();
        // lock xadd %rdx,(%rdi)
        let (entry, after) = run(&[0xf0, 0x48, 0x0f, 0xc1, 0x17], &r, r.rdi).expect("decodes");
        assert_eq!((entry, after.rdx), (ENTRY.wrapping_add(r.rdx), ENTRY));
        assert_ne!(after.rflags & RFLAGS_CF, 0);
    }

    #[test]
    fn repeated_stos_does_one_element() {
        let r = regs();
        // rep stos %rax,(%rdi)
        let (entry, after) = run(&[0xf3, 0x48, 0xab], &r, r.rdi).expect("decodes");
        assert_eq!(entry, r.rax);
        assert_eq!((after.rdi, after.rcx, after.rip), (r.rdi + 8, 8, r.rip));
        let last = GuestRegs { rcx: 1, ..r };
        let (_, after) = run(&[0xf3, 0x48, 0xab], &last, r.rdi).expect("decodes");
        assert_eq!((after.rcx, after.rip), (0, r.rip + 3));
        let down = GuestRegs {
            rflags: RFLAGS_DF,
            ..r
        };
        let (_, after) = run(&[0xab], &down, r.rdi).expect("decodes");
        assert_eq!((after.rdi, after.rcx, after.rip), (r.rdi - 4, 9, r.rip + 1));
    }

    #[test]
    fn refuses_what_is_not_a_known_store_at_the_fault() {
        let r = regs();
        for (bytes, va) in [
            (&[0x48, 0x89, 0x07][..], r.rdi + 8),   // elsewhere
            (&[0x48, 0x89, 0x47, 0x04], r.rdi + 4), // unaligned
            (&[0x48, 0x89, 0xc7], r.rdi),           // to a register
            (&[0x65, 0x48, 0x89, 0x07], r.rdi),     // GS-based
            (&[0x67, 0x48, 0x89, 0x07], r.rdi),     // 32-bit address
            (&[0xf0, 0x48, 0x89, 0x07], r.rdi),     // cannot be locked
            (&[0x48, 0x8b, 0x07], r.rdi),           // a load
            (&[0x0f, 0x11, 0x07], r.rdi),           // SSE
            (&[0x48, 0x89], r.rdi),                 // cut short
            (&[], r.rdi),
        ] {
            assert!(run(bytes, &r, va).is_none(), "{bytes:x?}");
        }
    }

    #[test]
    fn single_step_is_reported() {
        let mut r = regs();
        let op = StoreOp::decode(&[0x48, 0x89, 0x07], &r, GuestVa(r.rdi)).expect("decodes");
        assert!(!op.commit(ENTRY, &mut r));
        r.rflags |= crate::arch::regs::RFLAGS_TF | crate::arch::regs::RFLAGS_RF;
        assert!(op.commit(ENTRY, &mut r));
        assert_eq!(r.rflags & crate::arch::regs::RFLAGS_RF, 0);
    }

    /// Addition and subtraction with flags from the definitions, a bit at a time.
    fn bitwise(a: u64, b: u64, carry: bool, width: Width) -> (u64, u64) {
        let (mut sum, mut carry) = (0, u64::from(carry));
        let mut into = [0; 65];
        for n in 0..width.bits() {
            into[n as usize] = carry;
            let (x, y) = (a >> n & 1, b >> n & 1);
            sum |= (x ^ y ^ carry) << n;
            carry = u64::from(x + y + carry > 1);
        }
        let mut flags = result_flags(sum, width) | carry;
        if into[4] != 0 {
            flags |= RFLAGS_AF;
        }
        if into[width.bits() as usize - 1] != carry {
            flags |= RFLAGS_OF;
        }
        (sum, flags)
    }

    fn widths() -> impl Strategy<Value = Width> {
        prop_oneof![
            Just(Width::Byte),
            Just(Width::Word),
            Just(Width::Dword),
            Just(Width::Qword)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 2000 }))]

        #[test]
        fn arithmetic(a: u64, b: u64, carry: bool, w in widths()) {
            let (a, b) = (a & w.mask(), b & w.mask());
            prop_assert_eq!(add(a, b, carry, w), bitwise(a, b, carry, w));
            // a - b is a + !b + 1, with carry and half carry inverted.
            let (sum, flags) = bitwise(a, !b & w.mask(), !carry, w);
            prop_assert_eq!(subtract(a, b, carry, w), (sum, flags ^ RFLAGS_CF ^ RFLAGS_AF));
        }

        #[test]
        fn any_bytes_stay_within_the_operand(
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
            address in 0u64..0x1000,
            entry: u64,
        ) {
            // All registers alike, so that random operands hit the fault address often.
            let regs = GuestRegs { rax: address, rcx: address, rdx: address, rbx: address,
                rsi: address, rdi: address, rbp: address, rsp: address, ..GuestRegs::default() };
            if let Some(op) = StoreOp::decode(&bytes, &regs, GuestVa(address)) {
                let changed = op.merge(entry) ^ entry;
                prop_assert_eq!(changed & !(op.width.mask() << op.shift), 0);
                let mut after = regs;
                op.commit(entry, &mut after);
                prop_assert!(after.rip <= 15);
            }
        }
    }
}
