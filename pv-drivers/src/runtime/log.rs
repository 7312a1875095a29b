//! The `log` crate's records, on the console.

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

use super::{clock, console};

struct Console;

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let millis = clock::now() / 1_000_000;
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (level, target, text) = (record.level(), record.target(), record.args());
        crate::println!("[{seconds}.{millis:03}] {level:5} {target}: {text}");
    }

    fn flush(&self) {
        console::drain();
    }
}

/// From now on records up to this level are lines of the console, with the guest's time.
///
/// # Errors
/// Somebody else takes the records already.
pub fn init(most: LevelFilter) -> Result<(), SetLoggerError> {
    log::set_logger(&Console)?;
    log::set_max_level(most);
    Ok(())
}
