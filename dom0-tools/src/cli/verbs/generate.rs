//! `completions` and `man`, from the definition of the command line itself.

use std::path::Path;

use clap::{Command, CommandFactory};

use crate::cli::args::{Completions, Man, Ox};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;

/// `completions`
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(args: &Completions, out: &mut Out<'_>) -> Result<(), Fail> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Ox::command(), "ox", &mut script);
    out.raw(&script)
}

/// `man`
///
/// # Errors
/// There is no such verb, or the folder cannot be written.
pub fn man(args: &Man, out: &mut Out<'_>) -> Result<(), Fail> {
    let mut ox = Ox::command();
    ox.build();
    if let Some(folder) = &args.dir {
        return all(&ox, folder);
    }
    let page = match &args.verb {
        None => ox.clone(),
        Some(verb) => ox.find_subcommand(verb).cloned().ok_or_else(|| {
            Fail::new(
                Exit::Usage,
                format!("`{verb}` is no verb: `ox --help` lists them"),
            )
        })?,
    };
    out.raw(&render(page)?)
}

fn all(ox: &Command, folder: &Path) -> Result<(), Fail> {
    let write = |name: &str, page: Command| {
        let file = folder.join(format!("{name}.1"));
        std::fs::write(&file, render(page)?)
            .map_err(|error| Fail::file(&file.display().to_string(), &error))
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| Fail::file(&folder.display().to_string(), &error))?;
    write("ox", ox.clone())?;
    for verb in ox.get_subcommands() {
        write(&format!("ox-{}", verb.get_name()), verb.clone())?;
    }
    Ok(())
}

/// A verb's page is called `ox-VERB`, which is its display name.
fn render(page: Command) -> Result<Vec<u8>, Fail> {
    let title = page.get_display_name().unwrap_or("ox").to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(page).title(title).render(&mut text)?;
    Ok(text)
}
