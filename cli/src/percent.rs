//! Parts of URLs (RFC 3986).

use std::fmt::Write as _;

/// Text as it stands in a path's segment or a query's value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A query under construction.
#[derive(Debug, Default)]
pub(crate) struct Query {
    text: String,
}

impl Query {
    /// With one more parameter; a name may come several times.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.text.push(if self.text.is_empty() { '?' } else { '&' });
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&encode(value.as_ref()));
        self
    }

    /// With one more parameter, if it has a value.
    pub(crate) fn with_some(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With the parameter if it holds.
    pub(crate) fn with_true(self, name: &str, holds: bool) -> Self {
        if holds { self.with(name, "true") } else { self }
    }

    /// The text, its question mark included; empty without a parameter.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_url_is_escaped() {
        assert_eq!(encode("a b&c=d/é+%"), "a%20b%26c%3Dd%2F%C3%A9%2B%25");
        let query = Query::default().with("command", "sh").with("command", "-c").with_true("tty", false);
        assert_eq!(query.with_some("user", None::<&str>).text(), "?command=sh&command=-c");
    }
}
