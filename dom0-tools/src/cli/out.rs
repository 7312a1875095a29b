//! Where output goes: one value, shown as JSON or for people.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::exit::Fail;
use crate::domain::protocol::Event;

/// Standard output, or a buffer in tests.
pub struct Out<'a> {
    json: bool,
    to: Box<dyn Write + 'a>,
}

impl<'a> Out<'a> {
    /// Output to this.
    pub fn new(json: bool, to: impl Write + 'a) -> Self {
        Self {
            json,
            to: Box::new(to),
        }
    }

    /// Is JSON wanted?
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Shows a value: as JSON, or as this text.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Fail> {
        if self.json {
            self.print_json(value)
        } else {
            self.print(&text(value))
        }
    }

    /// Shows one of many values, each on a line of its own in JSON.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show_line<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Fail> {
        if self.json {
            let mut line = json(serde_json::to_string(value))?;
            line.push('\n');
            self.print(&line)?;
        } else {
            self.print(&text(value))?;
        }
        Ok(self.to.flush()?)
    }

    /// Prints JSON whatever is wanted.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fail> {
        let mut text = json(serde_json::to_string_pretty(value))?;
        text.push('\n');
        self.print(&text)
    }

    /// Prints text.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&mut self, text: &str) -> Result<(), Fail> {
        Ok(self.to.write_all(text.as_bytes())?)
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        self.to.write_all(bytes)?;
        Ok(self.to.flush()?)
    }
}

fn json(text: serde_json::Result<String>) -> Result<String, Fail> {
    text.map_err(|error| io::Error::other(error).into())
}

/// Says something beside the output, on standard error.
pub fn note(text: &str) {
    // Nobody to tell if even this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows on the terminal, if standard error is one, how far a long request is.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    shown: bool,
    /// What was shown last, and when.
    last: Option<(String, Instant)>,
}

/// Between two looks at the same thing: nobody reads faster, and a serial line takes its time for
/// each character.
const PAUSE: Duration = Duration::from_millis(250);

impl Progress {
    /// Nothing shown yet.
    pub fn of_stderr() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: false,
            last: None,
        }
    }

    /// Whether something new has begun, or the same was shown a while ago.
    fn is_due(&mut self, what: &str, now: Instant) -> bool {
        let recent = |(last, at): &(String, Instant)| {
            last == what && now.saturating_duration_since(*at) < PAUSE
        };
        if self.last.as_ref().is_some_and(recent) {
            return false;
        }
        self.last = Some((what.to_owned(), now));
        true
    }

    /// Takes an event of `oxd`; warnings are always printed.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Progress { what, done, of } if self.terminal => {
                if !self.is_due(what, Instant::now()) {
                    return;
                }
                let text = progress_text(what, *done, *of);
                let _ = write!(io::stderr(), "\r\x1b[K{text}");
                self.shown = true;
            }
            Event::Warning(text) => {
                self.clear();
                note(&format!("warning: {text}"));
            }
            Event::Progress { .. } | Event::Domain(_) => {}
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn progress_text(what: &str, done: u64, of: u64) -> String {
    const MIB: u64 = 1 << 20;
    let (done_mib, of_mib) = (done / MIB, of.div_ceil(MIB));
    match (u128::from(done) * 100).checked_div(u128::from(of)) {
        Some(percent) => format!("{what}: {percent:3} % ({done_mib} of {of_mib} MiB)"),
        None if done > 0 => format!("{what}: {done_mib} MiB"),
        None => format!("{what} …"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_at_once_and_then_only_so_often() {
        let mut progress = Progress {
            terminal: true,
            shown: false,
            last: None,
        };
        let start = Instant::now();
        assert!(progress.is_due("saving", start));
        assert!(!progress.is_due("saving", start + PAUSE / 2));
        assert!(progress.is_due("attaching", start + PAUSE / 2));
        assert!(progress.is_due("saving", start + PAUSE / 2));
        assert!(progress.is_due("saving", start + PAUSE * 2));
    }

    #[test]
    fn progress_of_nothing_divides_by_nothing() {
        assert_eq!(progress_text("saving", 0, 0), "saving …");
        assert_eq!(
            progress_text("saving", 128 << 20, 256 << 20),
            "saving:  50 % (128 of 256 MiB)"
        );
        assert_eq!(
            progress_text("saving", u64::MAX, 1),
            format!(
                "saving: {} % ({} of 1 MiB)",
                u128::from(u64::MAX) * 100,
                u64::MAX >> 20
            )
        );
    }
}
