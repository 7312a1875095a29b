use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::string::String;
use std::vec::Vec;

/// Memory of a screen, and how much was written to it.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    written: core::cell::Cell<usize>,
}

impl Memory {
    fn new(screen: &Framebuffer) -> Self {
        let memory = screen.memory();
        Self {
            bytes: RefCell::new(std::vec![0xee; (memory.end - memory.start) as usize]),
            written: core::cell::Cell::new(0),
        }
    }
}

impl ScreenMem for &Memory {
    fn size(&self) -> usize {
        self.bytes.borrow().len()
    }
    fn write(&self, at: usize, bytes: &[u8]) {
        self.written.set(self.written.get() + bytes.len());
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn settle(&self) {}
}

/// What a text screen shows.
fn lines(memory: &Memory, columns: usize) -> Vec<String> {
    let bytes = memory.bytes.borrow();
    bytes
        .chunks_exact(columns * 2)
        .map(|row| {
            let text: String = row.chunks_exact(2).map(|c| char::from(c[0])).collect();
            text.trim_end().into()
        })
        .collect()
}

/// A small text screen.
const SMALL: Framebuffer = Framebuffer {
    pitch: 20,
    width: 10,
    height: 4,
    ..Framebuffer::TEXT_80X25
};

/// What `text` looks like on a small screen.
fn small(text: &str) -> Vec<String> {
    let memory = Memory::new(&SMALL);
    let canvas = Canvas::new(&SMALL, &memory).expect("can be drawn on");
    Screen::new(&canvas).write(text.as_bytes());
    lines(&memory, 10)
}

#[test]
fn lines_follow_each_other_and_wrap() {
    assert_eq!(small("one\ntwo"), ["one", "two", "", ""]);
    assert_eq!(small("0123456789"), ["0123456789", "", "", ""]);
    assert_eq!(small("0123456789ab"), ["0123456789", "ab", "", ""]);
    assert_eq!(small("0123456789\nab"), ["0123456789", "ab", "", ""]);
    assert_eq!(small("over\rO\tt"), ["Over    t", "", "", ""]);
    assert_eq!(small("ab\u{8}c\u{7}\u{1b}"), ["ac", "", "", ""]);
    assert_eq!(small("gr\u{fc}n \u{20ac}"), ["gr?n ?", "", "", ""]);
}

#[test]
fn text_moves_up_when_there_is_more() {
    assert_eq!(small("1\n2\n3\n4\n"), ["1", "2", "3", "4"]);
    assert_eq!(small("1\n2\n3\n4\n5"), ["2", "3", "4", "5"]);
    assert_eq!(small("1\n2\n3\n4\n\n\n7"), ["4", "", "", "7"]);
    let many: String = (0..100).map(|n| std::format!("{n}\n")).collect();
    assert_eq!(small(&many), ["96", "97", "98", "99"]);
}

#[test]
fn the_cursor_stays_on_the_screen() {
    let memory = Memory::new(&SMALL);
    let canvas = Canvas::new(&SMALL, &memory).expect("can be drawn on");
    let mut screen = Screen::new(&canvas);
    screen.write(b"abc");
    assert_eq!(screen.cursor(), (3, 0));
    screen.write(b"\n\n\n0123456789");
    assert_eq!(screen.cursor(), (9, 3));
    screen.write(b"\n");
    assert_eq!(screen.cursor(), (0, 3));
}

#[test]
fn only_what_changed_is_drawn() {
    let memory = Memory::new(&SMALL);
    let canvas = Canvas::new(&SMALL, &memory).expect("can be drawn on");
    let mut screen = Screen::new(&canvas);
    screen.write(b"same\nsame\nsame\nsame");
    memory.written.set(0);
    screen.write(b"\nsamX");
    assert_eq!(memory.written.get(), 2);
}

#[test]
fn a_screen_that_somebody_else_used_is_cleared() {
    let memory = Memory::new(&SMALL);
    let canvas = Canvas::new(&SMALL, &memory).expect("can be drawn on");
    Screen::new(&canvas).write(b"first");
    memory.bytes.borrow_mut().fill(b'x');
    Screen::new(&canvas).write(b"last");
    assert_eq!(lines(&memory, 10), ["last", "", "", ""]);
}

/// Draws `text` in pixels of `bits` bits and scales it; answers the picture as rows of
/// `#` and `.`.
fn picture(text: &str, bits: u8, factor: u32) -> Vec<String> {
    let (width, height) = (9 * 2 * factor + 5, 15 * factor + 3);
    let screen = Framebuffer {
        address: 0xfd00_0000,
        pitch: width * u32::from(bits).div_ceil(8) + 8,
        width,
        height,
        bits,
        kind: FramebufferKind::Rgb(if bits == 16 {
            [(11, 5), (5, 6), (0, 5)]
        } else {
            [(16, 8), (8, 8), (0, 8)]
        }),
    };
    let memory = Memory::new(&screen);
    let canvas = Canvas::new(&screen, &memory).expect("can be drawn on");
    Screen::new(&canvas).write(text.as_bytes());
    let bytes = memory.bytes.borrow();
    bytes
        .chunks_exact(screen.pitch as usize)
        .map(|line| {
            let pixels = line.chunks_exact(usize::from(bits.div_ceil(8)));
            let shown = pixels.map(|p| if p.iter().all(|b| *b == 0) { '.' } else { '#' });
            shown.take(width as usize).collect()
        })
        .collect()
}

#[test]
fn letters_look_alike_in_every_depth() {
    let expected = picture("Ox", 32, 1);
    assert!(expected.iter().any(|line| line.contains("##")));
    assert!(expected.iter().all(|line| line.ends_with(".....")));
    assert_eq!(picture("Ox", 24, 1), expected);
    assert_eq!(picture("Ox", 16, 1), expected);
}

#[test]
fn the_largest_screen_stays_inside_its_memory() {
    let screen = Framebuffer {
        address: 1 << 40,
        pitch: 1 << 16,
        width: 1 << 14,
        height: if cfg!(miri) { 200 } else { 1 << 11 },
        bits: 32,
        kind: FramebufferKind::Rgb([(0, 8), (8, 8), (16, 8)]),
    };
    let memory = Memory::new(&screen);
    let canvas = Canvas::new(&screen, &memory).expect("can be drawn on");
    let (columns, rows) = canvas.size();
    assert!(columns <= 256 && rows <= 128);
    let mut screen = Screen::new(&canvas);
    screen.write(&std::vec![b'W'; if cfg!(miri) { 300 } else { columns * rows }]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    /// In whatever pieces text comes, the screen shows the same.
    #[test]
    fn pieces_do_not_matter(text in "[ -~\n\r\t\u{8}\u{e9}]{0,120}", cut in 0usize..120) {
        let whole = small(&text);
        let memory = Memory::new(&SMALL);
        let canvas = Canvas::new(&SMALL, &memory).expect("can be drawn on");
        let mut screen = Screen::new(&canvas);
        let (one, other) = text.as_bytes().split_at(cut.min(text.len()));
        screen.write(one);
        screen.write(other);
        prop_assert_eq!(lines(&memory, 10), whole);
    }
}
