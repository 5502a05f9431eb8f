//! Queries and percent-encoding, for all protocols: pure.

use percent_encoding::percent_decode_str;

/// It cannot be read: one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A percent sign without two hex digits behind it.
    #[error("{0:?} has a percent sign without two hex digits behind it: write it as %25")]
    Percent(String),
    /// It is no text.
    #[error("{0:?} is not UTF-8: percent-encode text as UTF-8")]
    Encoding(String),
    /// A NUL is in no name and cannot be handed to a process.
    #[error("{0:?} has a NUL byte: leave it out")]
    Nul(String),
    /// A value of another kind than the parameter has.
    #[error("{name}={value:?} is not {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The parameters of a query, decoded, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what is after the `?`. A plus is a space.
    ///
    /// # Errors
    /// [`QueryError`], with the parameter's name only: its value may be a secret.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode("a parameter's name", &name.replace('+', " "))?;
            let value = decode(&name, &value.replace('+', " "))?;
            Ok((name, value))
        };
        query.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// A number.
    ///
    /// # Errors
    /// [`QueryError::Value`].
    pub fn number(&self, name: &'static str) -> Result<Option<u64>, QueryError> {
        let parsed =
            self.text(name).map(|value| value.parse().map_err(|_| Self::wrong(name, value, "a number")));
        parsed.transpose()
    }

    /// A boolean as Go writes and reads it; false when absent.
    ///
    /// # Errors
    /// [`QueryError::Value`].
    pub fn boolean(&self, name: &'static str) -> Result<bool, QueryError> {
        match self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()) {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(value) => Err(Self::wrong(name, value, "true or false")),
        }
    }

    /// The error for a value that is not what it should be.
    pub fn wrong(name: &'static str, value: &str, expected: &'static str) -> QueryError {
        QueryError::Value { name, value: value.to_owned(), expected }
    }
}

/// Decodes `%41`, but not `+`.
///
/// # Errors
/// [`QueryError`]: `name` says of what.
pub fn decode(name: &str, text: &str) -> Result<String, QueryError> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        rest = &rest[at + 1..];
        if !rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(QueryError::Percent(name.to_owned()));
        }
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| QueryError::Encoding(name.to_owned()))?;
    if text.contains('\0') {
        return Err(QueryError::Nul(name.to_owned()));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_decoded_and_typed() {
        let query = Query::parse("a=b%20c+d&tail=10&follow&since=&x=%3D%26").unwrap();
        assert_eq!(
            (query.text("a"), query.text("x"), query.text("since")),
            (Some("b c d"), Some("=&"), None)
        );
        assert_eq!((query.number("tail"), query.number("none")), (Ok(Some(10)), Ok(None)));
        assert_eq!((query.boolean("follow"), query.boolean("no")), (Ok(true), Ok(false)));
        assert!(query.boolean("a").is_err() && query.number("a").is_err());
    }

    #[test]
    fn what_is_not_percent_encoded_is_refused() {
        for wrong in ["%", "%4", "%zz", "%+1", "%ff", "a%c3", "%00"] {
            assert!(decode("x", wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in "[^\0]*") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode("x", &encoded).unwrap(), text);
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = Query::parse(&text);
        }
    }
}
