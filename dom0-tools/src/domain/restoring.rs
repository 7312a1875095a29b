//! A domain out of a file that `ox` or `xl` wrote.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::create::{self, Progress, Source};
use super::daemon::Daemon;
use super::protocol::{Failure, FailureCode};
use crate::config::{self, DomainConfig, Form, Uuid, libxl};
use crate::stream::file::{self, Config, Opened};
use crate::sys::DomId;

/// A file that is whole, as far as that can be told before its domain is made: the checksum of
/// one that `ox` wrote is right.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    config: DomainConfig,
    stream: BufReader<File>,
    /// Where the stream begins in the file, bytes.
    begins: u64,
}

impl Saved {
    /// Opens a file. `other` takes the place of the configuration in it; what that leaves open
    /// stays as the guest knows it.
    ///
    /// # Errors
    /// [`FailureCode::BadFile`]: it is damaged, or nobody's.
    pub fn open(path: &Path, other: Option<DomainConfig>) -> Result<Self, Failure> {
        let opened = file::open(path).map_err(|error| Failure::of_file(path, &error))?;
        let Opened {
            config,
            stream,
            begins,
        } = opened;
        let config = match (configuration(path, &config), other) {
            (Ok(saved), Some(mut other)) => {
                other.uuid = other.uuid.or(saved.uuid);
                other
            }
            (Err(_), Some(other)) => other,
            (saved, None) => saved?,
        };
        let path = path.to_owned();
        Ok(Self {
            path,
            config,
            stream,
            begins,
        })
    }

    /// The domain's UUID; none is one that is drawn when it is made.
    pub const fn uuid(&self) -> Option<Uuid> {
        self.config.uuid
    }

    /// Makes the domain.
    ///
    /// # Errors
    /// Those of [`Daemon::make`]; no domain is left then.
    pub fn restore(
        mut self,
        daemon: &Arc<Daemon>,
        paused: bool,
        progress: Progress<'_>,
    ) -> Result<DomId, Failure> {
        let source = Source::Stream(create::Saved {
            stream: &mut self.stream,
            begins: self.begins,
        });
        let made = daemon.make(self.config, paused, source, progress);
        made.map_err(|failure| match failure.code {
            FailureCode::BadFile => Failure::new(
                failure.code,
                format!("{}: {}", self.path.display(), failure.text),
            ),
            _ => failure,
        })
    }
}

/// The configuration in a file.
fn configuration(path: &Path, saved: &Config) -> Result<DomainConfig, Failure> {
    let name = format!("configuration in {}", path.display());
    let read = match saved {
        Config::Toml(text) => DomainConfig::from_toml(text, &name),
        Config::Xl(text) => config::parse(text, &name, Form::Xl).map(|loaded| loaded.config),
        Config::Json(text) => libxl::parse(text, &name),
    };
    read.map_err(|error| Failure::new(FailureCode::BadConfig, error.to_string()))
}
