//! Where a value stands in what a framework sent, and what is wrong with it there.

use std::fmt::{self, Debug};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::SpecError;

/// A value is shown up to this many characters.
const SHOWN: usize = 120;

/// The path of a field: `health_check.http.port`, `data.checks[1].role`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(String);

impl Field {
    /// The path `name`; empty for the whole document.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` of this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The item `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The error of a wrong value.
    pub fn error(&self, value: impl Debug, allowed: impl Into<String>) -> SpecError {
        let value = if self.is_secret() { "(hidden)".to_owned() } else { shorten(&format!("{value:?}")) };
        SpecError { field: self.to_string(), value, allowed: allowed.into() }
    }

    /// The error of a value that is not there.
    pub fn missing(&self, allowed: impl Into<String>) -> SpecError {
        SpecError { field: self.to_string(), value: "nothing".to_owned(), allowed: allowed.into() }
    }

    /// Variables and headers may carry passwords: their values never come into a message.
    fn is_secret(&self) -> bool {
        let inside = |parent: &str| self.0.split('.').rev().skip(1).any(|part| part == parent);
        self.0.ends_with("environment")
            || inside("environment") && !self.0.ends_with(".name") && !self.0.ends_with(".type")
            || self.0.ends_with("headers")
            || inside("headers")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "TaskInfo" } else { &self.0 })
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN - 3).chain("...".chars()).collect()
}

/// Reads JSON as a raw form whose shapes are checked and nothing else; errors are at or below `field`.
///
/// # Errors
/// With the path, the value found there and, for a name that is not known, the nearest one that is.
pub fn read<T: DeserializeOwned + Serialize>(text: &str, field: &Field) -> Result<T, SpecError> {
    let document = document(text, field)?;
    // Read from the text, not from the document, which has lost members that are there twice.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut deserializer);
    let read = read.map_err(|error| shape_error(field, &error, &document))?;
    objects_only(&document, &read, field)?;
    Ok(read)
}

/// [`read`] for JSON that has been read as values already.
///
/// # Errors
/// As [`read`].
pub fn read_value<T: DeserializeOwned + Serialize>(value: &Value, field: &Field) -> Result<T, SpecError> {
    let read = serde_path_to_error::deserialize(value).map_err(|error| shape_error(field, &error, value))?;
    objects_only(value, &read, field)?;
    Ok(read)
}

/// Reads JSON as values.
///
/// # Errors
/// When the text is no JSON.
pub fn document(text: &str, field: &Field) -> Result<Value, SpecError> {
    serde_json::from_str(text)
        .map_err(|error| field.error(format_args!("{} bytes", text.len()), format!("must be JSON: {error}")))
}

/// Refuses lists where objects belong: serde takes `[4096, 3]` for an object's members in order.
fn objects_only<T: Serialize>(document: &Value, read: &T, field: &Field) -> Result<(), SpecError> {
    fn walk(document: &Value, read: &Value, field: &Field) -> Result<(), SpecError> {
        match (document, read) {
            (Value::Array(_), Value::Object(_)) => {
                Err(field.error(format_args!("a list"), "must be an object"))
            }
            (Value::Array(items), Value::Array(read)) => {
                let mut pairs = items.iter().zip(read).enumerate();
                pairs.try_for_each(|(index, (item, read))| walk(item, read, &field.index(index)))
            }
            (Value::Object(members), Value::Object(read)) => members.iter().try_for_each(|(name, member)| {
                read.get(name).map_or(Ok(()), |read| walk(member, read, &field.child(name)))
            }),
            _ => Ok(()),
        }
    }
    // What was read from JSON can be written as JSON.
    walk(document, &serde_json::to_value(read).unwrap_or_default(), field)
}

