//! A page for tests and fuzzers: ordinary memory, but every access atomic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use super::Page;

/// 4 KiB of zeros at first. Bytes are parts of words, so both ways of access see one memory.
#[derive(Debug)]
pub struct TestPage(Vec<AtomicU32>);

impl Default for TestPage {
    fn default() -> Self {
        Self::new()
    }
}

impl TestPage {
    /// A page of zeros.
    #[must_use]
    pub fn new() -> Self {
        let mut words = Vec::new();
        words.resize_with(1024, AtomicU32::default);
        Self(words)
    }
}

/// Splits a range of bytes into what lies in each word: the word, the first byte in it, the count.
fn pieces(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut at = offset;
    core::iter::from_fn(move || {
        let count = (4 - at % 4).min(offset + length - at);
        let piece = (at / 4, at % 4, count);
        at += count;
        (count != 0).then_some(piece)
    })
}

impl Page for TestPage {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let mut rest = into;
        for (word, first, count) in pieces(offset, rest.len()) {
            let bytes = self.0[word].load(Ordering::Relaxed).to_ne_bytes();
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&bytes[first..first + count]);
            rest = later;
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let mut rest = from;
        for (word, first, count) in pieces(offset, rest.len()) {
            let (now, later) = rest.split_at(count);
            let put = |old: u32| {
                let mut bytes = old.to_ne_bytes();
                bytes[first..first + count].copy_from_slice(now);
                Some(u32::from_ne_bytes(bytes))
            };
            // It always puts something.
            let _ = self.0[word].fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
            rest = later;
        }
    }

    fn load(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        self.0[offset / 4].load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        self.0[offset / 4].store(value, Ordering::Release);
    }
}
