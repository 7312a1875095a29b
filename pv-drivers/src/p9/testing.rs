//! A backend with files in memory, for tests and fuzzers.

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use super::wire::{self, HEADER, Reader, Writer};
use crate::device::handshake::{Duty, FrontendError, Service};
use crate::device::xenbus::{Fault, State};
use crate::device::{Channel, Foreign, GrantRef, Port, Store};
use crate::ring::FilesServer;

/// Longest message.
const MOST: usize = 1 << 16;

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const EEXIST: u32 = 17;
const EINVAL: u32 = 22;

struct Rings<P: Foreign> {
    ring: FilesServer<P::Mapped>,
    channel: P::Bound,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Serves files by their paths; what lies above one is a folder.
pub struct Server<P: Foreign + Store> {
    service: Service<P>,
    rings: Option<Rings<P>>,
    files: BTreeMap<String, Vec<u8>>,
    fids: BTreeMap<u32, String>,
    /// Changes answers before they are sent.
    pub tamper: Option<fn(&mut Vec<u8>)>,
}

impl<P: Foreign + Store> std::fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({:?})", self.service)
    }
}

impl<P: Foreign + Store> Server<P> {
    /// Serves through the nodes in `home`.
    ///
    /// # Errors
    /// There is no such device.
    pub fn open(platform: P, home: &str) -> Result<Self, FrontendError> {
        let mut this = Self {
            service: Service::open(platform, home)?,
            rings: None,
            files: BTreeMap::new(),
            fids: BTreeMap::new(),
            tamper: None,
        };
        this.poll()?;
        Ok(this)
    }

