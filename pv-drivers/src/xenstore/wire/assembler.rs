//! Messages out of a stream of bytes.

use alloc::vec::Vec;
use core::fmt;

use xen_abi::io::XsdSockmsg;
use zerocopy::FromBytes;

use super::{HEAD_BYTES, Kind, Message, XENSTORE_PAYLOAD_MAX};

/// A message announces more bytes than the protocol permits: the stream cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of more than {XENSTORE_PAYLOAD_MAX} bytes")
    }
}

impl core::error::Error for TooLong {}

/// Bytes that are not yet a whole message.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Most bytes of one message.
    pub const MOST: usize = HEAD_BYTES + XENSTORE_PAYLOAD_MAX;

    /// More bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    ///
    /// # Errors
    /// [`TooLong`]: nothing comes after it.
    #[allow(clippy::should_implement_trait, reason = "more may come after None")]
    pub fn next(&mut self) -> Result<Option<Message>, TooLong> {
        let Ok((head, rest)) = XsdSockmsg::read_from_prefix(&self.bytes) else {
            return Ok(None);
        };
        let length = head.len as usize;
        if length > XENSTORE_PAYLOAD_MAX {
            return Err(TooLong);
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Message {
            kind: Kind(head.r#type),
            request: head.req_id,
            transaction: head.tx_id,
            body: body.to_vec(),
        };
        self.bytes.drain(..HEAD_BYTES + length);
        Ok(Some(message))
    }

    /// What has come of a message that is not whole.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether no message has begun.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
