//! The root that EFI runtime services run on.

use super::tables::Tables;
use super::{Cache, DirectMap, MapError, Prot, host, table_frame, template};
use crate::addr::{MachAddr, Mfn};
use crate::arch::FrameMem;
use crate::arch::efi::{Caching, Region};
use crate::mm::layout;
use core::sync::atomic::Ordering::Relaxed;

/// A root with the hypervisor's slots that maps each runtime region of `map` one to one: code
/// for reading, writing and executing, because its data lies among it, and all else for reading
/// and writing.
///
/// # Errors
/// [`MapError`]: no memory for tables, or regions that overlap.
pub fn firmware_root(map: &[Region]) -> Result<Mfn, MapError> {
    let root = table_frame().ok_or(MapError::NoMemory)?;
    let words = DirectMap.words(root);
    for word in words {
        word.store(0, Relaxed);
    }
    for (n, entry) in template().iter().enumerate() {
        words[layout::FIRST_SLOT + n].store(*entry, Relaxed);
    }
    let tables = Tables::new(&DirectMap, root, host().max_level);
    for region in map.iter().filter(|region| region.is_runtime()) {
        let prot = if region.is_code() {
            Prot::FIRMWARE
        } else {
            Prot::RW
        };
        let cache = match region.caching() {
            Caching::WriteBack => Cache::WriteBack,
            Caching::WriteThrough => Cache::WriteThrough,
            Caching::WriteCombining => Cache::WriteCombining,
            Caching::Uncached => Cache::Uncached,
        };
        let first = MachAddr::from_guest(region.start).ok_or(MapError::BadAddress)?;
        tables.map(
            region.start,
            first.frame(),
            region.pages,
            prot.cached(cache),
            &mut table_frame,
        )?;
    }
    Ok(root)
}
