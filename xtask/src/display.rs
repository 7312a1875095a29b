//! What a machine's display shows, as text: by QEMU's monitor.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use embedded_graphics::geometry::{OriginDimensions, Point};
use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::ascii::FONT_9X15 as FONT;
use embedded_graphics::pixelcolor::BinaryColor;

use crate::serial;

/// Time between two looks at the display.
const PAUSE: Duration = Duration::from_millis(250);

/// A machine that is only looked at: no serial line.
pub struct Machine {
    child: Child,
    scratch: PathBuf,
}

/// Where the text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// Pixels, by the letters of the hypervisor's font.
    Pixels,
    /// The characters at 0xb8000.
    Text,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    /// Starts QEMU by `command` (with `Console::None`), whose files are in `scratch`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(mut command: Command, scratch: &Path) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        serial::filter_warnings(child.stderr.take());
        Ok(Self {
            child,
            scratch: scratch.to_path_buf(),
        })
    }

    /// Waits until `screen` shows all of `texts` at once; answers what it shows then.
    ///
    /// # Errors
    /// With what it shows instead, after `timeout`.
    pub fn await_texts(
        &mut self,
        screen: Screen,
        texts: &[&str],
        timeout: Duration,
    ) -> Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        loop {
            let shown = self.lines(screen).unwrap_or_default();
            let has = |text: &&str| shown.iter().any(|line| line.contains(*text));
            if texts.iter().all(has) {
                return Ok(shown);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("QEMU ended with {status} before the display showed {texts:?}");
            }
            if Instant::now() > deadline {
                let shown: Vec<_> = shown.iter().filter(|line| !line.is_empty()).collect();
                bail!("the display does not show {texts:?} but {shown:#?}");
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What the display shows now.
    fn lines(&self, screen: Screen) -> Result<Vec<String>> {
        match screen {
            Screen::Pixels => {
                self.ask("screendump shot.ppm")?;
                read_picture(&std::fs::read(self.scratch.join("shot.ppm"))?)
            }
            Screen::Text => {
                let cells = self.ask("xp /2000hx 0xb8000")?;
                let characters: Vec<char> = cells
                    .split_whitespace()
                    .filter_map(|word| u16::from_str_radix(word.strip_prefix("0x")?, 16).ok())
                    .map(|cell| char::from(cell as u8))
                    .collect();
                let line = |row: &[char]| row.iter().collect::<String>().trim_end().to_owned();
                Ok(characters.chunks(80).map(line).collect())
            }
        }
    }

    /// The monitor's answer to a command.
    fn ask(&self, command: &str) -> Result<String> {
        let mut monitor = UnixStream::connect(self.scratch.join("monitor"))?;
        monitor.set_read_timeout(Some(Duration::from_secs(30)))?;
        read_to_prompt(&mut monitor)?;
        writeln!(monitor, "{command}")?;
        read_to_prompt(&mut monitor)
    }
}

fn read_to_prompt(monitor: &mut UnixStream) -> Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"(qemu) ") {
        let mut byte = [0];
        monitor.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Lines of a glyph, from top to bottom, the pixel on the left in bit 0.
type Glyph = Vec<u32>;

/// The hypervisor's letters by their looks.
fn letters() -> HashMap<Glyph, char> {
    let (width, height) = cell();
    let columns = FONT.image.size().width as usize / width;
    let glyph = |c: char| {
        let at = FONT.glyph_mapping.index(c);
        let (left, top) = (at % columns * width, at / columns * height);
        look(|x, y| {
            let place = Point::new((left + x) as i32, (top + y) as i32);
            FONT.image.pixel(place) == Some(BinaryColor::On)
        })
    };
    (' '..='~').map(|c| (glyph(c), c)).collect()
}

fn cell() -> (usize, usize) {
    let size = FONT.character_size;
    (size.width as usize, size.height as usize)
}

fn look(on: impl Fn(usize, usize) -> bool) -> Glyph {
    let (width, height) = cell();
    let line = |y| (0..width).fold(0, |line, x| line | u32::from(on(x, y)) << x);
    (0..height).map(line).collect()
}

/// The text of a picture in the form PPM (P6), cell by cell from its top left corner.
fn read_picture(file: &[u8]) -> Result<Vec<String>> {
    let mut fields = file.splitn(4, u8::is_ascii_whitespace);
    let mut number = || -> Result<usize> {
        let field = fields.next().context("a field is missing")?;
        Ok(std::str::from_utf8(field)?
            .trim_start_matches("P6")
            .parse()
            .unwrap_or(0))
    };
    let (_, width, height) = (number()?, number()?, number()?);
    let pixels = fields
        .next()
        .and_then(|rest| rest.strip_prefix(b"255\n"))
        .filter(|pixels| width > 0 && pixels.len() == width * height * 3)
        .context("not a picture")?;
    let letters = letters();
    let (w, h) = cell();
    let lines = (0..height / h).map(|row| {
        let line: String = (0..width / w)
            .map(|column| {
                let seen = look(|x, y| {
                    let at = ((row * h + y) * width + column * w + x) * 3;
                    pixels[at..at + 3].iter().any(|part| *part > 0x40)
                });
                letters.get(&seen).copied().unwrap_or('\u{fffd}')
            })
            .collect();
        line.trim_end().to_owned()
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read() {
        let (w, h) = cell();
        let (width, height) = (w * 3 + 2, h + 1);
        let mut pixels = vec![0u8; width * height * 3];
        let by_letter: HashMap<_, _> = letters().into_iter().map(|(g, c)| (c, g)).collect();
        for (n, c) in "Ox.".chars().enumerate() {
            for (y, line) in by_letter[&c].iter().enumerate() {
                for x in (0..w).filter(|x| line >> x & 1 != 0) {
                    let at = (y * width + n * w + x) * 3;
                    pixels[at..at + 3].fill(0xaa);
                }
            }
        }
        let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
        file.extend(&pixels);
        assert_eq!(read_picture(&file).unwrap(), ["Ox."]);
        file.pop();
        assert!(read_picture(&file).is_err());
        assert!(read_picture(b"P6\n").is_err());
    }
}
