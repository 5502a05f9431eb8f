//! Reading a message, with the path of what is wrong.

use serde::de::DeserializeOwned;

/// Parses JSON with the path of the field in what an error says.
///
/// # Errors
/// A sentence: path of the field, what was found, what is allowed.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("{path}: {inner}") }
    })
}
