//! The grammar of `xl.cfg`: settings of atoms and lists, with their places.
//!
//! `key = value` or `key += value`, ended by a newline or `;`. A value is a string in
//! either quotes, a number, or a list in brackets, which may span lines and hold lists. `#`
//! begins a comment. A backslash in a string escapes as in C.

use crate::config::problem::Place;

/// Deepest nesting of lists.
const DEEPEST: u32 = 16;

/// One line's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub at: Place,
    /// `+=` rather than `=`.
    pub append: bool,
    pub value: Value,
}

/// What stands behind `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub at: Place,
    pub kind: Kind,
}

/// Kinds of value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In quotes.
    Text(String),
    /// A number, as it was written.
    Number(String),
    /// In brackets.
    List(Vec<Value>),
}

/// What is wrong, and where.
pub type Wrong = (Place, String);

/// All settings in their order.
///
/// # Errors
/// The first thing that is not of the grammar.
pub fn parse(text: &str) -> Result<Vec<Setting>, Wrong> {
    let mut reader = Reader::new(text);
    let mut settings = Vec::new();
    loop {
        reader.skip(true);
        while reader.take(';') {
            reader.skip(true);
        }
        if reader.peek().is_none() {
            return Ok(settings);
        }
        settings.push(reader.setting()?);
    }
}

