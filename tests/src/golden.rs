//! Golden files: JSON in which all that differs from run to run has been given a name, to compare what a real agent says
//! and takes with what it said and took.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// The variable that has the files written anew.
const UPDATE: &str = "UPDATE_GOLDEN";
/// Stands for every uuid of a status: 16 bytes of version 4, since it must still be readable.
const STATUS_UUID: &str = "AAAAAAAAQACAAAAAAAAAAA==";
/// Stands for the uuids in ids.
const UUID: &str = "00000000-0000-4000-8000-000000000000";

/// Gives names to what differs.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `text` is called `name`, wherever it is part of a text; what was added earlier goes first.
    pub fn add(&mut self, text: impl Into<String>, name: &str) {
        let text = text.into();
        assert!(!text.is_empty(), "nothing cannot be called {name}");
        self.0.push((text, name.to_owned()));
    }

    /// The value with names in it, fixed times, ports and uuids.
    pub fn normalise(&self, value: &Value) -> Value {
        self.walk("", value)
    }

    /// The text with names in it.
    pub fn text(&self, text: &str) -> String {
        let named = |text: String, (from, to): &(String, String)| text.replace(from, to);
        without_uuids(&self.0.iter().fold(text.to_owned(), named))
    }

    fn walk(&self, key: &str, value: &Value) -> Value {
        match (key, value) {
            ("uuid", Value::String(text)) if text.len() == STATUS_UUID.len() => STATUS_UUID.into(),
            ("timestamp", Value::Number(_)) => 1.5.into(),
            ("port", Value::Number(_)) => 5051.into(),
            (_, Value::String(text)) => self.text(text).into(),
            (_, Value::Array(values)) => values.iter().map(|value| self.walk(key, value)).collect(),
            (_, Value::Object(fields)) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), self.walk(key, value)));
                fields.collect::<Map<_, _>>().into()
            }
            _ => value.clone(),
        }
    }
}

/// Every `8-4-4-4-12` hexadecimal digits become the same ones.
fn without_uuids(text: &str) -> String {
    let is_uuid = |text: &str| uuid::Uuid::try_parse(text).is_ok();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, length) = match rest.get(..UUID.len()).filter(|piece| is_uuid(piece)) {
            Some(_) => (UUID, UUID.len()),
            None => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        out.push_str(piece);
        rest = &rest[length..];
    }
    out
}

/// Compares with the golden file of this name, or writes it when `UPDATE_GOLDEN` is set. Returns the golden value.
///
/// # Panics
/// It is another; the text shows both.
pub fn check(name: &str, value: &Value) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name).with_extension("json");
    let mut text = serde_json::to_string_pretty(value).expect("a value is always JSON");
    text.push('\n');
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &text).expect("write a golden file");
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; {UPDATE}=1 writes it", path.display()));
    assert!(
        golden == text,
        "{} differs ({UPDATE}=1 writes it anew); the agent said or took:\n{text}",
        path.display()
    );
    serde_json::from_str(&golden).expect("a golden file is JSON")
}

/// Whether everything in `part` is in `whole` with the same value: whoever reads a message and writes it again may leave
/// fields out but change none.
///
/// # Errors
/// The path of what is not.
pub fn is_part(part: &Value, whole: &Value) -> Result<(), String> {
    match (part, whole) {
        (Value::Object(fields), Value::Object(all)) => fields.iter().try_for_each(|(key, value)| {
            let place = |error: String| format!("{key}.{error}");
            match all.get(key) {
                Some(other) => is_part(value, other).map_err(place),
                // A list that is not there is an empty one.
                None if *value == Value::Array(Vec::new()) => Ok(()),
                None => Err(format!("{key}: not there")),
            }
        }),
        (Value::Array(values), Value::Array(all)) if values.len() == all.len() => {
            values.iter().zip(all).try_for_each(|(value, other)| is_part(value, other))
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => Ok(()),
        _ if part == whole => Ok(()),
        _ => Err(format!(": {part} is not {whole}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_from_run_to_run_does_not_after() {
        let mut names = Names::new();
        names.add("/tmp/x-12", "/FOLDER");
        let value = json!({
            "path": "/tmp/x-12/y", "uuid": "3q2+796tQACAAAAAAAAAAA==", "timestamp": 12, "kept": 7,
            "list": ["ä__9b644b3c-d53a-480b-8c54-046afdeea58c-S0"],
        });
        let normal = names.normalise(&value);
        assert_eq!(
            normal,
            json!({
                "path": "/FOLDER/y", "uuid": STATUS_UUID, "timestamp": 1.5, "kept": 7, "list": [format!("ä__{UUID}-S0")],
            })
        );
        assert_eq!(names.normalise(&normal), normal);
    }

    #[test]
    fn a_part_may_lack_fields_and_change_none() {
        let whole = json!({"a": 1, "b": {"c": [1.0, {"d": null}]}});
        assert_eq!(is_part(&json!({"a": 1.0, "b": {"c": [1, {}]}, "x": []}), &whole), Ok(()));
        assert_eq!(is_part(&json!({"b": {"c": [2, {}]}}), &whole), Err("b.c.: 2 is not 1.0".to_owned()));
        assert!(is_part(&json!({"y": 1}), &whole).is_err());
        assert!(is_part(&json!({"b": {"c": []}}), &whole).is_err());
    }
}
