//! UUIDs of domains.

use std::fmt;
use std::str::FromStr;

use super::{BadValue, serde_as_text};

/// A domain's UUID, in the order of its text; the hypervisor's `xen_domain_handle_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A random one (version 4) made of these bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl FromStr for Uuid {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no UUID: write 32 hexadecimal digits as in `ef1c2a70-0c1e-4b8e-9d3c-5a6b7c8d9e0f`"
            ))
        };
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        if digits.len() != 32 || text.len() > 36 {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|b| (b as char).to_digit(16));
            *byte = (high.ok_or_else(bad)? << 4 | low.ok_or_else(bad)?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

serde_as_text!(Uuid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let text = "ef1c2a70-0c1e-4b8e-9d3c-5a6b7c8d9e0f";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(text.replace('-', "").parse(), Ok(uuid));
        for bad in ["", "ef1c2a70", "zf1c2a70-0c1e-4b8e-9d3c-5a6b7c8d9e0f"] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }
}
