//! `logs`: what a domain printed, from the files that the console's server writes.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::args::Logs;
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::Out;
use crate::cli::world::{World, find};
use crate::config::DomainName;
use crate::device::console::log;

/// Between two looks at the file, when following.
const PACE: Duration = Duration::from_millis(250);

/// Where Debian's xenconsoled writes, if it serves consoles.
const XENCONSOLED: &str = "/var/log/xen/console";

/// What `logs` shows in JSON.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    file: PathBuf,
    lines: Vec<String>,
}

/// `logs`
///
/// # Errors
/// There is no such log.
pub fn logs(world: &dyn World, args: &Logs, out: &mut Out<'_>) -> Result<(), Fail> {
    let name = match args.domain.parse::<DomainName>() {
        // Of a domain that is gone, too.
        Ok(name) => name.to_string(),
        Err(_) => find(world, &args.domain)?.name,
    };
    let (file, bytes) = newest(&name)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let skip = args
        .lines
        .map_or(0, |count| all.len().saturating_sub(count));
    let last: String = all[skip..].concat();
    if out.json() {
        let lines = last
            .lines()
            .map(|line| line.trim_end_matches('\r').to_owned());
        let lines = lines.collect();
        return out.print_json(&Shown { name, file, lines });
    }
    out.raw(last.as_bytes())?;
    if args.follow {
        follow(&file, out)?;
    }
    Ok(())
}

/// The log and its file.
fn newest(name: &str) -> Result<(PathBuf, Vec<u8>), Fail> {
    let folder = Path::new(log::FOLDER);
    let ours = log::path_of(folder, name);
    let theirs = Path::new(XENCONSOLED).join(format!("guest-{name}.log"));
    match log::tail(folder, name, 2 * log::FILE_BYTES) {
        Ok(bytes) => return Ok((ours, bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Fail::file(&ours.display().to_string(), &error)),
    }
    match std::fs::read(&theirs) {
        Ok(bytes) => Ok((theirs, bytes)),
        Err(_) => Err(Fail::new(
            Exit::NotFound,
            format!(
                "there is no console log of `{name}` in {}: was there such a domain?",
                log::FOLDER
            ),
        )),
    }
}

/// Prints what is added to the file, and goes on with its successor when it is rotated.
fn follow(path: &Path, out: &mut Out<'_>) -> Result<(), Fail> {
    let wrong = |error| Fail::file(&path.display().to_string(), &error);
    let mut file = File::open(path).map_err(wrong)?;
    file.seek(SeekFrom::End(0)).map_err(wrong)?;
    let mut buffer = [0; 4096];
    loop {
        match file.read(&mut buffer).map_err(wrong)? {
            0 => {
                let now = std::fs::metadata(path).map(|data| data.ino()).ok();
                let mine = file.metadata().map(|data| data.ino()).ok();
                if now.is_some() && now != mine {
                    file = File::open(path).map_err(wrong)?;
                } else {
                    std::thread::sleep(PACE);
                }
            }
            count => out.raw(&buffer[..count])?,
        }
    }
}
