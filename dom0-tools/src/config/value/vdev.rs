//! Names of a guest's disks and their numbers in xenstore.

use std::fmt;
use std::str::FromStr;

use super::{BadValue, serde_as_text};

/// A disk as the guest sees it. Source of the numbers: Xen's `xen-vbd-interface(7)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vdev {
    name: String,
    number: u32,
}

/// Flag of the numbers that hold 20 bits of disk and 8 of partition.
const EXTENDED: u32 = 1 << 28;
/// Linux's major numbers of `xvd`, of `hd` (two of them) and of `sd`.
const XVD: u32 = 202;
const HD: [u32; 2] = [3, 22];
const SD: u32 = 8;

impl Vdev {
    /// Its number in xenstore and in `…/device/vbd/`.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Its name as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The usual name of a number; the number itself if it has none.
    pub fn from_number(number: u32) -> Self {
        let named = |prefix: &str, disk: u32, partition: u32| {
            let part = if partition == 0 {
                String::new()
            } else {
                partition.to_string()
            };
            format!("{prefix}{}{part}", letters(disk))
        };
        let minor = number & 0xff;
        let name = if number & EXTENDED != 0 && number < EXTENDED << 1 {
            named("xvd", (number & !EXTENDED) >> 8, minor)
        } else {
            match number >> 8 {
                XVD => named("xvd", minor >> 4, minor & 15),
                SD => named("sd", minor >> 4, minor & 15),
                major if major == HD[0] => named("hd", minor >> 6, minor & 63),
                major if major == HD[1] => named("hd", 2 + (minor >> 6), minor & 63),
                _ => number.to_string(),
            }
        };
        Self { name, number }
    }
}

/// `a` to `z`, `aa` and so on.
fn letters(disk: u32) -> String {
    let mut rest = disk;
    let mut text = Vec::new();
    loop {
        text.push((b'a' + (rest % 26) as u8) as char);
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    text.iter().rev().collect()
}

/// The reverse of [`letters`], and what is behind them.
fn disk_of(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_lowercase())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.len() > 4 {
        return None;
    }
    let disk = name
        .bytes()
        .fold(0_u32, |all, b| all * 26 + u32::from(b - b'a') + 1)
        - 1;
    Some((disk, rest))
}

impl FromStr for Vdev {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let text = text.strip_prefix("/dev/").unwrap_or(text);
        let number = parse(text).ok_or_else(|| {
            BadValue::new(format!(
                "`{text}` is no disk of a guest: write `xvda`, `xvdb1`, `hda`, `sda2` or a number"
            ))
        })?;
        Ok(Self {
            name: text.to_owned(),
            number,
        })
    }
}

fn parse(text: &str) -> Option<u32> {
    let plain = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    if let Some(number) = plain(text) {
        return Some(number);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return (!hex.starts_with('+'))
            .then(|| u32::from_str_radix(hex, 16).ok())
            .flatten();
    }
    let partition = |rest: &str| match rest {
        "" => Some(0),
        _ if rest.starts_with('0') => None,
        _ => plain(rest),
    };
    if let Some((disk, part)) = text.strip_prefix('d').and_then(|rest| rest.split_once('p')) {
        return xvd(plain(disk)?, plain(part)?);
    }
    if let Some(rest) = text.strip_prefix("xvd") {
        let (disk, rest) = disk_of(rest)?;
        return xvd(disk, partition(rest)?);
    }
    if let Some(rest) = text.strip_prefix("hd") {
        let (disk, rest) = disk_of(rest)?;
        let partition = partition(rest)?;
        let major = *HD.get(disk as usize / 2)?;
        return (partition < 64).then_some(major << 8 | (disk % 2) << 6 | partition);
    }
    if let Some(rest) = text.strip_prefix("sd") {
        let (disk, rest) = disk_of(rest)?;
        let partition = partition(rest)?;
        return (disk < 16 && partition < 16).then_some(SD << 8 | disk << 4 | partition);
    }
    None
}

fn xvd(disk: u32, partition: u32) -> Option<u32> {
    if disk < 16 && partition < 16 {
        Some(XVD << 8 | disk << 4 | partition)
    } else if disk < 1 << 20 && partition < 256 {
        Some(EXTENDED | disk << 8 | partition)
    } else {
        None
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

serde_as_text!(Vdev);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_as_in_the_manual() {
        let number = |text: &str| text.parse::<Vdev>().map(|vdev| vdev.number()).ok();
        assert_eq!(number("xvda"), Some(51712));
        assert_eq!(number("xvdb"), Some(51728));
        assert_eq!(number("xvda1"), Some(51713));
        assert_eq!(number("/dev/xvda"), Some(51712));
        assert_eq!(number("xvdq"), Some(1 << 28 | 16 << 8));
        assert_eq!(number("xvdaa"), Some(1 << 28 | 26 << 8));
        assert_eq!(number("xvda16"), Some(1 << 28 | 16));
        assert_eq!(number("hda"), Some(768));
        assert_eq!(number("hdc1"), Some(5633));
        assert_eq!(number("sda"), Some(2048));
        assert_eq!(number("d1p2"), Some(51730));
        assert_eq!(number("0xca00"), Some(51712));
        assert_eq!(number("51712"), Some(51712));
        for bad in [
            "",
            "xvd",
            "xvda01",
            "xvda256",
            "xvdaaaaaa",
            "hde",
            "sdq",
            "vda",
            "xvda/",
            "-1",
            "99999999999",
            "0x",
            "xvda+1",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn usual_names_have_their_number(disk in 0_u32..1 << 18, partition in 0_u32..256) {
            let number = xvd(disk, partition).unwrap();
            let name = Vdev::from_number(number);
            prop_assert_eq!(name.to_string().parse::<Vdev>().unwrap().number(), number);
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _ = text.parse::<Vdev>();
        }

        #[test]
        fn any_number_has_a_name(number: u32) {
            let vdev = Vdev::from_number(number);
            prop_assert_eq!(vdev.number(), number);
        }
    }
}
