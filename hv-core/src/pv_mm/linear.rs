//! What an entry of a table above L1 refers to: the next lower table, or (a *linear page
//! table*) a table of its own level.
//!
//! Guests may see their page tables through themselves: an entry of an L4 table that
//! names the table itself makes every L1 entry appear as an array in virtual memory. Such
//! entries must be read-only, so nothing below them is writable either.
//!
//! An entry that names its own table holds nothing, or the table could never be taken
//! apart. One that names another table of the same level holds a reference to its type
//! and both tables count it: a table with such entries is not itself shown by any. So
//! taking tables apart goes one step sideways at most, however a guest links them
//! (XSA-240), and table locks of one level are never taken in a circle.

use super::demote::{release_spare, release_table};
use super::promote::acquire_table;
use super::{Budget, Leftover, PtError, Rights, Stop, pte};
use crate::addr::Mfn;
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::frame_table::FrameType;

/// Takes what the present, checked entry of `table` (of `level` 2 to 4, locked by the
/// caller) will hold.
///
/// # Errors
/// As [`acquire_table`]; [`Stop::Interrupted`] only for tables of the next level.
#[inline]
pub(super) fn link<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    (table, level): (Mfn, u8),
    entry: u64,
    budget: &Budget,
) -> Result<(), Stop> {
    match acquire_table(mm, rights, pte::frame(entry), level - 1, budget) {
        Err(Stop::Failed(PtError::InUseAs(ty), None)) if ty == FrameType::table(level) => {
            link_linear(mm, rights, (table, level), entry)
        }
        other => other,
    }
}

/// As [`link`], of a frame that is a table of `level` itself.
#[cold]
fn link_linear<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    (table, level): (Mfn, u8),
    entry: u64,
) -> Result<(), Stop> {
    let ty = FrameType::table(level);
    let refused = Stop::from(PtError::InUseAs(ty));
    if entry & pte::RW != 0 {
        return Err(refused);
    }
    let target = pte::frame(entry);
    if target == table {
        return Ok(());
    }
    let (from, to) = (mm.record(table), mm.record(target));
    if !from.add_linear_entry() {
        return Err(refused);
    }
    if !to.share_linear(ty) {
        from.drop_linear_entry();
        return Err(refused);
    }
    if to.owner() != rights.tables {
        // Freed and another's table between the two looks. Its owner may have let go of it
        // meanwhile: then this is the last reference.
        from.drop_linear_entry();
        to.drop_linear_use();
        let left = Leftover { mfn: target, level };
        return Err(Stop::Failed(PtError::NotOwned, Some(left)));
    }
    Ok(())
}

/// The type reference that `entry`, which has left `table` (of `level`, still locked by
/// the caller), held and that must now be given back. `half`: it is of a table that was
/// left unfinished.
#[inline]
pub(super) fn unlink<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    (table, level): (Mfn, u8),
    entry: u64,
    half: bool,
) -> Option<Leftover> {
    let target = pte::frame(entry);
    let frame = mm.record(target);
    let lower = Leftover {
        mfn: target,
        level: level - 1,
    };
    // The entry's reference keeps the type what it is.
    if frame.kind().ty() != FrameType::table(level) {
        return Some(lower);
    }
    if target == table {
        return None;
    }
    // A linear entry is half only once this has been done.
    if !half {
        frame.drop_linear_use();
        mm.record(table).drop_linear_entry();
    }
    Some(Leftover { mfn: target, level })
}

/// Gives back what `entry` of `table` held; see [`unlink`].
///
/// # Errors
/// As [`release_table`]; then the entry is half.
#[inline]
pub(super) fn release_entry<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    table: (Mfn, u8),
    entry: u64,
    half: bool,
    budget: &Budget,
) -> Result<(), Leftover> {
    match unlink(mm, table, entry, half) {
        Some(left) => release_table(mm, left.mfn, left.level, budget),
        None => Ok(()),
    }
}

