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
    let (entry, after) = run(&[0xf0, 0x48, 0x0f, 0xba, 0x37, 0x01], &r, r.rdi).expect("decodes");
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
