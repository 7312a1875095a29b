//! Checksums of TCP and UDP in Ethernet frames, and where they lie.
//!
//! Source: RFC 791, 768, 9293, 8200, 1071.

/// TCP's and UDP's numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a frame's transport lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    protocol: u8,
    /// Of its header.
    start: usize,
    /// Behind its last byte.
    end: usize,
    /// Sum of the pseudo header's words.
    pseudo: u32,
}

impl Transport {
    const fn field(self) -> usize {
        self.start + if self.protocol == TCP { 16 } else { 6 }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_be_bytes([word[0], word[1]])))
}

/// The sum of big-endian words; an odd last byte is a word's high one.
fn sum(bytes: &[u8]) -> u32 {
    // 64 KiB at most, so 32 bits do not overflow.
    let (words, last) = bytes.as_chunks::<2>();
    let all: u32 = words
        .iter()
        .map(|w| u32::from(u16::from_be_bytes(*w)))
        .sum();
    all + last.first().map_or(0, |byte| u32::from(*byte) << 8)
}

const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// Finds TCP or UDP in a frame; none if it is something else, a fragment, or cut short.
fn transport(frame: &[u8]) -> Option<Transport> {
    let (protocol, start, end, addresses) = match word(frame, 12)? {
        0x0800 => {
            let head = usize::from(*frame.get(14)?);
            let fragment = word(frame, 20)? & 0x3fff;
            if head >> 4 != 4 || head & 0xf < 5 || fragment != 0 {
                return None;
            }
            let start = 14 + (head & 0xf) * 4;
            (*frame.get(23)?, start, 14 + word(frame, 16)?, 26..34)
        }
        0x86dd => (*frame.get(20)?, 54, 54 + word(frame, 18)?, 22..54),
        _ => return None,
    };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    if end > frame.len() || end < start + least {
        return None;
    }
    let length = (end - start) as u32;
    let pseudo =
        sum(frame.get(addresses)?) + u32::from(protocol) + (length >> 16) + (length & 0xffff);
    Some(Transport {
        protocol,
        start,
        end,
        pseudo,
    })
}

/// Writes the pseudo header's sum into the checksum's field, for a backend that makes the rest.
/// Returns false, and changes nothing, if there is no TCP or UDP.
pub fn blank(frame: &mut [u8]) -> bool {
    let Some(found) = transport(frame) else {
        return false;
    };
    let field = found.field();
    frame[field..field + 2].copy_from_slice(&fold(found.pseudo).to_be_bytes());
    true
}

/// Makes the checksum, whatever its field held. Returns false, and changes nothing, if there is no
/// TCP or UDP.
pub fn complete(frame: &mut [u8]) -> bool {
    let Some(found) = transport(frame) else {
        return false;
    };
    let field = found.field();
    frame[field..field + 2].fill(0);
    let made = !fold(found.pseudo + sum(&frame[found.start..found.end]));
    // UDP's 0 means that there is none.
    let made = if made == 0 && found.protocol == UDP {
        0xffff
    } else {
        made
    };
    frame[field..field + 2].copy_from_slice(&made.to_be_bytes());
    true
}

/// Whether the checksum is right. Frames without TCP or UDP, and UDP's without checksum, are.
#[must_use]
pub fn is_right(frame: &[u8]) -> bool {
    let Some(found) = transport(frame) else {
        return true;
    };
    let field = found.field();
    if found.protocol == UDP && frame[field..field + 2] == [0, 0] {
        return true;
    }
    fold(found.pseudo + sum(&frame[found.start..found.end])) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram on IPv4 with an odd payload; checksum by hand: 0x3b7f.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0, 53, 0, 11, 0, 0]);
        frame.extend(b"abc");
        frame
    }

    #[test]
    fn the_sum_is_that_of_the_rfc() {
        let mut frame = frame();
        assert!(complete(&mut frame));
        // 0a00+0001+0a00+0002+0011+000b + 1234+0035+000b + 6162+6300 = eaef + ... by hand.
        let words = [
            0x0a00, 0x0001, 0x0a00, 0x0002, 17, 11, 0x1234, 53, 11, 0x6162, 0x6300_u32,
        ];
        let all: u32 = words.iter().sum();
        let expected = !(((all & 0xffff) + (all >> 16)) as u16);
        assert_eq!(frame[40..42], expected.to_be_bytes());
        assert!(is_right(&frame));
        frame[43] ^= 1;
        assert!(!is_right(&frame));
    }

    #[test]
    fn what_a_backend_completes_is_right() {
        let mut frame = frame();
        assert!(blank(&mut frame));
        // As hardware does: sums everything, the field included, and puts the complement there.
        let made = !fold(sum(&frame[34..]));
        frame[40..42].copy_from_slice(&made.to_be_bytes());
        assert!(is_right(&frame));
    }

    #[test]
    fn frames_cut_anywhere_do_no_harm() {
        let whole = frame();
        for len in 0..whole.len() {
            let mut cut = whole[..len].to_vec();
            assert!(is_right(&cut));
            assert!(!blank(&mut cut) && !complete(&mut cut));
        }
        for byte in 12..whole.len() {
            for value in [0, 1, 0x4f, 0xff, 0x86, 0xdd] {
                let mut frame = whole.clone();
                frame[byte] = value;
                let _ = is_right(&frame);
                let _ = complete(&mut frame) && blank(&mut frame);
            }
        }
    }
}