    /// The files.
    pub const fn files(&mut self) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.files
    }

    /// How many numbers of files the client has.
    #[must_use]
    pub fn held(&self) -> usize {
        self.fids.len()
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// The frontend's fault, or the store's.
    pub fn poll(&mut self) -> Result<(), FrontendError> {
        for _ in 0..5 {
            match self.service.due()? {
                Duty::Nothing => break,
                Duty::Offer => {
                    self.rings = None;
                    for (node, value) in [
                        ("versions", 1),
                        ("max-rings", 1),
                        ("max-ring-page-order", 3),
                    ] {
                        self.service.half().put(node, value)?;
                    }
                    self.service.switch(State::InitWait)?;
                }
                Duty::Connect => {
                    if let Err(error) = self.attach() {
                        self.service.closed();
                        return Err(error);
                    }
                    self.service.switch(State::Connected)?;
                }
                Duty::Part(state) => {
                    self.rings = None;
                    self.service.switch(state)?;
                }
            }
        }
        while self.serve()? {}
        Ok(())
    }

    fn attach(&mut self) -> Result<(), FrontendError> {
        let half = self.service.half();
        let number = |node| half.peer_number::<u32>(node)?.ok_or(Fault::Missing(node));
        let (platform, peer) = (half.platform(), half.peer());
        let indices = platform.map(peer, GrantRef(number("ring-ref0")?))?;
        let references = FilesServer::references(&indices).ok_or(Fault::Bad("ring-ref0"))?;
        let bytes = references
            .into_iter()
            .map(|reference| platform.map(peer, GrantRef(reference)))
            .collect::<Result<Vec<_>, _>>()?;
        self.rings = Some(Rings {
            ring: FilesServer::attach(indices, bytes),
            channel: platform.bind(peer, Port(number("event-channel-0")?))?,
            request: Vec::new(),
            answer: Vec::new(),
        });
        Ok(())
    }

    /// Goes on with a request; whether there may be another.
    fn serve(&mut self) -> Result<bool, FrontendError> {
        let Some(rings) = &mut self.rings else {
            return Ok(false);
        };
        let sent = rings.ring.put(&rings.answer)?;
        rings.answer.drain(..sent);
        let mut bytes = std::vec![0; MOST];
        let count = rings.ring.take(&mut bytes)?;
        rings.request.extend_from_slice(&bytes[..count]);
        if sent + count > 0 {
            rings.channel.notify();
        }
        let length = rings
            .request
            .first_chunk()
            .copied()
            .map_or(0, u32::from_le_bytes) as usize;
        if length < HEADER || rings.request.len() < length {
            return Ok(false);
        }
        let later = rings.request.split_off(length);
        let request = std::mem::replace(&mut rings.request, later);
        let mut answer = self.answer(&request);
        if let Some(tamper) = self.tamper {
            tamper(&mut answer);
        }
        if let Some(rings) = &mut self.rings {
            rings.answer.extend(answer);
        }
        Ok(true)
    }

    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let (kind, tag) = (request[4], u16::from_le_bytes([request[5], request[6]]));
        let writer = Writer::new(kind.wrapping_add(1), tag);
        let mut reader = Reader(&request[HEADER..]);
        let answer = match kind {
            wire::VERSIONS => self.version(&mut reader, writer),
            wire::ATTACH => reader.u32().ok().map(|fid| {
                self.fids.insert(fid, String::new());
                Ok(writer.bytes(&[0; 13]))
            }),
            wire::WALK => self.walk(&mut reader, writer),
            wire::OPEN => self.opened(&mut reader, writer),
            wire::CREATE => self.create(&mut reader, writer),
            wire::READ => self.read(&mut reader, writer),
            wire::WRITE => self.write(&mut reader, writer),
            wire::ATTRIBUTES => self.attributes(&mut reader, writer),
            wire::CLUNK => reader
                .u32()
                .ok()
                .map(|fid| self.fids.remove(&fid).map(|_| writer).ok_or(EINVAL)),
            _ => None,
        };
        let answer = answer.unwrap_or(Err(EINVAL));
        let refused = |errno| Writer::new(wire::REFUSED, tag).u32(errno);
        answer.unwrap_or_else(refused).finish()
    }

    fn is_folder(&self, path: &str) -> bool {
        let below = std::format!("{path}/");
        path.is_empty() || self.files.keys().any(|file| file.starts_with(&below))
    }

    fn version(&mut self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        self.fids.clear();
        Some(Ok(writer.u32(reader.u32().ok()?).text(wire::VERSION)))
    }

    fn walk(&mut self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let (from, to) = (reader.u32().ok()?, reader.u32().ok()?);
        let mut path = self.fids.get(&from)?.clone();
        let mut found = 0;
        let names = reader.u16().ok()?;
        for _ in 0..names {
            let name = std::str::from_utf8(reader.text().ok()?).ok()?;
            let next = [path.as_str(), name].join(if path.is_empty() { "" } else { "/" });
            if !self.files.contains_key(&next) && !self.is_folder(&next) {
                break;
            }
            (path, found) = (next, found + 1);
        }
        if found == names {
            self.fids.insert(to, path);
        } else if found == 0 {
            return Some(Err(ENOENT));
        }
        let writer = writer.u16(found);
        Some(Ok(
            (0..found).fold(writer, |writer, _| writer.bytes(&[0; 13]))
        ))
    }

    fn opened(&self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let path = self.fids.get(&reader.u32().ok()?)?;
        if !self.files.contains_key(path) && !self.is_folder(path) {
            return Some(Err(ENOENT));
        }
        Some(Ok(writer.bytes(&[0; 13]).u32(0)))
    }

    fn create(&mut self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let fid = self.fids.get_mut(&reader.u32().ok()?)?;
        let name = std::str::from_utf8(reader.text().ok()?).ok()?;
        let path = [fid.as_str(), name].join(if fid.is_empty() { "" } else { "/" });
        if self.files.contains_key(&path) {
            return Some(Err(EEXIST));
        }
        fid.clone_from(&path);
        self.files.insert(path, Vec::new());
        Some(Ok(writer.bytes(&[0; 13]).u32(0)))
    }

    fn read(&self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let path = self.fids.get(&reader.u32().ok()?)?;
        let (offset, count) = (reader.u64().ok()?, reader.u32().ok()?);
        let Some(file) = self.files.get(path) else {
            return Some(Err(EPERM));
        };
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(file.len());
        let end = start.saturating_add(count as usize).min(file.len());
        let data = &file[start..end];
        Some(Ok(writer.u32(data.len() as u32).bytes(data)))
    }

    fn write(&mut self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let path = self.fids.get(&reader.u32().ok()?)?;
        let (offset, count) = (reader.u64().ok()?, reader.u32().ok()?);
        let data = reader.bytes(count as usize).ok()?;
        let Some(file) = self.files.get_mut(path) else {
            return Some(Err(EPERM));
        };
        // Small files, or a fuzzer has this memory.
        let start = usize::try_from(offset)
            .ok()
            .filter(|start| *start <= 1 << 20)?;
        if file.len() < start + data.len() {
            file.resize(start + data.len(), 0);
        }
        file[start..start + data.len()].copy_from_slice(data);
        Some(Ok(writer.u32(count)))
    }

    fn attributes(&self, reader: &mut Reader<'_>, writer: Writer) -> Option<Answer> {
        let path = self.fids.get(&reader.u32().ok()?)?;
        let file = self.files.get(path);
        let mode = if file.is_some() { 0o100_644 } else { 0o040_755 };
        let writer = writer.u64(0x7ff).bytes(&[0; 13]).u32(mode).u32(1).u32(2);
        let writer = writer.u64(1).u64(0).u64(file.map_or(0, Vec::len) as u64);
        let writer = writer.u64(4096).u64(0).u64(0).u64(0).u64(77).u64(5);
        Some(Ok((0..6).fold(writer, |writer, _| writer.u64(0))))
    }
}

type Answer = Result<Writer, u32>;
