//! `~.` after a new line ends a session whatever happens to its command, as in ssh: pure.

/// Looks for the escape among what is typed.
#[derive(Debug)]
pub(crate) struct Escape {
    char: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineBegins,
    InLine,
    /// The character was typed at the beginning of a line, and is held back.
    Held,
}

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does.
    Goes,
    /// It was ended.
    End,
}

impl Escape {
    /// At the beginning of a line.
    pub(crate) fn new(char: u8) -> Self {
        Self { char, state: State::LineBegins }
    }

    /// Appends what of `typed` is to be sent. The character twice is the character.
    pub(crate) fn filter(&mut self, typed: &[u8], send: &mut Vec<u8>) -> Verdict {
        for &byte in typed {
            match self.state {
                State::LineBegins if byte == self.char => {
                    self.state = State::Held;
                    continue;
                }
                State::Held if byte == b'.' => return Verdict::End,
                State::Held if byte != self.char => send.push(self.char),
                _ => {}
            }
            send.push(byte);
            self.state = if byte == b'\r' || byte == b'\n' { State::LineBegins } else { State::InLine };
        }
        Verdict::Goes
    }
}

/// `none`, or one character.
///
/// # Errors
/// What is allowed.
pub(crate) fn parse(text: &str) -> Result<Option<u8>, String> {
    match text.as_bytes() {
        b"none" => Ok(None),
        [char] if char.is_ascii_graphic() && *char != b'.' => Ok(Some(*char)),
        _ => Err("give one character (not a dot), or none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, Verdict) {
        let (mut escape, mut sent) = (Escape::new(b'~'), Vec::new());
        for piece in pieces {
            if escape.filter(piece, &mut sent) == Verdict::End {
                return (sent, Verdict::End);
            }
        }
        (sent, Verdict::Goes)
    }

    #[test]
    fn only_at_the_beginning_of_a_line_the_escape_is_one() {
        assert_eq!(typed(&[b"~."]), (vec![], Verdict::End));
        assert_eq!(typed(&[b"ls\r~", b".x"]), (b"ls\r".to_vec(), Verdict::End));
        assert_eq!(typed(&[b"a~.b"]), (b"a~.b".to_vec(), Verdict::Goes));
        assert_eq!(typed(&[b"~~."]), (b"~.".to_vec(), Verdict::Goes));
        assert_eq!(typed(&[b"~a", b"~."]), (b"~a~.".to_vec(), Verdict::Goes));
        assert_eq!(typed(&[b"~\r~."]), (b"~\r".to_vec(), Verdict::End));
    }

    #[test]
    fn the_character_can_be_another_or_none() {
        assert_eq!((parse("none"), parse("^")), (Ok(None), Ok(Some(b'^'))));
        assert!(parse("ab").is_err() && parse("").is_err() && parse(".").is_err() && parse("é").is_err());
    }

    proptest! {
        #[test]
        fn what_is_typed_without_the_character_arrives_as_it_is(keys in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assume!(!keys.contains(&b'~'));
            prop_assert_eq!(typed(&[&keys]), (keys.clone(), Verdict::Goes));
        }

        #[test]
        fn how_keys_are_cut_changes_nothing(keys in "[~.a\r]{0,30}", cut in 0_usize..30) {
            let keys = keys.as_bytes();
            let (one, other) = keys.split_at(cut.min(keys.len()));
            prop_assert_eq!(typed(&[keys]), typed(&[one, other]));
        }
    }
}
