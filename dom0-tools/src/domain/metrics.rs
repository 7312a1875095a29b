//! Figures for Prometheus (text format 0.0.4).

use std::fmt::Write;

/// Kind of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A page of figures.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// Labels of a value: names are ours, what they say may come from anybody.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a family of values, which follow.
    pub fn family(&mut self, name: &str, kind: Type, help: &str) -> Family<'_> {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family {
            name: name.to_owned(),
            page: self,
        }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// A family of values.
#[derive(Debug)]
pub struct Family<'a> {
    name: String,
    page: &'a mut Page,
}

impl Family<'_> {
    /// One value.
    pub fn value(&mut self, labels: Labels<'_>, value: f64) {
        let text = &mut self.page.text;
        text.push_str(&self.name);
        for (index, (name, label)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            escape(label, text);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn escape(label: &str, into: &mut String) {
    for c in label.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let mut page = Page::default();
        page.family("oxen_x", Type::Gauge, "An x.")
            .value(&[("name", "a\"} 1\n\\"), ("id", "3")], 1.5);
        assert_eq!(
            page.finish(),
            "# HELP oxen_x An x.\n# TYPE oxen_x gauge\noxen_x{name=\"a\\\"} 1\\n\\\\\",id=\"3\"} 1.5\n"
        );
    }
}
