//! What is read of a protobuf message can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesos::protobuf::schema::{CALL, PROCESS_IO, RESPONSE};
use mesos::protobuf::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    for message in [&CALL, &PROCESS_IO, &RESPONSE] {
        if let Ok(value) = decode(message, bytes) {
            let again = encode(message, &value).expect("what was read can be written");
            assert_eq!(decode(message, &again).expect("what was written can be read"), value);
        }
    }
});
