//! Settings by key, and how their values are read: each once, each with its place.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::syntax::{Kind, Setting, Value, integer};
use crate::config::problem::{Place, Report};

/// Settings that nobody has read yet, and the report of those that were.
pub struct Settings {
    left: BTreeMap<String, Setting>,
    places: BTreeMap<String, Place>,
    pub report: Report,
}

/// One text out of a list, with its place.
pub struct Item {
    pub at: Place,
    pub text: String,
}

impl Settings {
    /// The last setting of a key is the one that counts, as for `xl`.
    pub fn new(settings: Vec<Setting>, mut report: Report) -> Self {
        let mut left: BTreeMap<String, Setting> = BTreeMap::new();
        for setting in settings {
            let before = left.remove(&setting.key);
            let now = match before {
                Some(before) if setting.append => joined(before, setting, &mut report),
                Some(before) => {
                    let line = before.at.line;
                    let text = format!("takes the place of the one in line {line}");
                    report.warn(setting.at, &setting.key, text);
                    setting
                }
                None => setting,
            };
            left.insert(now.key.clone(), now);
        }
        let places = left
            .iter()
            .map(|(key, s)| (key.clone(), s.value.at))
            .collect();
        Self {
            left,
            places,
            report,
        }
    }

    /// Where the value of a key stands.
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).copied().unwrap_or_default()
    }

    /// A function that finds the places of keys, for checks after all are read.
    pub fn into_parts(self) -> (BTreeMap<String, Place>, Report) {
        (self.places, self.report)
    }

    /// Those nobody asked for.
    pub fn take_rest(&mut self) -> Vec<Setting> {
        std::mem::take(&mut self.left).into_values().collect()
    }

    /// Anything, unread.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        Some(self.left.remove(key)?.value)
    }

    /// A text (or a number as text).
    pub fn text(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        match value.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text),
            Kind::List(_) => {
                let wrong = "a list, but it is one value: leave the brackets away";
                self.report.error(value.at, key, wrong);
                None
            }
        }
    }

    /// A text that is a value of this type.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(bad) => {
                let at = self.place(key);
                self.report.error(at, key, bad.to_string());
                None
            }
        }
    }

    /// A whole number in a range; in quotes too, as for `xl`.
    pub fn number<T: TryFrom<i64> + Into<i64> + Copy>(
        &mut self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let at = self.place(key);
        let (least, most): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
        let Some(number) = integer(text.trim()) else {
            let wrong = format!("`{text}` is no number: {least} to {most} are allowed");
            self.report.error(at, key, wrong);
            return None;
        };
        if text.trim().len() > 1 && text.trim().starts_with('0') && !text.contains(['x', 'X']) {
            let text = format!("a number that begins with 0 is octal: this is {number}");
            self.report.warn(at, key, text);
        }
        if !(least..=most).contains(&number) {
            let wrong = format!("{number} is not allowed: {least} to {most} are");
            self.report.error(at, key, wrong);
            return None;
        }
        T::try_from(number).ok()
    }

    /// 0 or 1.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        Some(self.number::<i64>(key, 0..=1)? == 1)
    }

    /// A list of texts.
    pub fn list(&mut self, key: &str) -> Vec<Item> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Kind::List(values) = value.kind else {
            let wrong = "one value, but it is a list: put brackets around it, as in [ 'a', 'b' ]";
            self.report.error(value.at, key, wrong);
            return Vec::new();
        };
        let mut items = Vec::new();
        for value in values {
            match value.kind {
                Kind::Text(text) | Kind::Number(text) => items.push(Item { at: value.at, text }),
                Kind::List(_) => {
                    self.report
                        .error(value.at, key, "a list inside the list: write text");
                }
            }
        }
        items
    }
}

/// `+=`: texts are put together, lists too.
fn joined(mut before: Setting, now: Setting, report: &mut Report) -> Setting {
    match (&mut before.value.kind, now.value.kind) {
        (Kind::Text(text), Kind::Text(more)) => text.push_str(&more),
        (Kind::List(values), Kind::List(more)) => values.extend(more),
        _ => {
            let line = before.at.line;
            let wrong = format!("`+=` joins text to text or list to list, not to line {line}");
            report.error(now.value.at, &now.key, wrong);
        }
    }
    before
}
