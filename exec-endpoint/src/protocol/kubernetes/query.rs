//! Queries and path segments: pure.

/// It cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
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
    /// Parses what is after the `?`.
    ///
    /// # Errors
    /// [`QueryError::Encoding`].
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        };
        query.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
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

/// Decodes `%41`.
///
/// # Errors
/// [`QueryError::Encoding`].
pub fn decode(text: &str) -> Result<String, QueryError> {
    let wrong = || QueryError::Encoding(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let ([high, low], tail) = tail.split_first_chunk::<2>().ok_or_else(wrong)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
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
        for wrong in ["%", "%4", "%zz", "%ff", "a%c3"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in ".*") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = Query::parse(&text);
        }
    }
}
