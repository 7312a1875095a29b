//! The TOML form: typed, strict, and what `oxd` keeps.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::{Disk, DomainConfig, Vif};
use super::problem::{Place, Problem, Problems, Report};
use super::{Loaded, check};

/// Reads a configuration in TOML.
///
/// # Errors
/// Not TOML, an unknown key, a value that is not allowed: with its place.
pub(super) fn parse(text: &str, file: &str) -> Result<Loaded, Problems> {
    let config: DomainConfig = read(text, file)?;
    let mut report = Report::new(file);
    check::check(&config, &|key| place_of_key(text, key), &mut report);
    let (config, warnings) = report.finish(Some(config))?;
    Ok(Loaded { config, warnings })
}

fn read<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Problems> {
    toml::from_str(text).map_err(|error| {
        let at = error
            .span()
            .map_or_else(Place::default, |span| Place::of(text, span.start));
        let key = match text.lines().nth((at.line as usize).saturating_sub(1)) {
            Some(line) if at.line > 0 => key_of_line(line),
            _ => String::new(),
        };
        Problems(vec![Problem {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            key,
            text: error.message().replace('\n', " "),
        }])
    })
}

/// `memory` of `memory = 5`; empty if the line holds no key.
fn key_of_line(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _))
            if key
                .trim()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
        {
            key.trim().to_owned()
        }
        _ => String::new(),
    }
}

/// Where a top-level key or the first table of that name begins.
fn place_of_key(text: &str, key: &str) -> Place {
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim().trim_matches(['[', ']']);
        if bare == key || key_of_line(line) == key {
            return Place {
                line: index as u32 + 1,
                column: 0,
            };
        }
    }
    Place::default()
}

fn write<T: Serialize>(value: &T) -> String {
    // Strings, numbers, lists and tables of string keys: TOML has all of them.
    toml::to_string(value).unwrap_or_default()
}

impl DomainConfig {
    /// As TOML; [`Self::from_toml`] reads it back as the same.
    pub fn to_toml(&self) -> String {
        write(self)
    }

    /// From TOML, checked; `file` is for messages.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, Problems> {
        Ok(parse(text, file)?.config)
    }
}

impl Disk {
    /// As a TOML table, for a message to `oxd`.
    pub fn to_toml(&self) -> String {
        write(self)
    }

    /// From such a table, checked.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        let disk: Self = read(text, "disk")?;
        let mut report = Report::new("disk");
        check::disk(&disk, Place::default(), &mut report);
        Ok(report.finish(Some(disk))?.0)
    }
}

impl Vif {
    /// As a TOML table, for a message to `oxd`.
    pub fn to_toml(&self) -> String {
        write(self)
    }

    /// From such a table, checked.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        let vif: Self = read(text, "vif")?;
        let mut report = Report::new("vif");
        check::vif(&vif, Place::default(), &mut report);
        Ok(report.finish(Some(vif))?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\n";

    fn problems(text: &str) -> String {
        parse(text, "t.toml").unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        for (more, wanted) in [
            ("memroy = 5", "t.toml:4:1: memroy: unknown field `memroy`"),
            ("vcpus = \"two\"", "t.toml:4:9: vcpus: invalid type"),
            (
                "vcpus = 0",
                "t.toml:4: vcpus: 0: a guest has 1 to 512 vCPUs",
            ),
            (
                "on_crash = \"die\"",
                "t.toml:4:12: on_crash: `die` is no action",
            ),
            ("uuid = \"1\"", "t.toml:4:8: uuid: `1` is no UUID"),
            ("memory = \"1G\"", "t.toml:4:1: memory: duplicate key"),
            ("cap = ", "t.toml:4:"),
            (
                "[[disk]]\nvdev = \"nonsense\"",
                "t.toml:5:8: vdev: `nonsense` is no disk",
            ),
            (
                "[[disk]]\nvdev = \"xvda\"\ntraget = \"/a\"",
                "t.toml:6:1: traget: unknown field",
            ),
            (
                "[[disk]]\nvdev = \"xvda\"\ntarget = \"/a\"\n\
                 [[disk]]\nvdev = \"xvda\"\ntarget = \"/b\"",
                "t.toml:4: disk: xvda is there twice",
            ),
            (
                "[[vif]]\nvifname = \"../eth0\"",
                "t.toml:5:11: vifname: '/' is not allowed",
            ),
            (
                "[[vif]]\nscript = \"../x\"",
                "t.toml:5:10: script: '/' is not allowed",
            ),
            (
                "[[vif]]\nscript = \"/a/../b\"",
                "t.toml:5:10: script: `/a/../b`: no `..`",
            ),
        ] {
            let text = problems(&format!("{BASE}{more}\n"));
            assert!(text.contains(wanted), "{more}:\n{text}");
        }
        assert!(problems("kernel = \"/k\"\n").contains("name"));
    }

    #[test]
    fn names_and_paths_that_try_to_escape_are_refused() {
        let long = "x".repeat(5000);
        for name in [
            "../x",
            "/etc/passwd",
            "..",
            "a\\u0000b",
            "a\\nb",
            "",
            "-rf",
            &long,
        ] {
            let text = problems(&format!("name = \"{name}\"\nkernel = \"/k\"\n"));
            assert!(text.starts_with("t.toml:1:8: name: "), "{name:?}: {text}");
        }
        for path in ["", "/a\\u0000b", "/a\\nb", &format!("/{long}")] {
            let text = problems(&format!(
                "name = \"a\"\nkernel = \"{path}\"\nmemory = \"64M\"\n"
            ));
            assert!(text.contains("t.toml:2: kernel: "), "{path:?}: {text}");
        }
    }
}
