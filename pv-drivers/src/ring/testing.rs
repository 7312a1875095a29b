//! A page for tests: words for indices, bytes for data.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::vec::Vec;

use super::Page;

/// Data is below 3072 in both rings (below 2048 in xenstore's), indices above.
pub struct TestPage {
    bytes: Vec<AtomicU8>,
    words: Vec<AtomicU32>,
}

impl TestPage {
    pub fn new() -> Self {
        let mut bytes = Vec::new();
        bytes.resize_with(4096, AtomicU8::default);
        let mut words = Vec::new();
        words.resize_with(1024, AtomicU32::default);
        Self { bytes, words }
    }
}

impl Page for TestPage {
    fn read(&self, offset: usize, into: &mut [u8]) {
        for (n, byte) in into.iter_mut().enumerate() {
            *byte = self.bytes[offset + n].load(Ordering::Relaxed);
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        for (n, &byte) in from.iter().enumerate() {
            self.bytes[offset + n].store(byte, Ordering::Relaxed);
        }
    }

    fn load(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        self.words[offset / 4].load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        self.words[offset / 4].store(value, Ordering::Release);
    }
}
