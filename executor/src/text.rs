//! What people read: the words of errors, bytes as digits.

use std::error::Error;
use std::fmt::Write as _;

use nix::errno::Errno;

/// What the kernel said, without its number.
pub fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => lower(Errno::from_raw(number).desc()),
        None => chain(error),
    }
}

/// An error with its sources, those left out that the error before has quoted.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = own_text(error);
    let mut source = error.source();
    while let Some(error) = source {
        let next = own_text(error);
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

fn own_text(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        Some(number) => lower(Errno::from_raw(number).desc()),
        None => error.to_string(),
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Bytes as hexadecimal digits, two each, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read {path}")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("start: {0}")]
    struct Quoting(#[source] std::io::Error);

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let outer = Outer { path: "/x", source: Errno::ENOENT.into() };
        assert_eq!(chain(&outer), "read /x: no such file or directory");
        assert_eq!(chain(&Quoting(std::io::Error::other("no luck"))), "start: no luck");
    }

    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(hex(&[]), "");
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
    }

    #[test]
    fn the_kernel_s_words_are_lower_case_without_a_number() {
        assert_eq!(io_text(&std::io::Error::from(Errno::ECONNREFUSED)), "connection refused");
        assert_eq!(io_text(&std::io::Error::other("as it is")), "as it is");
    }
}
