//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use super::{BadValue, serde_as_text};

/// Address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Xen's own range, `00:16:3e:xx:xx:xx`, with these last bytes.
    pub const fn of_xen(last: [u8; 3]) -> Self {
        Self([0x00, 0x16, 0x3e, last[0] & 0x7f, last[1], last[2]])
    }
}

impl FromStr for Mac {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no Ethernet address: write six bytes as in `00:16:3e:12:34:56`"
            ))
        };
        let mut bytes = [0; 6];
        let mut parts = text.trim().split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        if bytes[0] & 1 == 1 {
            return Err(BadValue::new(format!(
                "`{text}` is a multicast address: the first byte of a card's is even"
            )));
        }
        if bytes == [0; 6] {
            return Err(BadValue::new("the address is all zero"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

serde_as_text!(Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mac: Mac = "00:16:3E:1:2:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:01:02:ff");
        for bad in [
            "",
            "00:16:3e:12:34",
            "00:16:3e:12:34:56:78",
            "gg:16:3e:12:34:56",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "0016:3e:12:34:56:+1",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
