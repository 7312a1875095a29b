//! `xl.cfg` as it is: read, and lowered to the typed form.

pub mod disk;
pub mod keys;
pub mod vif;

mod lower;
mod settings;
mod syntax;
mod write;

use super::problem::{Problem, Problems, Report};
use super::{Loaded, check};

/// Reads a configuration in `xl.cfg`'s form.
///
/// # Errors
/// What is not of the grammar, or all values that are not allowed, with their places.
pub(super) fn parse(text: &str, file: &str) -> Result<Loaded, Problems> {
    let settings = syntax::parse(text).map_err(|(at, text)| {
        Problems(vec![Problem {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            key: String::new(),
            text,
        }])
    })?;
    let mut settings = settings::Settings::new(settings, Report::new(file));
    let config = lower::lower(&mut settings);
    let (places, mut report) = settings.into_parts();
    if let Some(config) = &config {
        let place = |key: &str| {
            let also = match key {
                "cmdline" => "extra",
                _ => key,
            };
            places
                .get(key)
                .or_else(|| places.get(also))
                .copied()
                .unwrap_or_default()
        };
        check::check(config, &place, &mut report);
    }
    let (config, warnings) = report.finish(config)?;
    Ok(Loaded { config, warnings })
}

#[cfg(test)]
mod tests;
