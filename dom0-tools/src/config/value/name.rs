//! Names and paths: what becomes a xenstore node, a file name or an argument of a script.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::{BadValue, serde_as_text};

/// Longest name of a domain or snapshot, bytes. It becomes part of file names, which have
/// at most 255.
pub const NAME_BYTES: usize = 128;

/// Longest path, bytes, without Linux's closing NUL (`PATH_MAX`).
pub const PATH_BYTES: usize = 4095;

/// Longest name of a network interface, bytes (`IFNAMSIZ` less its NUL).
const INTERFACE_BYTES: usize = 15;

/// A name that can be a file name too: neither `/` nor `..` nor control characters.
fn check_name(what: &str, text: &str, most: usize) -> Result<(), BadValue> {
    if text.is_empty() {
        return Err(BadValue::new(format!("{what} is empty")));
    }
    if text.len() > most {
        return Err(BadValue::new(format!(
            "{what} has {} bytes, at most {most} are allowed",
            text.len()
        )));
    }
    if text == "." || text == ".." {
        return Err(BadValue::new(format!("`{text}` names a folder")));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !(c.is_ascii_graphic() || *c == ' ') || *c == '/')
    {
        return Err(BadValue::new(format!(
            "{bad:?} is not allowed in {what}: use letters, digits and `-_.`"
        )));
    }
    if text.starts_with(['-', ' ']) || text.ends_with(' ') {
        return Err(BadValue::new(format!(
            "{what} `{text}` begins or ends with a character that tools mistake"
        )));
    }
    Ok(())
}

/// A path without NUL or other control characters, and not too long.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_path(text: &str) -> Result<(), BadValue> {
    if text.is_empty() {
        return Err(BadValue::new("the path is empty"));
    }
    if text.len() > PATH_BYTES {
        return Err(BadValue::new(format!(
            "the path has {} bytes, at most {PATH_BYTES} are allowed",
            text.len()
        )));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(bad) => Err(BadValue::new(format!("{bad:?} is not allowed in a path"))),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        serde_as_text!($type);
    };
}

name! {
    /// Name of a domain: 1 to [`NAME_BYTES`] printable ASCII characters without `/`, not
    /// all digits (they would be taken for an id).
    DomainName
}

impl FromStr for DomainName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        check_name("a domain's name", text, NAME_BYTES)?;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadValue::new(format!(
                "`{text}` would be taken for a domain's id: add a letter"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

name! {
    /// Name of a snapshot: as a domain's, digits alone are allowed.
    SnapshotName
}

impl FromStr for SnapshotName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        check_name("a snapshot's name", text, NAME_BYTES)?;
        Ok(Self(text.to_owned()))
    }
}

name! {
    /// Name of a network interface or bridge in dom0: at most 15 bytes, no space, no `/`.
    InterfaceName
}

impl FromStr for InterfaceName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        check_name("an interface's name", text, INTERFACE_BYTES)?;
        if text.contains([' ', ':', '%']) {
            return Err(BadValue::new(format!(
                "`{text}` is no name of a network interface"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

name! {
    /// A hot-plug script: an absolute path, or a file in `/etc/xen/scripts` (no `/`).
    ScriptName
}

impl FromStr for ScriptName {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        check_path(text)?;
        if !text.starts_with('/') {
            check_name("a script's name", text, NAME_BYTES)?;
        } else if text.split('/').any(|part| part == "..") {
            return Err(BadValue::new(format!(
                "`{text}`: no `..` in the path of a script"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_try_to_escape_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "../x",
            "a\0b",
            "a\nb",
            "-rf",
            " a",
            "a ",
            "7",
            "\u{202e}x",
            "ä",
        ] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(NAME_BYTES + 1).parse::<DomainName>().is_err());
        for good in ["web", "Windows 10", "a.b-c_d", "7a", "x(1)"] {
            assert!(good.parse::<DomainName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn scripts_stay_in_their_folder() {
        for bad in ["../x", "a/b", "/etc/../x", "", "a\0", "-x"] {
            assert!(bad.parse::<ScriptName>().is_err(), "{bad:?}");
        }
        assert!("vif-bridge".parse::<ScriptName>().is_ok());
        assert!("/etc/xen/scripts/vif-route".parse::<ScriptName>().is_ok());
    }

    #[test]
    fn interface_names_are_short() {
        assert!("xenbr0".parse::<InterfaceName>().is_ok());
        assert!("abcdefghijklmnop".parse::<InterfaceName>().is_err());
        assert!("a b".parse::<InterfaceName>().is_err());
    }
}
