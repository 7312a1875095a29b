//! Absent entries on a CPU that reads what they name.

use super::super::absent::Absent;
use super::*;

/// Absent entries that name nothing: zero with software bits, beyond RAM, inverted.
const HARMLESS: [u64; 4] = [0, pte::NX | 0xe00, 1 << 20, !0x1234_5000 & pte::FRAME];
/// Those that name memory, one only if the CPU looks at 36 bits.
const NAMING: [u64; 3] = [0x5000, 0xf_f000 | pte::PSE, 1 << 36 | 0x5000];

#[test]
fn what_names_memory_is_refused_and_all_else_is_not() {
    let absent = Absent::beyond(MachAddr::new(1 << 20), 36);
    for entry in HARMLESS {
        assert_eq!(absent.check(entry), Ok(()), "{entry:#x}");
    }
    for entry in NAMING {
        assert_eq!(absent.check(entry), Err(PtError::NamesMemory), "{entry:#x}");
        assert_eq!(Absent::ANYTHING.check(entry), Ok(()), "{entry:#x}");
    }
    // As many bits as CPUID says may be more than the cache looks at.
    let wide = Absent::beyond(MachAddr::new(1 << 32), 52);
    assert_eq!(wide.check(1 << 44 | 0x5000), Err(PtError::NamesMemory));
}

#[test]
fn no_store_puts_one_into_a_table() {
    let g = Guest::new(64, 0);
    let rights = g.rights_beside_leaks();
    let va = GuestVa(0x40_0000);
    let data = g.page();
    let root = g.space_with(&rights, &[(va, data, pte::RW | pte::US)]);
    let mut tables = vec![root];
    for level in [4, 3, 2] {
        tables.push(pte::frame(g.peek(*tables.last().unwrap(), va.index(level))));
    }
    for &table in &tables {
        let index = if table == root { 5 } else { 511 };
        let set = |new| {
            update::store(
                &g.mm,
                &rights,
                entry_addr(table, index),
                new,
                Store::Set,
                &Budget::endless(),
            )
        };
        for new in NAMING {
            assert_eq!(set(new), Err(PtError::NamesMemory.into()), "{new:#x}");
            assert_eq!(g.peek(table, index), 0);
        }
        for new in HARMLESS {
            assert!(set(new).is_ok(), "{new:#x}");
            assert_eq!(g.peek(table, index), new);
        }
    }
    // Over one that is present, which stays.
    let l1 = slot(tables[3], va.index(1));
    let before = g.peek(l1.table, l1.index);
    let stored = update::write_l1(&g.mm, &rights, l1, 0x5000, Store::Set);
    assert_eq!(stored, Err(PtError::NamesMemory));
    assert_eq!(g.peek(l1.table, l1.index), before);
    verify(&g, &[]);
}

#[test]
fn no_table_with_one_is_validated() {
    for level in 1..=4 {
        for index in [0, 17, 511] {
            let g = Guest::new(64, 0);
            let table = g.page();
            g.poke(table, index, NAMING[0]);
            // Something to give back, before and beside it.
            if level == 1 {
                for index in [index ^ 1, 100] {
                    g.poke(table, index, pte::make(g.page(), pte::P | pte::RW));
                }
            }
            let rights = g.rights_beside_leaks();
            match pin(&g.mm, &rights, table, level, &Budget::endless()) {
                Err(Stop::Failed(PtError::NamesMemory, leftover)) => {
                    if let Some(l) = leftover {
                        release_table(&g.mm, l.mfn, l.level, &Budget::endless()).unwrap();
                    }
                }
                other => panic!("level {level}, entry {index}: {other:?}"),
            }
            verify(&g, &[]);
            pin(&g.mm, &g.rights(), table, level, &Budget::endless()).unwrap();
        }
    }
}
