//! The wire types and the RecordIO framing of Mesos's v1 HTTP APIs, written by hand with serde.
//!
//! ```text
//!  HTTP body bytes -> recordio::Decoder -> one record (JSON) -> executor::Event / scheduler::Event
//!  executor::Call / scheduler::Call -> JSON -> request body
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`recordio`] | length-prefixed framing of a stream of records |
//! | [`common`] | what all APIs share: ids, `TaskInfo`, `TaskStatus`, resources, commands, checks |
//! | [`executor`] | the executor API: what an agent sends to an executor and the other way round |
//! | [`agent`] | an agent's operator API |
//! | [`protobuf`] | protobuf's wire format, to and from that JSON |
//! | [`scheduler`] | the scheduler API: what a master sends to a framework and the other way round |
//!
//! Rules that hold everywhere (source: Mesos 1.11, `stout/protobuf.hpp`): names are the protobuf field names; an enum is
//! its name; bytes are standard base64; 64-bit integers are numbers, or strings of digits on input; unknown fields are
//! ignored; an unknown enum name is never an error here ([`common::Open`]).

pub mod agent;
pub mod common;
pub mod executor;
pub mod protobuf;
pub mod recordio;
pub mod scheduler;
