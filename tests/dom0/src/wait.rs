//! Waits for a text in a file that another program appends to, such as a guest's console. A shell
//! that did it with `grep` would spend an emulated machine's time on starting it.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::Failure;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns once the file, which need not be there yet, holds the text.
pub fn run(file: &str, text: &str, seconds: u64) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut open = None;
    let mut seen = Vec::new();
    while Instant::now() < until {
        if open.is_none() {
            open = File::open(file).ok();
        }
        if let Some(open) = &mut open {
            open.read_to_end(&mut seen)
                .map_err(|error| format!("{file}: {error}"))?;
            if holds(&seen, text.as_bytes()) {
                return Ok(());
            }
            // What may be the text's beginning stays.
            let kept = text.len().saturating_sub(1).min(seen.len());
            seen.drain(..seen.len() - kept);
        }
        std::thread::sleep(PAUSE);
    }
    Err(format!("no \"{text}\" in {file} in {seconds} s"))
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|part| part == text)
}
