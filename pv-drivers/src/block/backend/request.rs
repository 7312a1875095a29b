//! One request of a frontend, done at once.

use alloc::vec::Vec;

use xen_abi::blkif::{
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, BlkifRequest, BlkifRequestDiscard,
    BlkifRequestIndirect, BlkifRequestSegment, BlkifResponse,
};
use zerocopy::{FromBytes, IntoBytes};

use super::super::{PAGE, SECTOR};
use super::{DomId, Foreign, GrantRef, Medium, MediumError};

/// Segments of a page that lists them.
const LISTED: usize = PAGE / size_of::<BlkifRequestSegment>();

/// What a request is done with.
pub(super) struct Worker<'a, P, M> {
    pub platform: &'a P,
    pub peer: DomId,
    pub medium: &'a mut M,
    pub segments: usize,
    pub scratch: &'a mut Vec<u8>,
}

impl<P: Foreign, M: Medium> Worker<'_, P, M> {
    /// Does what a request asks for.
    pub fn answer(&mut self, request: &BlkifRequest) -> BlkifResponse {
        let mut operation = request.operation;
        let done = match operation {
            BLKIF_OP_READ | BLKIF_OP_WRITE => self.direct(request),
            BLKIF_OP_INDIRECT => {
                let request = reread::<BlkifRequestIndirect>(request);
                operation = request.indirect_op;
                self.indirect(&request)
            }
            BLKIF_OP_FLUSH_DISKCACHE => self.medium.flush(),
            BLKIF_OP_DISCARD => self.discard(&reread::<BlkifRequestDiscard>(request)),
            _ => Err(MediumError::Unsupported),
        };
        BlkifResponse {
            id: request.id,
            operation,
            status: match done {
                Ok(()) => BLKIF_RSP_OKAY,
                Err(MediumError::Failed) => BLKIF_RSP_ERROR,
                Err(MediumError::Unsupported) => BLKIF_RSP_EOPNOTSUPP,
            },
            ..BlkifResponse::default()
        }
    }

    /// Whether so many sectors from the given one on are there.
    fn check(&self, sector: u64, count: u64) -> Result<(), MediumError> {
        match sector.checked_add(count) {
            Some(end) if count > 0 && end <= self.medium.sectors() => Ok(()),
            _ => Err(MediumError::Failed),
        }
    }

    fn direct(&mut self, request: &BlkifRequest) -> Result<(), MediumError> {
        let count = usize::from(request.nr_segments);
        if count > BLKIF_MAX_SEGMENTS_PER_REQUEST {
            return Err(MediumError::Failed);
        }
        let segments = &request.seg[..count];
        self.transfer(request.operation, request.sector_number, segments)
    }

    fn indirect(&mut self, request: &BlkifRequestIndirect) -> Result<(), MediumError> {
        let count = usize::from(request.nr_segments);
        let most = self
            .segments
            .min(LISTED * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
        if count == 0 || count > most {
            return Err(MediumError::Failed);
        }
        let mut segments = Vec::new();
        segments.resize(count, BlkifRequestSegment::default());
        for (list, grant) in segments.chunks_mut(LISTED).zip(request.indirect_grefs) {
            self.platform
                .copy_from(self.peer, GrantRef(grant), 0, list.as_mut_bytes())
                .map_err(|_| MediumError::Failed)?;
        }
        self.transfer(request.indirect_op, request.sector_number, &segments)
    }

    /// Moves data between the medium and pages of the frontend.
    fn transfer(
        &mut self,
        operation: u8,
        sector: u64,
        segments: &[BlkifRequestSegment],
    ) -> Result<(), MediumError> {
        let mut bytes = 0;
        for segment in segments {
            let (first, end) = extent(segment).ok_or(MediumError::Failed)?;
            bytes += end - first;
        }
        self.check(sector, (bytes / SECTOR) as u64)?;
        self.scratch.resize(bytes, 0);
        match operation {
            BLKIF_OP_READ => {
                self.medium.read(sector, self.scratch)?;
                self.give(segments)
            }
            BLKIF_OP_WRITE if self.medium.is_read_only() => Err(MediumError::Failed),
            BLKIF_OP_WRITE => {
                self.fetch(segments)?;
                self.medium.write(sector, self.scratch)
            }
            _ => Err(MediumError::Unsupported),
        }
    }

    fn fetch(&mut self, segments: &[BlkifRequestSegment]) -> Result<(), MediumError> {
        let mut rest = &mut self.scratch[..];
        for segment in segments {
            let (first, end) = extent(segment).ok_or(MediumError::Failed)?;
            let (now, later) = rest.split_at_mut(end - first);
            self.platform
                .copy_from(self.peer, GrantRef(segment.gref), first, now)
                .map_err(|_| MediumError::Failed)?;
            rest = later;
        }
        Ok(())
    }

    fn give(&self, segments: &[BlkifRequestSegment]) -> Result<(), MediumError> {
        let mut rest = &self.scratch[..];
        for segment in segments {
            let (first, end) = extent(segment).ok_or(MediumError::Failed)?;
            let (now, later) = rest.split_at(end - first);
            self.platform
                .copy_to(self.peer, GrantRef(segment.gref), first, now)
                .map_err(|_| MediumError::Failed)?;
            rest = later;
        }
        Ok(())
    }

    fn discard(&mut self, request: &BlkifRequestDiscard) -> Result<(), MediumError> {
        if self.medium.is_read_only() {
            return Err(MediumError::Failed);
        }
        self.check(request.sector_number, request.nr_sectors)?;
        self.medium
            .discard(request.sector_number, request.nr_sectors)
    }
}

/// The bytes of its page that a segment names.
fn extent(segment: &BlkifRequestSegment) -> Option<(usize, usize)> {
    let first = usize::from(segment.first_sect) * SECTOR;
    let end = (usize::from(segment.last_sect) + 1) * SECTOR;
    (first < end && end <= PAGE).then_some((first, end))
}

/// The same bytes as another kind of request, which is not longer.
fn reread<T: FromBytes + IntoBytes>(request: &BlkifRequest) -> T {
    let mut kind = T::new_zeroed();
    let bytes = kind.as_mut_bytes();
    bytes.copy_from_slice(&request.as_bytes()[..bytes.len()]);
    kind
}
