//! `create` and `restore`.

use std::path::Path;

use serde::Serialize;

use super::life::{absolute, ask};
use super::{config, console};
use crate::cli::args::{Create, Restore};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{World, find, name_of};
use crate::domain::protocol::{Request, Response};
use crate::sys::DomId;

/// A domain that was made.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    domid: u16,
}

/// `create`
///
/// # Errors
/// The configuration is wrong, the name taken, or `oxd`'s.
pub fn create(world: &dyn World, args: &Create, out: &mut Out<'_>) -> Result<(), Fail> {
    let config = config::load(&args.file, &args.settings)?;
    if args.dry_run {
        return out.show(&config, crate::config::DomainConfig::to_toml);
    }
    if let Ok(there) = find(world, &config.name) {
        return Err(Fail::new(
            Exit::InUse,
            format!(
                "{}: name: domain {} has the name `{}` already: `ox destroy {}` or another name",
                args.file.display(),
                there.id,
                config.name,
                config.name
            ),
        ));
    }
    let request = Request::Create {
        config: config.to_toml(),
        paused: args.paused,
    };
    let domid = made(&ask(world, &request)?)?;
    if !args.quiet {
        let name = config.name.to_string();
        out.show(&Made { name, domid }, text)?;
    }
    match args.console {
        true => console::attach(world, DomId(domid), &config.name),
        false => Ok(()),
    }
}

fn text(made: &Made) -> String {
    format!("{}: domain {}\n", made.name, made.domid)
}

/// `restore`
///
/// # Errors
/// The file is damaged, the configuration wrong, the name taken, or `oxd`'s.
pub fn restore(world: &dyn World, args: &Restore, out: &mut Out<'_>) -> Result<(), Fail> {
    let (file, config) = match args.files.as_slice() {
        [config, file] => (file, Some(config::load(config, &[])?.to_toml())),
        [file] => (file, None),
        _ => return Err(Fail::new(Exit::Usage, "restore takes [CONFIG] FILE")),
    };
    readable(file)?;
    let request = Request::Restore {
        file: absolute(file)?,
        config,
        paused: args.paused,
    };
    let domid = made(&ask(world, &request)?)?;
    let name = name_of(world, DomId(domid)).unwrap_or_default();
    let shown = Made { name, domid };
    out.show(&shown, text)?;
    match args.console {
        true => console::attach(world, DomId(domid), &shown.name),
        false => Ok(()),
    }
}

fn readable(file: &Path) -> Result<(), Fail> {
    std::fs::File::open(file)
        .map(drop)
        .map_err(|error| Fail::file(&file.display().to_string(), &error))
}

/// The id in the answer to a request that makes a domain.
///
/// # Errors
/// It is another answer.
pub fn made(response: &Response) -> Result<u16, Fail> {
    match response {
        Response::Created { domain } => Ok(*domain),
        other => Err(unexpected(other)),
    }
}

/// An answer that does not fit the request.
pub fn unexpected(response: &Response) -> Fail {
    Fail::new(
        Exit::Failed,
        format!("oxd gave an answer that does not fit: {response:?}"),
    )
}
