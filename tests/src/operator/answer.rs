//! Answers decoded, and compared field by field: pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use mesos::protobuf::{self, schema};
use mesos::recordio::Decoder;
use serde_json::{Value, json};

/// The longest record that is read.
const LONGEST_RECORD: usize = 1 << 20;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whether the body ended without its end.
    pub cut: bool,
}

impl Answered {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What it says: text; a message; of a stream all bytes of each of its outputs, as text.
    ///
    /// # Panics
    /// The body is not what its headers say.
    pub fn decoded(&self) -> Value {
        let records_of = self.header("message-content-type");
        // A stream for clients older than that header looks like one message.
        let streams = records_of.is_some() || self.body.first().is_some_and(u8::is_ascii_digit);
        match records_of.or(self.header("content-type")) {
            _ if self.body.is_empty() => Value::Null,
            Some("application/json") if streams => {
                outputs(&self.body, |record| serde_json::from_slice(record).expect("a record of JSON"))
            }
            Some("application/json") => serde_json::from_slice(&self.body).expect("a body of JSON"),
            Some("application/x-protobuf") if streams => outputs(&self.body, |record| {
                protobuf::decode(&schema::PROCESS_IO, record).expect("a record of protobuf")
            }),
            Some("application/x-protobuf") => {
                protobuf::decode(&schema::RESPONSE, &self.body).expect("a body of protobuf")
            }
            _ => Value::from(String::from_utf8_lossy(&self.body)),
        }
    }
}

/// The records of a stream.
///
/// # Panics
/// It is none.
pub fn records(bytes: &[u8]) -> Vec<Bytes> {
    let mut decoder = Decoder::new(LONGEST_RECORD);
    decoder.extend(bytes);
    std::iter::from_fn(|| decoder.next().expect("records")).collect()
}

fn outputs(bytes: &[u8], read: impl Fn(&[u8]) -> Value) -> Value {
    let mut all = BTreeMap::<String, Vec<u8>>::new();
    for record in records(bytes) {
        let io: mesos::agent::ProcessIo = serde_json::from_value(read(&record)).expect("a ProcessIO");
        if let Some(data) = io.data {
            let stream = data.kind.expect("a stream").name().to_owned();
            all.entry(stream).or_default().extend(data.data.expect("bytes").0);
        }
    }
    let text = |(stream, bytes): (String, Vec<u8>)| (stream, String::from_utf8_lossy(&bytes).into_owned());
    json!(all.into_iter().map(text).collect::<BTreeMap<_, _>>())
}

/// The fields of a message by their paths, each with all values that it has anywhere, types and all.
///
/// ```
/// # use kube_executor_tests::operator::flat;
/// let fields = flat(&serde_json::json!({"tasks": [{"id": 1}, {"id": 2}], "none": []}));
/// assert_eq!(fields.keys().collect::<Vec<_>>(), ["none", "tasks[].id"]);
/// assert_eq!(fields["tasks[].id"].len(), 2);
/// ```
pub fn flat(value: &Value) -> BTreeMap<String, BTreeSet<String>> {
    fn add(path: &str, value: &Value, all: &mut BTreeMap<String, BTreeSet<String>>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    add(&format!("{path}{dot}{name}"), value, all);
                }
            }
            Value::Array(values) if !values.is_empty() => {
                values.iter().for_each(|value| add(&format!("{path}[]"), value, all));
            }
            leaf => {
                all.entry(path.to_owned()).or_default().insert(leaf.to_string());
            }
        }
    }
    let mut all = BTreeMap::new();
    add("", value, &mut all);
    all
}

/// What differs between two answers: each with the name of what it is about (`status`, `header date`, `body`, `cut`, or a
/// field's path), and a sentence.
pub fn differences(ours: &Answered, theirs: &Answered) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut compare = |name: &str, ours: String, theirs: String| {
        if ours != theirs {
            all.push((name.to_owned(), format!("{name}: {ours} is not {theirs}")));
        }
    };
    compare("status", ours.status.to_string(), theirs.status.to_string());
    compare("cut", ours.cut.to_string(), theirs.cut.to_string());
    let names: BTreeSet<&str> = ours.headers.keys().chain(theirs.headers.keys()).map(AsRef::as_ref).collect();
    for name in names {
        // A length follows from the body, which is compared by what it means.
        let of = |answered: &Answered| match answered.header(name) {
            Some(_) if name == "content-length" => "there".to_owned(),
            value => format!("{value:?}"),
        };
        compare(&format!("header {name}"), of(ours), of(theirs));
    }
    match (ours.decoded(), theirs.decoded()) {
        (ours @ Value::Object(_), theirs @ Value::Object(_)) => {
            let (ours, theirs) = (flat(&ours), flat(&theirs));
            let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for path in paths {
                compare(path, format!("{:?}", ours.get(path)), format!("{:?}", theirs.get(path)));
            }
        }
        (ours, theirs) => compare("body", ours.to_string(), theirs.to_string()),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: &Value) -> Answered {
        let headers = [("content-type", "application/json")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let body = body.to_string().into();
        Answered { status: StatusCode::OK, headers: headers.into_iter().collect(), body, cut: false }
    }

    #[test]
    fn equal_answers_do_not_differ_and_a_missing_field_a_type_and_a_cut_do() {
        let one = answered(&json!({"a": {"b": [1]}}));
        assert_eq!(differences(&one, &one), []);
        let names = |other: &Answered| -> Vec<String> {
            differences(&one, other).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&answered(&json!({"a": {"b": ["1"]}}))), ["a.b[]"]);
        assert_eq!(names(&answered(&json!({"a": {"b": [1], "c": 2}}))), ["a.c"]);
        assert_eq!(names(&Answered { cut: true, ..one.clone() }), ["cut"]);
    }
}
