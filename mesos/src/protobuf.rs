//! Protobuf's wire format, to and from the JSON that Mesos gives the same messages: there is one set of types, with serde.
//!
//! ```text
//!  protobuf bytes -> decode -> serde_json::Value -> serde -> agent::Call
//!  agent::Response -> serde -> serde_json::Value -> encode -> protobuf bytes
//! ```
//! Source: the Protocol Buffers encoding, proto2; the JSON mapping of the crate's documentation. Fields that the schema does not
//! have are skipped; so are enum numbers and names that it does not have, unless the field is required.

pub mod schema;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

/// How deep messages may be nested; a container's id nests as deep as containers do.
const DEEPEST: usize = 48;

/// The fields of a message.
#[derive(Debug)]
pub struct Message {
    fields: &'static [Field],
}

/// A field.
#[derive(Debug)]
struct Field {
    number: u32,
    name: &'static str,
    kind: Kind,
    label: Label,
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Double,
    String,
    Bytes,
    Enum(Names),
    Submessage(&'static Message),
}

/// The numbers and names of an enum.
type Names = &'static [(i32, &'static str)];

/// How often a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Optional,
    Required,
    Repeated,
}

/// Why bytes are not the message, or a value cannot be written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes end within a field.
    #[error("the message ends within a field")]
    Short,
    /// A number has more than ten bytes.
    #[error("a number is too long")]
    LongNumber,
    /// A field has a number or wire type that there is not.
    #[error("field {field} has wire type {wire}")]
    Wire {
        /// The field's number.
        field: u64,
        /// The wire type found.
        wire: u64,
    },
    /// Messages are nested deeper than is accepted.
    #[error("messages are nested more than {DEEPEST} deep")]
    Deep,
    /// A text is not UTF-8.
    #[error("{0}: not UTF-8")]
    Text(&'static str),
    /// A required field is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// The JSON has another type than the field.
    #[error("{0}: not of the field's type")]
    Type(&'static str),
}

impl Field {
    const fn new(number: u32, name: &'static str, kind: Kind, label: Label) -> Self {
        Self { number, name, kind, label }
    }
}

impl Message {
    fn numbered(&self, number: u64) -> Option<&'static Field> {
        self.fields.iter().find(|field| u64::from(field.number) == number)
    }
}

