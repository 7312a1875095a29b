//! What a backend says of a disk.

use xen_abi::blkif::{BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifRequestSegment, VDISK_READONLY};

use super::{PAGE, SECTOR};
use crate::device::xenbus::{Fault, Half};
use crate::device::{Refused, Store};

/// How what was written becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The backend offers no way.
    None,
    /// By a request of its own.
    Cache,
    /// By a barrier without data.
    Barrier,
}

/// How sectors are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Bytes of the unit that is really freed.
    pub granularity: u32,
    /// Bytes to the first such unit.
    pub alignment: u32,
    /// The backend can leave no copy.
    pub secure: bool,
}

/// A disk as the backend describes it, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its length, in sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes in which it is read and written: a power of two, 512 to 4096.
    pub sector_size: u32,
    /// Nothing can be written.
    pub read_only: bool,
    /// How what was written becomes durable.
    pub flush: Flush,
    /// How sectors are given up, if they can be.
    pub discard: Option<Discard>,
    /// Pages of one request.
    pub segments: usize,
    /// The backend keeps pages mapped between requests.
    pub persistent: bool,
}

/// Most segments that one page lists: this frontend uses one page for them.
const SEGMENTS_OF_A_PAGE: usize = PAGE / size_of::<BlkifRequestSegment>();

/// The backend's `multi-queue-max-queues`; 1 where it does not say.
pub(super) fn most_queues<P: Store>(half: &Half<P>) -> Result<usize, Fault> {
    Ok(half
        .peer_number::<usize>("multi-queue-max-queues")?
        .unwrap_or(1))
}

impl Geometry {
    /// Reads what the backend says; requests get at most `segments` pages.
    pub(super) fn read<P: Store>(half: &Half<P>, segments: usize) -> Result<Self, Fault> {
        let sectors = half
            .peer_number("sectors")?
            .ok_or(Fault::Missing("sectors"))?;
        // As bytes it still is a number of 64 bits.
        if sectors > u64::MAX / SECTOR as u64 {
            return Err(Fault::Bad("sectors"));
        }
        let sector_size = half.peer_number("sector-size")?.unwrap_or(SECTOR as u32);
        if !sector_size.is_power_of_two()
            || !(SECTOR..=PAGE).contains(&(sector_size as usize))
            || sectors % u64::from(sector_size / SECTOR as u32) != 0
        {
            return Err(Fault::Bad("sector-size"));
        }
        let info = half.peer_number::<u32>("info")?.unwrap_or(0);
        let offered = half
            .peer_number::<usize>("feature-max-indirect-segments")?
            .unwrap_or(0)
            .min(SEGMENTS_OF_A_PAGE);
        Ok(Self {
            sectors,
            sector_size,
            read_only: info & VDISK_READONLY != 0,
            flush: flush(half)?,
            discard: discard(half, sector_size)?,
            segments: offered
                .max(BLKIF_MAX_SEGMENTS_PER_REQUEST)
                .min(segments.max(1)),
            persistent: half.peer_has("feature-persistent")?,
        })
    }

    /// Most bytes of one request.
    #[must_use]
    pub const fn most_bytes(&self) -> usize {
        self.segments * PAGE
    }
}

fn flush<P: Store>(half: &Half<P>) -> Result<Flush, Refused> {
    Ok(if half.peer_has("feature-flush-cache")? {
        Flush::Cache
    } else if half.peer_has("feature-barrier")? {
        Flush::Barrier
    } else {
        Flush::None
    })
}

fn discard<P: Store>(half: &Half<P>, sector_size: u32) -> Result<Option<Discard>, Fault> {
    if !half.peer_has("feature-discard")? {
        return Ok(None);
    }
    Ok(Some(Discard {
        granularity: half
            .peer_number("discard-granularity")?
            .unwrap_or(sector_size),
        alignment: half.peer_number("discard-alignment")?.unwrap_or(0),
        secure: half.peer_has("discard-secure")?,
    }))
}
