//! Text that people wrote or programs printed, made safe to keep and to show.

use std::fmt;

use crate::codec::{Malformed, Value, Wire};

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: expected {expected}")]
pub struct Unparsable {
    what: &'static str,
    text: String,
    expected: String,
}

impl Unparsable {
    /// Says that `text` is no `what`; a long text is cut, as it may come from anywhere.
    pub fn new(what: &'static str, text: &str, expected: &str) -> Self {
        let text = text.chars().take(120).collect();
        Self { what, text, expected: expected.to_owned() }
    }
}

/// Words for people: at most [`Prose::MAX`] bytes, and no control characters but the line feed,
/// so that printing it can't drive a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prose(String);

impl Prose {
    /// The most bytes that one text has.
    pub const MAX: usize = 1024;

    /// Keeps what is printable of a text: control characters become spaces, and of a text that is
    /// too long its end is kept, as the end of an output says what went wrong.
    pub fn lossy(text: &str) -> Self {
        Self::lossy_line(text.trim())
    }

    /// Does the same, and keeps blanks at the ends.
    pub(crate) fn lossy_line(text: &str) -> Self {
        let clean: String = text.chars().map(|c| if permitted(c) { c } else { ' ' }).collect();
        let mut start = clean.len().saturating_sub(Self::MAX);
        while !clean.is_char_boundary(start) {
            start += 1;
        }
        Self(clean[start..].to_owned())
    }

    /// Gives the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn permitted(c: char) -> bool {
    c == '\n' || !(c.is_control() || is_bidi_control(c))
}

/// Characters that reorder what is around them, with which a text could show as another.
fn is_bidi_control(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

impl fmt::Display for Prose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for Prose {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        if text.len() > Self::MAX || !text.chars().all(permitted) {
            let expected = "at most 1024 bytes without control characters";
            return Err(Unparsable::new("text", text, expected));
        }
        Ok(Self(text.to_owned()))
    }
}

serde_as_text!(Prose);

impl Wire for Prose {
    fn to_value(&self) -> Value {
        Value::Text(self.0.clone())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        crate::codec::text(value)?.parse().map_err(|error| Malformed::invalid(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_could_drive_a_terminal_is_refused_and_lossy_makes_it_harmless() {
        for hostile in ["\u{1b}[2J", "a\rb", "\u{202e}abc", "\u{61c}abc", "nul\0"] {
            assert!(hostile.parse::<Prose>().is_err(), "{hostile:?}");
            let kept = Prose::lossy(hostile);
            assert!(kept.as_str().parse::<Prose>().is_ok(), "{kept:?}");
        }
    }

    #[test]
    fn the_end_of_a_long_output_is_kept_on_a_character_boundary() {
        let long = format!("{}end", "é".repeat(2000));
        let kept = Prose::lossy(&long);
        assert!(kept.as_str().len() <= Prose::MAX && kept.as_str().ends_with("end"));
    }
}
