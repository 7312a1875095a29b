//! Cache types of what a domain maps.

use super::*;
use crate::mm::frame_alloc::Request;

/// Eight cache types on the guest's own memory, on memory of another domain that it may map, on
/// pages that the hypervisor made, and on device memory of both kinds, as Xen 4.17 stores them.
#[test]
fn cache_types_of_every_kind_of_frame() {
    let g = Guest::new(64, 64);
    let (l1, own) = (g.page(), g.page());
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    let other = DomId(2);
    g.mm.accounts.open(other).unwrap().set_max(8);
    let theirs = g.mm.alloc_for(other, Request::anywhere(0)).unwrap();
    let shared = g.mm.alloc_shared(g.id).unwrap();
    let made = [Held::Ref, Held::Type(FrameType::Writable)].map(|held| (shared, held));
    let with_devices = g.rights_with_devices();
    let theirs_too = Rights {
        frames: other,
        ..g.rights_with_devices()
    };
    let as_device = Rights {
        frames: DomId::IO,
        ..g.rights_with_devices()
    };
    for index in 0..8 {
        let cache = ((index & 3) * pte::PWT) | ((index >> 2) * pte::PAT);
        let entry = |mfn| pte::make(mfn, pte::P | pte::RW | pte::US | cache);
        let stored = |rights: &Rights<'_>, mfn| {
            let at = slot(l1, 7);
            update::write_l1(&g.mm, rights, at, entry(mfn), Store::Set)?;
            Ok(g.peek(l1, 7))
        };
        let uncached = if [0, 1, 5].contains(&index) { 3 } else { index };
        let uncached = ((uncached & 3) * pte::PWT) | ((uncached >> 2) * pte::PAT);
        let device = |mfn, rights| Ok(pte::make(mfn, pte::P | pte::US | uncached | rights));
        let (writable, read_only) = (Mfn::new(64), Mfn::new(65));
        for rights in [&with_devices, &as_device] {
            assert_eq!(
                stored(rights, writable),
                device(writable, pte::RW),
                "type {index}"
            );
            assert_eq!(
                stored(rights, read_only),
                device(read_only, 0),
                "type {index}"
            );
        }
        assert_eq!(stored(&with_devices, own), Ok(entry(own)));
        assert_eq!(stored(&theirs_too, theirs), Ok(entry(theirs)));
        // Another domain's device memory is not to be had that way.
        assert_eq!(stored(&theirs_too, writable), Err(PtError::NoIoAccess));
        let (cached, bad) = if index == 0 {
            (Ok(entry(shared)), Ok(entry(own)))
        } else {
            (Err(PtError::CacheType), Err(PtError::BadFlags))
        };
        assert_eq!(stored(&with_devices, shared), cached);
        // Without devices there is one type.
        assert_eq!(stored(&g.rights(), own), bad);
        assert_eq!(
            stored(&g.rights(), writable),
            match index {
                0 => Err(PtError::NoIoAccess),
                _ => Err(PtError::BadFlags),
            }
        );
        store(&g, l1, 7, 0).unwrap();
        verify(&g, &made);
    }
}

/// A guest that controls caching writes a page past the cache, and then has it taken for a table:
/// what is checked must be what the CPU will read, not what the cache happens to hold. XSA-402.
#[test]
fn what_was_written_past_the_cache_is_flushed_before_it_is_checked() {
    let g = Guest::new(64, 64);
    let (l1, page) = (g.page(), g.page());
    let rights = g.rights_with_devices();
    pin(&g.mm, &rights, l1, 1, &Budget::endless()).unwrap();
    let set = |new| update::write_l1(&g.mm, &rights, slot(l1, 0), new, Store::Set).unwrap();
    let cached = pte::make(page, pte::P | pte::US);
    let mut flushes = 0;
    let mut check_table = |expected| {
        set(0);
        pin(&g.mm, &rights, page, 1, &Budget::endless()).unwrap();
        unpin(&g.mm, g.id, page, &Budget::endless()).unwrap();
        flushes += expected;
        assert_eq!(g.mm.mem.cache_flushes(), flushes);
    };
    set(cached | pte::RW);
    check_table(0);
    // Read only, it is not written.
    set(cached | pte::PCD);
    check_table(0);
    for cache in [pte::PWT, pte::PCD, pte::PAT, pte::PAT | pte::PWT] {
        set(cached | pte::RW | cache);
        check_table(1);
        check_table(0);
        // The right to write came later, or went before; a cached mapping in between.
        set(cached | cache);
        set(cached | cache | pte::RW);
        set(cached | cache);
        set(cached | pte::RW);
        check_table(1);
    }
    // Descriptors are checked too.
    set(cached | pte::RW | pte::PAT);
    set(0);
    descriptors::acquire(&g.mm, g.id, page).unwrap();
    descriptors::release(&g.mm, page);
    assert_eq!(g.mm.mem.cache_flushes(), flushes + 1);
    // And so is what others will have.
    set(cached | pte::RW | pte::PAT);
    g.mm.release_frame(page, g.id).unwrap();
    set(0);
    assert!(g.mm.record(page).count().is_free());
    assert_eq!(g.mm.mem.cache_flushes(), flushes + 2);
    verify(&g, &[]);
}
