//! Instructions of guests. The first bytes are registers, the rest code.

use hv_core::addr::GuestVa;
use hv_core::arch::regs::GuestRegs;
use hv_core::pv_emul::{Decoded, StoreOp};

/// Longest instruction, bytes. Source: Intel SDM volume 2, 2.3.11.
const LONGEST: u8 = 15;

pub fn decode(data: &[u8]) {
    let Some((head, code)) = data.split_first_chunk::<33>() else {
        return;
    };
    let word = |n: usize| {
        let bytes = head[n * 8..].first_chunk().expect("four words");
        u64::from_le_bytes(*bytes)
    };
    let mut regs = GuestRegs {
        rax: word(0),
        rcx: word(1),
        rdi: word(2),
        rflags: word(3),
        rip: 0x1000,
        ..GuestRegs::default()
    };
    if let Some(decoded) = Decoded::at(code) {
        assert!((1..=LONGEST).contains(&decoded.len) && usize::from(decoded.len) <= code.len());
    }
    let _ = Decoded::forced(code);
    let entry = word(1) ^ word(3);
    for fault in [
        regs.rax,
        regs.rdi,
        regs.rdi.wrapping_add(u64::from(head[32])),
    ] {
        let Some(store) = StoreOp::decode(code, &regs, GuestVa(fault)) else {
            continue;
        };
        let _ = store.merge(entry);
        store.commit(entry, &mut regs);
        let moved = regs.rip.wrapping_sub(0x1000);
        assert!(moved <= u64::from(LONGEST) && moved <= code.len() as u64);
        regs.rip = 0x1000;
    }
}

pub fn samples() -> Vec<Vec<u8>> {
    let mut head = Vec::new();
    for word in [0x8000_u64, 2, 0x8008, 0x202] {
        head.extend(word.to_le_bytes());
    }
    head.push(8);
    [
        // Privileged: in, out, rep ins, cr, dr, msr, cpuid, xsetbv.
        &b"\xe4\x60"[..],
        b"\x66\xef",
        b"\xf3\x6c",
        b"\x0f\x20\xd8",
        b"\x0f\x23\xf8",
        b"\x0f\x32",
        b"\x0f\x0bxen\x0f\xa2",
        b"\x0f\x01\xd1",
        // Stores: mov, xchg, lock xadd, lock cmpxchg, bts, rep stos, or with an immediate.
        b"\x48\x89\x07",
        b"\x48\x87\x0f",
        b"\xf0\x48\x0f\xc1\x07",
        b"\xf0\x48\x0f\xb1\x4f\x08",
        b"\x48\x0f\xba\x2f\x05",
        b"\xf3\x48\xab",
        b"\x81\x0f\x11\x22\x33\x44",
    ]
    .map(|code| [&head, code].concat())
    .to_vec()
}
