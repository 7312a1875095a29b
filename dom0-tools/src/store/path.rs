//! Names of nodes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::wire::XENSTORE_REL_PATH_MAX;
use crate::sys::DomId;

/// An absolute path: `/`, or names each after a slash. Valid by construction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(Arc<str>);

impl Path {
    /// The path above all.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// A domain's own part of the store, to which its relative paths refer.
    #[must_use]
    pub fn home(domain: DomId) -> Self {
        Self(format!("/local/domain/{domain}").into())
    }

    /// An absolute path; `None` if it is none.
    ///
    /// Permitted are letters, digits and `-/_@`; no name is empty; 2048 bytes at most, behind
    /// `/local/domain/N/` if it begins so.
    #[must_use]
    pub fn absolute(text: &str) -> Option<Self> {
        if text == "/" {
            return Some(Self::root());
        }
        let names = text.strip_prefix('/')?;
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-/_@".contains(&b);
        let valid = names.bytes().all(letter)
            && !names.split('/').any(str::is_empty)
            && counted(text) <= XENSTORE_REL_PATH_MAX;
        valid.then(|| Self(text.into()))
    }

    /// A path as a domain says it: absolute, or below its home.
    #[must_use]
    pub fn said_by(domain: DomId, text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Self::absolute(text);
        }
        Self::absolute(&format!("{}/{text}", Self::home(domain)))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the top.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Its last name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path that has this one as a child; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        Some(Self(parent(&self.0)?.into()))
    }

    /// A child of it, whose name comes from a valid path.
    #[must_use]
    pub(super) fn child(&self, name: &str) -> Self {
        let slash = if &*self.0 == "/" { "" } else { "/" };
        Self(format!("{}{slash}{name}", self.0).into())
    }

    /// The path itself and all above it, from the bottom.
    pub fn upwards(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(&*self.0), |path| parent(path))
    }
}

fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// Bytes that count against the limit.
fn counted(path: &str) -> usize {
    let behind = path
        .strip_prefix("/local/domain/")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(domain, _)| domain.parse::<u16>().is_ok());
    behind.map_or(path.len(), |(_, rest)| rest.len())
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Path {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::absolute(&text).ok_or("no path")
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_paths_are_refused() {
        for bad in [
            "", "a", "//", "/a/", "/a//b", "/a b", "/é", "/a\0", "/a.b", "@x",
        ] {
            assert_eq!(Path::absolute(bad), None, "{bad:?}");
        }
        let long = format!("/{}", "a".repeat(2048));
        assert_eq!(Path::absolute(&long), None);
        assert!(Path::absolute(&long[..2048]).is_some());
        assert!(Path::absolute(&format!("/local/domain/7{}", &long[..2048])).is_some());
    }

    #[test]
    fn relative_paths_are_below_home() {
        let path = Path::said_by(DomId(7), "device/vif").unwrap();
        assert_eq!(path.as_str(), "/local/domain/7/device/vif");
        assert_eq!(Path::said_by(DomId(7), ""), None);
        assert_eq!(path.parent().unwrap().name(), "device");
        let up: Vec<_> = Path::absolute("/a/b")
            .unwrap()
            .upwards()
            .map(str::to_owned)
            .collect();
        assert_eq!(up, ["/a/b", "/a", "/"]);
        assert_eq!(Path::root().parent(), None);
    }
}