fn shape_error(
    field: &Field,
    error: &serde_path_to_error::Error<serde_json::Error>,
    document: &Value,
) -> SpecError {
    let mut field = field.clone();
    let mut found = Some(document);
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => {
                field = field.index(*index);
                found = found.and_then(|value| value.get(index));
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                field = field.child(key);
                found = found.and_then(|value| value.get(key));
            }
            Segment::Unknown => {}
        }
    }
    let text = error.inner().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return field.child(name).missing("must be set");
    }
    if let Some(name) = text.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
        return field.child(name).error(format_args!("there twice"), "must be there once only");
    }
    let allowed = match text.strip_prefix("unknown ").and_then(|rest| rest.split_once(" `")) {
        Some((what, rest)) => {
            let mut names = rest.split('`').step_by(2);
            let wrong = names.next().unwrap_or_default();
            format!("unknown {what}; {}", suggest(wrong, &names.collect::<Vec<_>>()))
        }
        // serde repeats the value, whole and even if it is a secret.
        None => match text.strip_prefix("invalid ").and_then(|rest| rest.rsplit_once(", expected ")) {
            Some((_, expected)) => format!("must be {expected}"),
            None => text.to_owned(),
        },
    };
    match found {
        Some(value) => field.error(format_args!("{}", shown(value)), allowed),
        None => field.missing(allowed),
    }
}

/// A value as a message shows it. What lists and objects hold may be secret.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A half sentence that says which of `known` was meant, or all of them when none is near.
pub fn suggest(wrong: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| (distance(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, name)) if distance <= (name.chars().count() / 3).max(1) => {
            format!("did you mean `{name}`?")
        }
        _ if known.is_empty() => "no name is allowed here".to_owned(),
        _ => format!("known are {}", known.join(", ")),
    }
}

/// Characters to insert, remove or replace to make one text of the other; long texts are cut, being wrong anyway.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, one) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(one != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// Brings JSON into the form in which it is read: a null is as if it were not there, as in Mesos.
///
/// # Errors
/// Where a NUL byte is: no argument, variable or path of a process can carry one.
pub fn clean(value: &mut Value, field: &Field) -> Result<(), SpecError> {
    match value {
        Value::String(text) => no_nul(text, field),
        Value::Array(items) => {
            items.iter_mut().enumerate().try_for_each(|(index, item)| clean(item, &field.index(index)))
        }
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.iter_mut().try_for_each(|(name, member)| {
                no_nul(name, field)?;
                clean(member, &field.child(name))
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// The error of a `TaskInfo` that was not UTF-8: the first of its strings that shows so. `None` when the rest of the
/// event was not.
pub fn replaced(raw: &str) -> Option<SpecError> {
    if !raw.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let shown = char::REPLACEMENT_CHARACTER;
    let allowed = format!("must be UTF-8: the bytes that are not show as {shown}");
    let field = Field::new("");
    let found = document(raw, &field).ok().and_then(|document| first_replaced(&document, &field));
    Some(match found {
        Some((field, text)) => field.error(text, allowed),
        None => field.error(format_args!("{} bytes", raw.len()), allowed),
    })
}

fn first_replaced(value: &Value, field: &Field) -> Option<(Field, String)> {
    let is_it = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    match value {
        Value::String(text) => is_it(text).then(|| (field.clone(), text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| first_replaced(item, &field.index(index)))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if is_it(name) {
                Some((field.clone(), name.clone()))
            } else {
                first_replaced(member, &field.child(name))
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn no_nul(text: &str, field: &Field) -> Result<(), SpecError> {
    if text.contains('\0') { Err(field.error(text, "must not contain NUL bytes")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shortened_and_a_secret_one_hidden() {
        let long = Field::new("user").error("x".repeat(500), "short");
        assert_eq!(long.value.chars().count(), SHOWN);
        let environment = Field::new("command").child("environment").child("variables").index(0);
        assert_eq!(environment.child("value").error("hunter2", "no").value, "(hidden)");
        assert_eq!(environment.child("name").error("A=B", "no").value, "\"A=B\"");
        assert_eq!(
            Field::new("data.checks[0].http.headers.authorization").error("x", "no").value,
            "(hidden)"
        );
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggest("depend_on", &["depends_on", "essential"]), "did you mean `depends_on`?");
        assert_eq!(suggest("zzz", &["depends_on", "essential"]), "known are depends_on, essential");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
