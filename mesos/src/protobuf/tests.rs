//! What the codec must keep.

use proptest::prelude::*;
use serde_json::json;

use super::schema::{CALL, PROCESS_IO, RESPONSE};
use super::*;

#[test]
fn an_agents_own_answers_are_read_as_its_json_says_them() {
    let health = json!({"type": "GET_HEALTH", "get_health": {"healthy": true}});
    assert_eq!(decode(&RESPONSE, b"\x08\x01\x12\x02\x08\x01").unwrap(), health);
    assert_eq!(encode(&RESPONSE, &health).unwrap(), b"\x08\x01\x12\x02\x08\x01");
    let wait = json!({"type": "WAIT_CONTAINER", "wait_container": {"exit_status": 768}});
    assert_eq!(decode(&RESPONSE, b"\x08\x0f\x82\x01\x03\x08\x80\x06").unwrap(), wait);
    assert_eq!(encode(&RESPONSE, &wait).unwrap(), b"\x08\x0f\x82\x01\x03\x08\x80\x06");
    let output = json!({"type": "DATA", "data": {"type": "STDOUT", "data": "aGVsbG8K"}});
    assert_eq!(decode(&PROCESS_IO, b"\x08\x01\x12\n\x08\x02\x12\x06hello\n").unwrap(), output);
}

#[test]
fn what_the_schema_does_not_know_is_skipped() {
    // Field 900 of each wire type, then the type with a number that no enum has, then a field of another wire type.
    let unknown = [
        &b"\xa0\x38\x05"[..],
        b"\xa1\x3812345678",
        b"\xa2\x38\x02ab",
        b"\xa5\x381234",
        b"\x08\x7f",
        b"\x0a\x00",
    ];
    assert_eq!(decode(&CALL, &unknown.concat()).unwrap(), json!({}));
    assert_eq!(
        encode(&CALL, &json!({"nothing": 1, "type": "NO_SUCH_CALL", "get_containers": null})).unwrap(),
        b""
    );
}

#[test]
fn of_a_single_field_the_last_counts_and_a_messages_parts_add_up() {
    let twice = decode(&PROCESS_IO, b"\x08\x01\x08\x02\x12\x02\x08\x02\x12\x03\x12\x01x").unwrap();
    assert_eq!(twice, json!({"type": "CONTROL", "data": {"type": "STDOUT", "data": "eA=="}}));
}

#[test]
fn a_required_field_must_be_there() {
    assert_eq!(decode(&CALL, b"\x08\x17\x72\x00"), Err(ProtobufError::Missing("container_id")));
    let value = json!({"type": "WAIT_CONTAINER", "wait_container": {}});
    assert_eq!(encode(&CALL, &value), Err(ProtobufError::Missing("container_id")));
}

#[test]
fn messages_nested_too_deep_are_refused() {
    let mut id = json!({"value": "x"});
    for _ in 0..60 {
        id = json!({"value": "x", "parent": id});
    }
    let call = json!({"wait_container": {"container_id": id}});
    assert_eq!(encode(&CALL, &call), Err(ProtobufError::Deep));
    let mut bytes = vec![0x0a, 1, b'x'];
    for _ in 0..60 {
        let mut outer = vec![0x0a, 1, b'x', 0x12];
        put_varint(bytes.len() as u64, &mut outer);
        outer.extend(&bytes);
        bytes = outer;
    }
    let mut wait = vec![0x0a];
    put_varint(bytes.len() as u64, &mut wait);
    wait.extend(&bytes);
    let mut call = vec![0x72];
    put_varint(wait.len() as u64, &mut call);
    call.extend(&wait);
    assert_eq!(decode(&CALL, &call), Err(ProtobufError::Deep));
}

/// Any value of a message, as deep as `depth`.
fn any_message(message: &'static Message, depth: usize) -> BoxedStrategy<Value> {
    let fields: Vec<_> = message.fields.iter().map(|field| any_field(field, depth)).collect();
    fields
        .prop_map(|values| {
            Value::Object(
                values
                    .into_iter()
                    .flatten()
                    .map(|(name, value): (&str, Value)| (name.to_owned(), value))
                    .collect(),
            )
        })
        .boxed()
}

fn any_field(field: &'static Field, depth: usize) -> BoxedStrategy<Option<(&'static str, Value)>> {
    let recursive = matches!(field.kind, Kind::Submessage(_));
    if recursive && depth == 0 && field.label != Label::Required {
        return Just(None).boxed();
    }
    let one = match field.kind {
        Kind::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        Kind::Uint32 => any::<u32>().prop_map(Value::from).boxed(),
        Kind::Uint64 => any::<u64>().prop_map(Value::from).boxed(),
        Kind::Double => {
            prop_oneof![any::<f64>().prop_map(double_value), Just(Value::from("Infinity"))].boxed()
        }
        Kind::String => any::<String>().prop_map(Value::from).boxed(),
        Kind::Bytes => any::<Vec<u8>>().prop_map(|bytes| Value::from(STANDARD.encode(bytes))).boxed(),
        Kind::Enum(names) => proptest::sample::select(names).prop_map(|(_, name)| Value::from(name)).boxed(),
        Kind::Submessage(message) => any_message(message, depth.saturating_sub(1)),
    };
    let name = field.name;
    match field.label {
        Label::Required => one.prop_map(move |value| Some((name, value))).boxed(),
        Label::Optional => proptest::option::of(one).prop_map(move |value| Some((name, value?))).boxed(),
        Label::Repeated => proptest::collection::vec(one, 0..3)
            .prop_map(move |values| (!values.is_empty()).then_some((name, Value::Array(values))))
            .boxed(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_call_survives_the_way_there_and_back(value in any_message(&CALL, 4)) {
        prop_assert_eq!(decode(&CALL, &encode(&CALL, &value).unwrap()).unwrap(), value);
    }

    #[test]
    fn a_response_survives_the_way_there_and_back(value in any_message(&RESPONSE, 3)) {
        prop_assert_eq!(decode(&RESPONSE, &encode(&RESPONSE, &value).unwrap()).unwrap(), value);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for message in [&CALL, &RESPONSE, &PROCESS_IO] {
            let _ = decode(message, &bytes);
        }
    }
}
