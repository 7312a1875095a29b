//! `config-check`, and how configurations are loaded for other verbs.

use std::path::Path;

use serde::Serialize;

use crate::cli::args::ConfigCheck;
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::{Out, note};
use crate::config::{self, DomainConfig, LoadError, Loaded, Problem};

/// What `config-check` found.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    file: String,
    ok: bool,
    errors: Vec<Shown<'a>>,
    warnings: Vec<Shown<'a>>,
    /// The configuration, if it is right.
    config: Option<&'a DomainConfig>,
}

/// One problem.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// 0: about the file as a whole.
    line: u32,
    column: u32,
    key: &'a str,
    text: &'a str,
}

fn shown(problems: &[Problem]) -> Vec<Shown<'_>> {
    let mut all = Vec::new();
    for problem in problems {
        all.push(Shown {
            line: problem.line,
            column: problem.column,
            key: &problem.key,
            text: &problem.text,
        });
    }
    all
}

/// `config-check`
///
/// # Errors
/// The configuration is wrong, or (if strict) not without warnings.
pub fn check(args: &ConfigCheck, out: &mut Out<'_>) -> Result<(), Fail> {
    let file = args.file.display().to_string();
    let loaded = match config::load(&args.file, &args.settings) {
        Ok(loaded) => loaded,
        Err(error @ LoadError::File { .. }) => return Err(error.into()),
        Err(LoadError::Wrong(problems)) => {
            if out.json() {
                out.print_json(&Checked {
                    file,
                    ok: false,
                    errors: shown(&problems.0),
                    warnings: Vec::new(),
                    config: None,
                })?;
            }
            return Err(problems.into());
        }
    };
    let Loaded { config, warnings } = &loaded;
    let strict = args.strict && !warnings.is_empty();
    if args.toml && !out.json() {
        out.print(&config.to_toml())?;
    } else {
        let checked = Checked {
            file: file.clone(),
            ok: !strict,
            errors: Vec::new(),
            warnings: shown(warnings),
            config: Some(config),
        };
        out.show(&checked, |checked| match checked.ok {
            true => format!("{file}: ok: domain {}\n", config.name),
            false => String::new(),
        })?;
    }
    if !out.json() {
        warn(warnings);
    }
    match strict {
        true => Err(Fail::new(
            Exit::Config,
            format!(
                "{file}: {} warning(s), and --strict allows none",
                warnings.len()
            ),
        )),
        false => Ok(()),
    }
}

/// A configuration for `oxd`: warnings printed, paths absolute, named files there.
///
/// # Errors
/// It is wrong, or a file it names is missing.
pub fn load(file: &Path, settings: &[String]) -> Result<DomainConfig, Fail> {
    let Loaded { config, warnings } = config::load(file, settings)?;
    warn(&warnings);
    let here = std::env::current_dir().map_err(|error| Fail::file("current folder", &error))?;
    let config = config.with_paths_from(&here);
    files(&config, &file.display().to_string())?;
    Ok(config)
}

fn warn(warnings: &[Problem]) {
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
}

/// Says which key names a file that is not there, before anything is begun.
fn files(config: &DomainConfig, file: &str) -> Result<(), Fail> {
    let there = |key: &str, path: &str| {
        std::fs::File::open(path)
            .map(drop)
            .map_err(|error| Fail::file(&format!("{file}: {key}: {path}"), &error))
    };
    for (key, path) in [("kernel", &config.kernel), ("ramdisk", &config.ramdisk)] {
        // A boot loader brings its own.
        if let Some(path) = path
            && config.bootloader.is_none()
        {
            there(key, path)?;
        }
    }
    for disk in &config.disk {
        if let Some(target) = &disk.target
            && disk.script.is_none()
            && disk.backend.as_deref().is_none_or(config::is_dom0)
        {
            there(&format!("disk {}", disk.vdev), target)?;
        }
    }
    Ok(())
}