/// Gives back what `entry` of `table`, which was left half and is whole now, holds once too often.
pub(super) fn release_spare_entry<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    table: (Mfn, u8),
    entry: u64,
) {
    if let Some(left) = unlink(mm, table, entry, true) {
        release_spare(mm, left.mfn, left.level);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unfinished;
    use super::super::audit::{self, Held};
    use super::super::pin::{pin, unpin};
    use super::super::testing::Guest;
    use super::super::update::{self, Store};
    use super::*;
    use crate::addr::MachAddr;

    const SHOW: u64 = pte::P | pte::US;
    const LINK: u64 = pte::P | pte::US | pte::RW;

    fn verify(g: &Guest, others: &[(Mfn, Held)]) {
        let mut findings = Vec::new();
        audit::audit(&g.mm, &|f| others.iter().for_each(|&(m, h)| f(m, h)), |x| {
            findings.push(x);
        });
        assert!(findings.is_empty(), "{findings:?}");
    }

    fn store(g: &Guest, table: Mfn, index: u64, entry: u64) -> Result<(), PtError> {
        let addr = MachAddr::new(table.addr().raw() + index * 8);
        match update::store(
            &g.mm,
            &g.rights(),
            addr,
            entry,
            Store::Set,
            &Budget::endless(),
        ) {
            Ok(done) => {
                assert!(done.leftover.is_none());
                Ok(())
            }
            Err(Stop::Failed(e, None)) => Err(e),
            Err(stop) => panic!("{stop:?}"),
        }
    }

    #[test]
    fn a_table_shows_itself_read_only() {
        for level in 2..=4 {
            let g = Guest::new(64, 0);
            let refused = Err(PtError::InUseAs(FrameType::table(level)));
            let table = g.page();
            pin(&g.mm, &g.rights(), table, level, &Budget::endless()).unwrap();
            assert_eq!(store(&g, table, 5, pte::make(table, LINK)), refused);
            store(&g, table, 5, pte::make(table, SHOW)).unwrap();
            verify(&g, &[]);
            // XSA-182: nor does it become writable afterwards.
            for more in [0, pte::A, pte::D, pte::NX, 1 << 9] {
                assert_eq!(store(&g, table, 5, pte::make(table, LINK | more)), refused);
                store(&g, table, 5, pte::make(table, SHOW | more)).unwrap();
            }
            store(&g, table, 6, pte::make(table, SHOW)).unwrap();
            verify(&g, &[]);
            // Nothing keeps it but the pin; the entry may also be there from the start.
            unpin(&g.mm, g.id, table, &Budget::endless()).unwrap();
            assert_eq!(g.mm.record(table).kind().count(), 0);
            verify(&g, &[]);
            pin(&g.mm, &g.rights(), table, level, &Budget::endless()).unwrap();
            store(&g, table, 5, 0).unwrap();
            unpin(&g.mm, g.id, table, &Budget::endless()).unwrap();
            g.poke(table, 6, pte::make(table, LINK));
            match pin(&g.mm, &g.rights(), table, level, &Budget::endless()) {
                Err(Stop::Failed(e, left)) => {
                    assert_eq!(Err(e), refused);
                    let left = left.expect("five entries were looked at");
                    release_table(&g.mm, left.mfn, left.level, &Budget::endless()).unwrap();
                }
                other => panic!("{other:?}"),
            }
            verify(&g, &[]);
        }
        // An L1 table needs none of this: it is a page like others.
        let g = Guest::new(64, 0);
        let (l1, l2) = (g.page(), g.page());
        pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
        pin(&g.mm, &g.rights(), l2, 2, &Budget::endless()).unwrap();
        store(&g, l1, 0, pte::make(l1, SHOW)).unwrap();
        store(&g, l1, 1, pte::make(l2, SHOW)).unwrap();
        verify(&g, &[]);
    }

    #[test]
    fn tables_show_others_one_step_deep() {
        let g = Guest::new(64, 0);
        let [a, b, c, d] = [(); 4].map(|()| g.page());
        for table in [a, b, c, d] {
            pin(&g.mm, &g.rights(), table, 4, &Budget::endless()).unwrap();
        }
        let refused = Err(PtError::InUseAs(FrameType::L4));
        assert_eq!(store(&g, a, 0, pte::make(b, LINK)), refused);
        store(&g, a, 0, pte::make(b, SHOW)).unwrap();
        store(&g, a, 1, pte::make(b, SHOW)).unwrap();
        store(&g, c, 0, pte::make(b, SHOW)).unwrap();
        verify(&g, &[]);
        // XSA-240: who is shown shows none, who shows is not shown.
        assert_eq!(store(&g, b, 0, pte::make(d, SHOW)), refused);
        assert_eq!(store(&g, d, 0, pte::make(a, SHOW)), refused);
        store(&g, b, 0, pte::make(b, SHOW)).unwrap();
        // It stays a table while it is shown.
        unpin(&g.mm, g.id, b, &Budget::endless()).unwrap();
        assert_eq!(g.mm.record(b).kind().count(), 3);
        verify(&g, &[]);
        store(&g, a, 0, 0).unwrap();
        store(&g, a, 1, 0).unwrap();
        store(&g, d, 0, pte::make(a, SHOW)).unwrap();
        verify(&g, &[]);
        // The last one taken apart takes it along.
        unpin(&g.mm, g.id, c, &Budget::endless()).unwrap();
        assert_eq!(g.mm.record(b).kind().count(), 0);
        verify(&g, &[]);
        // What is no table yet does not become one this way.
        assert_eq!(
            store(&g, d, 1, pte::make(b, SHOW)),
            Ok(()),
            "as the next lower table"
        );
        store(&g, d, 1, 0).unwrap();
        unpin(&g.mm, g.id, d, &Budget::endless()).unwrap();
        unpin(&g.mm, g.id, a, &Budget::endless()).unwrap();
        verify(&g, &[]);
    }

    /// The shown table's own contents are taken apart in several goes.
    #[test]
    fn the_last_reference_to_a_shown_table_goes_in_stretches() {
        let g = Guest::new(64, 0);
        let (a, b) = (g.page(), g.page());
        for n in 0..8 {
            g.poke(b, n, pte::make(g.page(), LINK));
        }
        pin(&g.mm, &g.rights(), a, 4, &Budget::endless()).unwrap();
        pin(&g.mm, &g.rights(), b, 4, &Budget::endless()).unwrap();
        store(&g, a, 0, pte::make(b, SHOW)).unwrap();
        unpin(&g.mm, g.id, b, &Budget::endless()).unwrap();
        let mut unfinished = Unfinished::new();
        // Enough for a few of the eight.
        let budget = Budget::new(4_500);
        let leftover = unpin(&g.mm, g.id, a, &budget).unwrap().unwrap();
        unfinished.retire(&g.mm, leftover);
        verify(&g, &[(a, Held::Type(FrameType::L4))]);
        // Somebody makes the shown one whole again meanwhile, or wants the other back.
        pin(&g.mm, &g.rights(), b, 4, &Budget::endless()).unwrap();
        verify(&g, &[(a, Held::Type(FrameType::L4))]);
        pin(&g.mm, &g.rights(), a, 4, &Budget::endless()).unwrap();
        verify(&g, &[(a, Held::Type(FrameType::L4))]);
        unfinished.finish(&g.mm, &Budget::endless()).unwrap();
        verify(&g, &[]);
        unpin(&g.mm, g.id, b, &Budget::endless()).unwrap();
        unpin(&g.mm, g.id, a, &Budget::endless()).unwrap();
        verify(&g, &[]);
        assert_eq!(g.mm.record(b).kind().count(), 0);
    }
}
