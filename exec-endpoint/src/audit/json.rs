//! JSON in which nothing can move a terminal's cursor or end a line.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// A value as one line, without its end.
pub(super) fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut line, Plain))?;
    Ok(line)
}

/// serde_json escapes what JSON says must be: this escapes all other control characters too.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((place, character)) = rest.char_indices().find(|(_, character)| is_active(*character))
        {
            writer.write_all(&rest.as_bytes()[..place])?;
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &rest[place + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// C0 and C1 control characters, line and paragraph separators, and what turns the direction of writing: all below U+10000.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let text = "a\u{1b}[2J\u{9b}2J\u{7f}\u{85}\u{2028}\u{202e}\n\"\\ä";
        let line = String::from_utf8(line(&text).unwrap()).unwrap();
        assert_eq!(line, r#""a\u001b[2J\u009b2J\u007f\u0085\u2028\u202e\n\"\\ä""#);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_holds_nothing_active(text in any::<String>()) {
            let line = String::from_utf8(line(&text).unwrap()).unwrap();
            prop_assert!(!line.chars().any(is_active));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