struct Reader<'a> {
    rest: std::str::Chars<'a>,
    at: Place,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            at: Place { line: 1, column: 1 },
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.at.line = self.at.line.saturating_add(1);
            self.at.column = 1;
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    /// Skips blanks and comments; newlines too if they mean nothing here.
    fn skip(&mut self, newlines: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' => {}
                '\n' if newlines => {}
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    fn word(&mut self, part: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek().filter(|c| part(*c)) {
            word.push(next);
            self.next();
        }
        word
    }

    /// "expected this, found that"
    fn wrong(&self, expected: &str) -> Wrong {
        let found = match self.peek() {
            None => "the end of the file".into(),
            Some('\n') => "the end of the line".into(),
            Some(other) => format!("{other:?}"),
        };
        (self.at, format!("expected {expected}, found {found}"))
    }

    fn setting(&mut self) -> Result<Setting, Wrong> {
        let at = self.at;
        let key = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        if !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err((at, self.wrong("a key such as `memory`").1));
        }
        self.skip(false);
        let append = self.take('+');
        if !self.take('=') {
            return Err(self.wrong(&format!("`=` behind `{key}`")));
        }
        self.skip(false);
        let value = self.value(0)?;
        self.skip(false);
        match self.peek() {
            None => {}
            Some('\n' | ';') => {
                self.next();
            }
            Some(_) => return Err(self.wrong("a newline or `;`")),
        }
        Ok(Setting {
            key,
            at,
            append,
            value,
        })
    }

    fn value(&mut self, depth: u32) -> Result<Value, Wrong> {
        let at = self.at;
        let kind = match self.peek() {
            Some(quote @ ('"' | '\'')) => Kind::Text(self.string(quote)?),
            Some('[') => Kind::List(self.list(depth)?),
            Some(c) if c.is_ascii_digit() || c == '-' => {
                let number = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
                if integer(&number).is_none() {
                    return Err((
                        at,
                        format!("`{number}` is no number: put quotes around text"),
                    ));
                }
                Kind::Number(number)
            }
            Some(c) if c.is_ascii_alphabetic() || c == '/' => {
                let word = self.word(|c| !c.is_whitespace() && !matches!(c, ',' | ';' | ']' | '#'));
                return Err((at, format!("put quotes around text: \"{word}\"")));
            }
            _ => return Err(self.wrong("a value: \"text\", a number or a [list]")),
        };
        Ok(Value { at, kind })
    }

    fn list(&mut self, depth: u32) -> Result<Vec<Value>, Wrong> {
        let begin = self.at;
        if depth >= DEEPEST {
            return Err((begin, format!("lists are nested more than {DEEPEST} deep")));
        }
        self.next();
        let mut values = Vec::new();
        loop {
            self.skip(true);
            if self.take(']') {
                return Ok(values);
            }
            if self.peek().is_none() {
                return Err((begin, "this `[` has no `]`".into()));
            }
            values.push(self.value(depth + 1)?);
            self.skip(true);
            if !self.take(',') && self.peek() != Some(']') {
                if self.peek().is_none() {
                    return Err((begin, "this `[` has no `]`".into()));
                }
                return Err(self.wrong("`,` or `]` in the list"));
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<String, Wrong> {
        let begin = self.at;
        self.next();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                None | Some('\n') => {
                    return Err((begin, format!("this {quote} has no partner on its line")));
                }
                Some('\\') => text.push(self.escape(at)?),
                Some(c) if c == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, at: Place) -> Result<char, Wrong> {
        let bad = |what: &str| {
            (
                at,
                format!("`\\{what}` is no escape: write `\\\\` for a backslash"),
            )
        };
        let number = |digits: &str, base| {
            u32::from_str_radix(digits, base)
                .ok()
                .filter(|code| (1..0x80).contains(code))
                .and_then(char::from_u32)
        };
        Ok(match self.next() {
            Some(c @ ('\\' | '\'' | '"')) => c,
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some('x') => {
                let digits: String = (0..2)
                    .filter_map(|_| self.next_if(|c| c.is_ascii_hexdigit()))
                    .collect();
                number(&digits, 16).ok_or_else(|| bad(&format!("x{digits}")))?
            }
            Some(first @ '0'..='7') => {
                let more = (0..2).filter_map(|_| self.next_if(|c| matches!(c, '0'..='7')));
                let digits: String = std::iter::once(first).chain(more).collect();
                number(&digits, 8).ok_or_else(|| bad(&digits))?
            }
            Some(other) => return Err(bad(&other.escape_default().to_string())),
            None => return Err(bad("")),
        })
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.peek().filter(|c| wanted(*c))?;
        self.next()
    }
}

/// A whole number as C's `strtol` with base 0 reads it: `0x` hexadecimal, `0` octal.
pub fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        if hex.starts_with(['+', '-']) {
            return None;
        }
        i64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    number.ok().map(|n| if negative { -n } else { n })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<(String, Kind)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|setting| (setting.key, setting.value.kind))
            .collect()
    }

    #[test]
    fn the_grammar() {
        let text = "# comment\n name='a \"b\"' # more\nn = 0x10; m=-3\n\nlist = [ 'x', # one\n 'y', [1,2],\n]\nlist += ['z']";
        let found = kinds(text);
        assert_eq!(found[0], ("name".into(), Kind::Text("a \"b\"".into())));
        assert_eq!(found[1], ("n".into(), Kind::Number("0x10".into())));
        assert_eq!(found[2], ("m".into(), Kind::Number("-3".into())));
        let Kind::List(list) = &found[3].1 else {
            panic!("{:?}", found[3])
        };
        assert_eq!(list.len(), 3);
        assert_eq!(list[1].at, Place { line: 6, column: 2 });
        assert!(parse(text).unwrap()[4].append);
        assert_eq!(
            kinds("a=\"x\\ty\\x41\\101\\\\\"")[0].1,
            Kind::Text("x\tyAA\\".into())
        );
        assert_eq!(kinds(";;a=1;\r\n;b=2\r\n").len(), 2);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, line, column, part) in [
            ("name = web\n", 1, 8, "quotes around text: \"web\""),
            ("a=1\nb='x\n", 2, 3, "no partner"),
            ("a=['x'\n'y']", 2, 1, "`,` or `]`"),
            ("a=[1,\n2", 1, 3, "no `]`"),
            ("memory 512", 1, 8, "`=` behind `memory`"),
            ("=5", 1, 1, "a key"),
            ("a=1 b=2", 1, 5, "a newline or `;`"),
            ("a=", 1, 3, "the end of the file"),
            ("a='\\q'", 1, 4, "no escape"),
            ("a=12K", 1, 3, "no number"),
            ("a='\\0'", 1, 4, "no escape"),
        ] {
            let (at, wrong) = parse(text).unwrap_err();
            assert_eq!((at.line, at.column), (line, column), "{text:?}: {wrong}");
            assert!(wrong.contains(part), "{text:?}: {wrong}");
        }
        assert!(
            parse(
                &"a="
                    .to_owned()
                    .chars()
                    .chain("[".repeat(10_000).chars())
                    .collect::<String>()
            )
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn any_text_of_its_characters_is_answered(text in "[a-z0-9=+;,'\"\\[\\]\\\\# \n-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