/// Reads a message. What it allocates is bounded by its length, its depth by a constant.
///
/// # Errors
/// [`ProtobufError`].
pub fn decode(message: &Message, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut object = Map::new();
    merge(message, bytes, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// Writes a message, its fields in the order of their numbers. Fields that the schema does not have, and nulls, are left out.
///
/// # Errors
/// [`ProtobufError`].
pub fn encode(message: &Message, value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut bytes = Vec::new();
    write(message, value, "message", &mut bytes, 0)?;
    Ok(bytes)
}

/// A field's value as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// A message's fields added to an object: of a single field the last value counts, a single message's parts add up.
fn merge(
    message: &Message,
    mut bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > DEEPEST {
        return Err(ProtobufError::Deep);
    }
    while !bytes.is_empty() {
        let key = take_number(&mut bytes)?;
        let wire = take_wire(key, &mut bytes)?;
        let Some(field) = message.numbered(key >> 3) else { continue };
        match (field.kind, wire) {
            (Kind::Submessage(inner), Wire::Bytes(part)) if field.label == Label::Repeated => {
                let mut one = Map::new();
                merge(inner, part, &mut one, depth + 1)?;
                push(object, field.name, Value::Object(one));
            }
            (Kind::Submessage(inner), Wire::Bytes(part)) => {
                let known = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(known) = known {
                    merge(inner, part, known, depth + 1)?;
                }
            }
            (kind, wire) => {
                let Some(value) = single(field.name, kind, &wire)? else { continue };
                if field.label == Label::Repeated {
                    push(object, field.name, value);
                } else {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    let missing = |field: &&Field| field.label == Label::Required && !object.contains_key(field.name);
    match message.fields.iter().find(missing) {
        Some(field) => Err(ProtobufError::Missing(field.name)),
        None => Ok(()),
    }
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}

/// A field's value; none for what its schema does not know.
fn single(name: &'static str, kind: Kind, wire: &Wire<'_>) -> Result<Option<Value>, ProtobufError> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "protobuf's rule: a 32-bit field takes the lower bits, signed ones are two's complement"
    )]
    let value = match (kind, wire) {
        (Kind::Bool, Wire::Number(number)) => Value::Bool(*number != 0),
        (Kind::Int32, Wire::Number(number)) => Value::from(*number as i32),
        (Kind::Int64, Wire::Number(number)) => Value::from(*number as i64),
        (Kind::Uint32, Wire::Number(number)) => Value::from(*number as u32),
        (Kind::Uint64, Wire::Number(number)) => Value::from(*number),
        (Kind::Double, Wire::Fixed(bits)) => double_value(f64::from_bits(*bits)),
        (Kind::Enum(names), Wire::Number(number)) => {
            match names.iter().find(|(known, _)| *known == *number as i32) {
                Some((_, text)) => Value::from(*text),
                None => return Ok(None),
            }
        }
        (Kind::String, Wire::Bytes(bytes)) => {
            Value::from(std::str::from_utf8(bytes).map_err(|_| ProtobufError::Text(name))?)
        }
        (Kind::Bytes, Wire::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
        // Of another wire type: as unknown as a field without a schema.
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// JSON has neither infinities nor what is not a number.
fn double_value(number: f64) -> Value {
    let text = || Value::from(if number > 0.0 { "Infinity" } else { "-Infinity" });
    Number::from_f64(number)
        .map_or_else(|| if number.is_nan() { Value::from("NaN") } else { text() }, Value::Number)
}

fn take_wire<'a>(key: u64, bytes: &mut &'a [u8]) -> Result<Wire<'a>, ProtobufError> {
    let refused = ProtobufError::Wire { field: key >> 3, wire: key & 7 };
    if key >> 3 == 0 {
        return Err(refused);
    }
    match key & 7 {
        0 => Ok(Wire::Number(take_number(bytes)?)),
        1 => {
            let (fixed, rest) = bytes.split_first_chunk::<8>().ok_or(ProtobufError::Short)?;
            *bytes = rest;
            Ok(Wire::Fixed(u64::from_le_bytes(*fixed)))
        }
        2 => {
            let length = usize::try_from(take_number(bytes)?).map_err(|_| ProtobufError::Short)?;
            let (part, rest) = bytes.split_at_checked(length).ok_or(ProtobufError::Short)?;
            *bytes = rest;
            Ok(Wire::Bytes(part))
        }
        5 => {
            let (fixed, rest) = bytes.split_first_chunk::<4>().ok_or(ProtobufError::Short)?;
            *bytes = rest;
            Ok(Wire::Fixed(u32::from_le_bytes(*fixed).into()))
        }
        _ => Err(refused),
    }
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(ProtobufError::Short)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::LongNumber)
}

fn write(
    message: &Message,
    value: &Value,
    name: &'static str,
    bytes: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > DEEPEST {
        return Err(ProtobufError::Deep);
    }
    let object = value.as_object().ok_or(ProtobufError::Type(name))?;
    for field in message.fields {
        match object.get(field.name).filter(|value| !value.is_null()) {
            None if field.label == Label::Required => return Err(ProtobufError::Missing(field.name)),
            None => {}
            Some(Value::Array(values)) if field.label == Label::Repeated => {
                for value in values {
                    write_field(field, value, bytes, depth)?;
                }
            }
            Some(_) if field.label == Label::Repeated => return Err(ProtobufError::Type(field.name)),
            Some(value) => write_field(field, value, bytes, depth)?,
        }
    }
    Ok(())
}

fn write_field(field: &Field, value: &Value, bytes: &mut Vec<u8>, depth: usize) -> Result<(), ProtobufError> {
    let wrong = || ProtobufError::Type(field.name);
    let number = field.number;
    match field.kind {
        Kind::Bool => put_number(number, u64::from(value.as_bool().ok_or_else(wrong)?), bytes),
        Kind::Int32 | Kind::Int64 => {
            put_number(number, value.as_i64().ok_or_else(wrong)?.cast_unsigned(), bytes);
        }
        Kind::Uint32 | Kind::Uint64 => put_number(number, value.as_u64().ok_or_else(wrong)?, bytes),
        Kind::Double => {
            put_key(number, 1, bytes);
            bytes.extend_from_slice(&double(value).ok_or_else(wrong)?.to_le_bytes());
        }
        Kind::String => put_bytes(number, value.as_str().ok_or_else(wrong)?.as_bytes(), bytes),
        Kind::Bytes => {
            let text = value.as_str().ok_or_else(wrong)?;
            put_bytes(number, &STANDARD.decode(text).map_err(|_| wrong())?, bytes);
        }
        Kind::Enum(names) => {
            let text = value.as_str().ok_or_else(wrong)?;
            match names.iter().find(|(_, known)| *known == text) {
                Some((value, _)) => put_number(number, i64::from(*value).cast_unsigned(), bytes),
                None if field.label == Label::Required => return Err(wrong()),
                None => {}
            }
        }
        Kind::Submessage(message) => {
            let mut inner = Vec::new();
            write(message, value, field.name, &mut inner, depth + 1)?;
            put_bytes(number, &inner, bytes);
        }
    }
    Ok(())
}

fn double(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some("NaN") => Some(f64::NAN),
        Some(_) => None,
        None => value.as_f64(),
    }
}

fn put_number(field: u32, value: u64, bytes: &mut Vec<u8>) {
    put_key(field, 0, bytes);
    put_varint(value, bytes);
}

fn put_bytes(field: u32, value: &[u8], bytes: &mut Vec<u8>) {
    put_key(field, 2, bytes);
    put_varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

fn put_key(field: u32, wire: u64, bytes: &mut Vec<u8>) {
    put_varint(u64::from(field) << 3 | wire, bytes);
}

fn put_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(0x80 | value.to_le_bytes()[0]);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}
