//! A WebSocket client's frames (RFC 6455, 5): pure.
//!
//! Not tungstenite's, since that gathers whole messages: here the parts of a frame are passed on where they lie as they come,
//! and what is sent is masked in place.

use std::ops::Range;

/// The room that a client's header needs at most.
pub(crate) const HEADER: usize = 14;
/// The longest payload of a control frame.
const LONGEST_CONTROL: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// Data.
    Binary = 2,
    /// The end.
    Close = 8,
    /// A sign of life.
    Pong = 10,
}

/// Makes a frame of what stands in `buffer` from [`HEADER`] on: writes the header before it and masks it.
/// Returns where the frame begins.
pub(crate) fn seal(buffer: &mut [u8], opcode: Opcode, key: [u8; 4]) -> usize {
    let length = buffer.len() - HEADER;
    mask(&mut buffer[HEADER..], key);
    buffer[HEADER - 4..HEADER].copy_from_slice(&key);
    let size = HEADER - 4;
    let (start, short) = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => (size - 2, length),
        (_, Ok(length)) => {
            buffer[size - 2..size].copy_from_slice(&length.to_be_bytes());
            (size - 4, 126)
        }
        _ => {
            buffer[size - 8..size].copy_from_slice(&(length as u64).to_be_bytes());
            (size - 10, 127)
        }
    };
    buffer[start] = 0x80 | opcode as u8;
    buffer[start + 1] = 0x80 | short;
    start
}

fn mask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c, d]) {
        *byte ^= key;
    }
}

/// What a peer sent that RFC 6455 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// Bits that mean something only where it was agreed on.
    #[error("a frame with reserved bits")]
    Reserved,
    /// A server does not mask.
    #[error("a masked frame from a server")]
    Masked,
    /// No such frame, or text, which these protocols do not have.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// A control frame that is long or in fragments.
    #[error("a control frame that is too long or in fragments")]
    Control,
    /// A continuation of nothing, or a message inside another.
    #[error("fragments out of order")]
    Order,
    /// More than a file can have.
    #[error("a frame longer than 2^63 bytes")]
    Length,
}

/// What bytes of a server mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes of a message, where they lie.
    Data {
        /// Where.
        range: Range<usize>,
        /// Whether the message begins here.
        first: bool,
        /// Whether it ends here.
        last: bool,
    },
    /// To be answered by a pong with the same payload.
    Ping(Vec<u8>),
    /// A sign of life.
    Pong,
    /// The end, and why.
    Close(String),
}

/// Takes a server's bytes apart, however they were cut on the way.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    header: [u8; 10],
    have: usize,
    frame: Option<Frame>,
    /// Whether a message has begun, and has not ended.
    inside: bool,
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    last: bool,
    first: bool,
    left: u64,
}

impl Decoder {
    /// The next piece of `bytes` from `at` on, which is moved; `None` when all is used up.
    ///
    /// # Errors
    /// [`Violation`]; nothing that comes after it makes sense.
    pub(crate) fn next_piece(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Piece>, Violation> {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(&byte) = bytes.get(*at) else {
                    return Ok(None);
                };
                self.header[self.have] = byte;
                *at += 1;
                self.have += 1;
                self.frame = self.begun()?;
                continue;
            };
            let here =
                usize::try_from(frame.left).map_or(bytes.len() - *at, |left| left.min(bytes.len() - *at));
            if here == 0 && frame.left > 0 {
                return Ok(None);
            }
            let range = *at..*at + here;
            *at += here;
            frame.left -= here as u64;
            let done = frame.left == 0;
            let Frame { opcode, last, first, .. } = *frame;
            frame.first = false;
            if done {
                self.frame = None;
                self.have = 0;
            }
            if opcode < 8 {
                let last = last && done;
                self.inside = !last;
                return Ok(Some(Piece::Data { range, first, last }));
            }
            self.control.extend_from_slice(&bytes[range]);
            if done {
                return Ok(Some(control(opcode, std::mem::take(&mut self.control))));
            }
        }
    }

    /// The frame, once its header is whole.
    fn begun(&self) -> Result<Option<Frame>, Violation> {
        let header = &self.header[..self.have];
        let &[kind, short, ref long @ ..] = header else {
            return Ok(None);
        };
        if kind & 0x70 != 0 {
            return Err(Violation::Reserved);
        }
        if short & 0x80 != 0 {
            return Err(Violation::Masked);
        }
        let left = match (short, long) {
            (126, &[a, b]) => u64::from(u16::from_be_bytes([a, b])),
            (127, long) if long.len() == 8 => {
                long.iter().fold(0, |length, &byte| length << 8 | u64::from(byte))
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => u64::from(short),
        };
        if left >> 63 != 0 {
            return Err(Violation::Length);
        }
        let (opcode, last) = (kind & 0xf, kind & 0x80 != 0);
        match opcode {
            0 if !self.inside => Err(Violation::Order),
            2 if self.inside => Err(Violation::Order),
            8..=10 if !last || left > LONGEST_CONTROL as u64 => Err(Violation::Control),
            0 | 2 | 8..=10 => Ok(Some(Frame { opcode, last, first: opcode == 2, left })),
            other => Err(Violation::Kind(other)),
        }
    }
}

