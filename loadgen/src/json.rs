//! Just enough JSON to write a report: objects and arrays of numbers, texts and each other.
//!
//! Promise: what [`Object::finish`] returns is valid JSON; a number that JSON cannot say is null.

use std::fmt::Write;

/// An object that is being written.
#[derive(Clone, Debug, Default)]
pub struct Object(String);

impl Object {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a whole number.
    #[must_use]
    pub fn integer(self, name: &str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    /// Adds a number, rounded to a millionth.
    #[must_use]
    pub fn number(self, name: &str, value: f64) -> Self {
        // Rust writes a finite number without an exponent, which JSON can read.
        let rounded = (value * 1e6).round() / 1e6;
        if rounded.is_finite() { self.raw(name, &rounded.to_string()) } else { self.null(name) }
    }

    /// Adds true or false.
    #[must_use]
    pub fn boolean(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    /// Adds a text, or null.
    #[must_use]
    pub fn text(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.raw(name, &quoted(value)),
            None => self.null(name),
        }
    }

    /// Adds an object.
    #[must_use]
    pub fn object(self, name: &str, value: Self) -> Self {
        self.raw(name, &value.finish())
    }

    /// Adds an array of objects.
    #[must_use]
    pub fn array(self, name: &str, values: Vec<Self>) -> Self {
        let values: Vec<String> = values.into_iter().map(Self::finish).collect();
        self.raw(name, &format!("[{}]", values.join(", ")))
    }

    /// The whole object.
    pub fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }

    fn null(self, name: &str) -> Self {
        self.raw(name, "null")
    }

    fn raw(mut self, name: &str, value: &str) -> Self {
        let separator = if self.0.is_empty() { "" } else { ", " };
        self.0.push_str(separator);
        self.0.push_str(&quoted(name));
        self.0.push_str(": ");
        self.0.push_str(value);
        self
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            character if character < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_in_order_and_nested() {
        let inner = Object::new().number("p50", 1.0 / 3.0).number("nan", f64::NAN);
        let object = Object::new()
            .integer("n", u64::MAX)
            .boolean("b", true)
            .text("none", None)
            .object("o", inner)
            .array("a", vec![Object::new(), Object::new().integer("x", 1)]);
        let expected = r#"{"n": 18446744073709551615, "b": true, "none": null, "o": {"p50": 0.333333, "nan": null}, "a": [{}, {"x": 1}]}"#;
        assert_eq!(object.finish(), expected);
    }

    #[test]
    fn texts_are_escaped() {
        let object = Object::new().text("a\"b", Some("\\ \n \u{1} é"));
        assert_eq!(object.finish(), r#"{"a\"b": "\\ \u000a \u0001 é"}"#);
    }
}