fn control(opcode: u8, payload: Vec<u8>) -> Piece {
    match opcode {
        8 => Piece::Close(String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned()),
        9 => Piece::Ping(payload),
        _ => Piece::Pong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as TheirFrame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    /// What a server sends, as another implementation writes it.
    fn theirs(payload: &[u8], opcode: OpCode, last: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        TheirFrame::message(payload.to_vec(), opcode, last).format(&mut bytes).unwrap();
        bytes
    }

    /// A whole frame with this payload.
    fn frame(opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        let mut buffer = vec![0; HEADER];
        buffer.extend_from_slice(payload);
        let start = seal(&mut buffer, opcode, key);
        buffer.drain(..start);
        buffer
    }

    /// Messages and control frames of a stream that comes in pieces of these sizes.
    fn decode(stream: &[u8], sizes: &[usize]) -> Result<(Vec<Vec<u8>>, Vec<Piece>), Violation> {
        let (mut decoder, mut messages, mut others) = (Decoder::default(), Vec::new(), Vec::new());
        let (mut message, mut rest, mut sizes) = (Vec::new(), stream, sizes.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(sizes.next().map_or(1, |&size| size.clamp(1, rest.len())));
            rest = later;
            let mut at = 0;
            while let Some(piece) = decoder.next_piece(now, &mut at)? {
                match piece {
                    Piece::Data { range, first, last } => {
                        assert_eq!(first, message.is_empty() && first);
                        message.extend_from_slice(&now[range]);
                        if last {
                            messages.push(std::mem::take(&mut message));
                        }
                    }
                    other => others.push(other),
                }
            }
            assert_eq!(at, now.len());
        }
        Ok((messages, others))
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_and_fragmented_the_messages_are_the_same(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 1..6),
            sizes in prop::collection::vec(1_usize..200, 1..8),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                for (at, fragment) in message.iter().enumerate() {
                    let opcode = OpCode::Data(if at == 0 { Data::Binary } else { Data::Continue });
                    stream.extend(theirs(fragment, opcode, at + 1 == message.len()));
                    TheirFrame::ping(b"hi".to_vec()).format(&mut stream).unwrap();
                }
            }
            let (got, others) = decode(&stream, &sizes).unwrap();
            prop_assert_eq!(got, messages.iter().map(|message| message.concat()).collect::<Vec<_>>());
            prop_assert_eq!(others.len(), messages.iter().map(Vec::len).sum::<usize>());
            prop_assert!(others.iter().all(|other| *other == Piece::Ping(b"hi".to_vec())));
        }

        #[test]
        fn a_frame_of_ours_is_understood_by_another_implementation(
            length in prop_oneof![0_usize..200, 65_530_usize..65_545, Just(262_144)], key in any::<[u8; 4]>(),
        ) {
            use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;
            let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let frame = frame(Opcode::Binary, &payload, key);
            let mut socket = FrameSocket::new(std::io::Cursor::new(frame));
            let read = socket.read(None).unwrap().unwrap();
            let masked = read.header().mask.is_some();
            prop_assert!(masked && read.header().is_final);
            let mut body = read.into_payload().to_vec();
            if body != payload { mask(&mut body, key); }
            prop_assert_eq!(body, payload);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
            let _ = decode(&bytes, &[size]);
        }
    }

    #[test]
    fn what_the_rfc_does_not_allow_is_refused() {
        let cases: [(&[u8], Violation); 8] = [
            (&[0xc2, 0], Violation::Reserved),
            (&[0x82, 0x80], Violation::Masked),
            (&[0x81, 0], Violation::Kind(1)),
            (&[0x8b, 0], Violation::Kind(11)),
            (&[0x09, 0], Violation::Control),
            (&[0x89, 126, 0, 126], Violation::Control),
            (&[0x80, 0], Violation::Order),
            (&[0x02, 0, 0x82, 0], Violation::Order),
        ];
        for (bytes, violation) in cases {
            assert_eq!(decode(bytes, &[1]), Err(violation), "{bytes:x?}");
        }
        assert_eq!(decode(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], &[3]), Err(Violation::Length));
    }

    #[test]
    fn a_close_tells_why() {
        let (_, others) = decode(&[0x88, 4, 3, 0xe9, b'o', b'k', 0x88, 0], &[1]).unwrap();
        assert_eq!(others, [Piece::Close("ok".into()), Piece::Close(String::new())]);
    }
}
