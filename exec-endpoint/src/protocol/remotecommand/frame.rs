//! Frames of a WebSocket (RFC 6455), as a server reads and writes them. Pure.
//!
//! Payloads are told in the pieces in which they come, unmasked where they lie: a message is never held as a whole.

use std::ops::Range;

/// The longest message that a client may send.
pub const LONGEST_MESSAGE: u64 = 1 << 20;
/// The longest header of a frame to a client.
pub const MOST_HEADER: usize = 10;
/// The longest payload of a control frame.
pub const MOST_CONTROL: usize = 125;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A piece of a message, text or binary.
    Data {
        /// Where it lies, unmasked, in what was given.
        range: Range<usize>,
        /// Whether the message begins with it.
        first: bool,
        /// Whether the message ends with it.
        last: bool,
    },
    /// The client wants this back.
    Ping(Vec<u8>),
    /// The client answers.
    Pong,
    /// The client closes, and says why.
    Close(Option<u16>),
}

/// The client does not speak the protocol, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Reserved bits, or an opcode that is not known.
    #[error("a frame has reserved bits or an unknown opcode")]
    Reserved,
    /// A client's frames are always masked.
    #[error("a frame is not masked")]
    Unmasked,
    /// A control frame is short and whole.
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    /// A continuation of nothing, or a new message amid another.
    #[error("fragments are out of order")]
    Order,
    /// The length has its highest bit set, or a close frame has one byte.
    #[error("a length is malformed")]
    Length,
    /// The message is too long.
    #[error("a message is longer than {LONGEST_MESSAGE} bytes")]
    TooLong,
}

impl Violation {
    /// The code of the close frame that answers it (RFC 6455, 7.4.1).
    pub fn close_code(self) -> u16 {
        if self == Self::TooLong { 1009 } else { 1002 }
    }
}

/// Reads a client's frames.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes so far of the message under way, if one is.
    message: Option<u64>,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; 14], have: usize },
    Data { left: u64, mask: [u8; 4], first: bool, fin: bool },
    Control { opcode: u8, mask: [u8; 4], length: usize, payload: Vec<u8> },
}

const HEADER: State = State::Header { bytes: [0; 14], have: 0 };

impl Default for Decoder {
    fn default() -> Self {
        Self { state: HEADER, message: None }
    }
}

impl Decoder {
    /// Reads on: how many bytes were used, and what they were. Nothing is told only when all were used.
    ///
    /// # Errors
    /// [`Violation`]; the rest makes no sense then.
    pub fn next(&mut self, bytes: &mut [u8]) -> Result<(usize, Option<Event>), Violation> {
        let mut used = 0;
        loop {
            match &mut self.state {
                State::Header { bytes: header, have } => {
                    let wanted = header_length(&header[..*have]);
                    let some = (wanted - *have).min(bytes.len() - used);
                    header[*have..*have + some].copy_from_slice(&bytes[used..used + some]);
                    *have += some;
                    used += some;
                    let have = *have;
                    if have < header_length(&header[..have]) {
                        if used == bytes.len() {
                            return Ok((used, None));
                        }
                        continue;
                    }
                    let header = *header;
                    self.state = self.open(&header)?;
                }
                State::Data { left, mask, first, fin } => {
                    let some = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - used);
                    if some == 0 && *left > 0 {
                        return Ok((used, None));
                    }
                    let range = used..used + some;
                    unmask(&mut bytes[range.clone()], *mask);
                    mask.rotate_left(some % 4);
                    *left -= some as u64;
                    let ended = *left == 0;
                    let event = Event::Data { range, first: *first, last: ended && *fin };
                    *first = false;
                    if ended {
                        if *fin {
                            self.message = None;
                        }
                        self.state = HEADER;
                    }
                    return Ok((used + some, Some(event)));
                }
                State::Control { opcode, mask, length, payload } => {
                    let some = (*length - payload.len()).min(bytes.len() - used);
                    payload.extend_from_slice(&bytes[used..used + some]);
                    used += some;
                    if payload.len() < *length {
                        return Ok((used, None));
                    }
                    unmask(payload, *mask);
                    let event = control(*opcode, std::mem::take(payload))?;
                    self.state = HEADER;
                    return Ok((used, Some(event)));
                }
            }
        }
    }

    /// What follows a header.
    fn open(&mut self, header: &[u8; 14]) -> Result<State, Violation> {
        let (fin, opcode) = (header[0] & 0x80 != 0, header[0] & 0x0f);
        if header[0] & 0x70 != 0 || !matches!(opcode, 0..=2 | 8..=10) {
            return Err(Violation::Reserved);
        }
        if header[1] & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let end = header_length(header);
        let mask = [header[end - 4], header[end - 3], header[end - 2], header[end - 1]];
        let length = header[2..end - 4].iter().fold(0_u64, |length, &byte| length << 8 | u64::from(byte));
        let length = if end == 6 { u64::from(header[1] & 0x7f) } else { length };
        if opcode >= 8 {
            let short = usize::try_from(length).ok().filter(|&length| fin && length <= MOST_CONTROL);
            let length = short.ok_or(Violation::Control)?;
            return Ok(State::Control { opcode, mask, length, payload: Vec::new() });
        }
        if length >> 63 != 0 {
            return Err(Violation::Length);
        }
        let (first, before) = match (opcode, self.message) {
            (0, Some(before)) => (false, before),
            (1 | 2, None) => (true, 0),
            _ => return Err(Violation::Order),
        };
        let message = before.saturating_add(length);
        if message > LONGEST_MESSAGE {
            return Err(Violation::TooLong);
        }
        self.message = Some(message);
        Ok(State::Data { left: length, mask, first, fin })
    }
}

/// How long a header is, as far as its first bytes tell. One without a mask is wrong, and what follows is not waited for.
fn header_length(header: &[u8]) -> usize {
    match header.get(1) {
        None | Some(0..=0x7f) => 2,
        Some(0xfe) => 8,
        Some(0xff) => 14,
        Some(_) => 6,
    }
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Event, Violation> {
    match (opcode, payload.as_slice()) {
        (8, []) => Ok(Event::Close(None)),
        (8, [_]) => Err(Violation::Length),
        (8, [high, low, ..]) => Ok(Event::Close(Some(u16::from_be_bytes([*high, *low])))),
        (9, _) => Ok(Event::Ping(payload)),
        _ => Ok(Event::Pong),
    }
}

/// Takes the mask off; `mask[0]` belongs to the first byte.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u32::from_ne_bytes(mask);
    let wide = u128::from(wide) * 0x0000_0001_0000_0001_0000_0001_0000_0001;
    let mut chunks = bytes.chunks_exact_mut(16);
    for chunk in &mut chunks {
        if let Ok(word) = <[u8; 16]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u128::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A whole binary message.
    Binary = 2,
    /// Close.
    Close = 8,
    /// Ping.
    Ping = 9,
    /// Pong.
    Pong = 10,
}

/// Writes the header of a whole frame so that it ends at `end`, which is at least [`MOST_HEADER`]; where it starts.
pub fn put_header(buffer: &mut [u8], end: usize, opcode: Opcode, length: usize) -> usize {
    let mut header = [0; MOST_HEADER];
    header[0] = 0x80 | opcode as u8;
    let long = (length as u64).to_be_bytes();
    let used = match length {
        0..=125 => {
            header[1] = long[7];
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&long[6..]);
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&long);
            10
        }
    };
    buffer[end - used..end].copy_from_slice(&header[..used]);
    end - used
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// All messages and control frames in `bytes`, cut at `cuts`.
    fn all(bytes: &[u8], cut: usize) -> Result<(Vec<Vec<u8>>, Vec<Event>), Violation> {
        let (mut decoder, mut messages, mut controls, mut open) =
            (Decoder::default(), vec![], vec![], Vec::new());
        for part in bytes.chunks(cut.max(1)) {
            let (mut part, mut at) = (part.to_vec(), 0);
            loop {
                let (used, event) = decoder.next(&mut part[at..])?;
                match event {
                    Some(Event::Data { range, first, last }) => {
                        assert_eq!(first && !range.is_empty(), first && open.is_empty() && !range.is_empty());
                        open.extend_from_slice(&part[at..][range]);
                        if last {
                            messages.push(std::mem::take(&mut open));
                        }
                    }
                    Some(control) => controls.push(control),
                    None => break,
                }
                at += used;
            }
        }
        Ok((messages, controls))
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_are_fragmented_masked_and_cut(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 0..5),
            mask: [u8; 4], cut in 1_usize..700,
        ) {
            let mut bytes = vec![];
            for fragments in &messages {
                for (index, fragment) in fragments.iter().enumerate() {
                    let fin = if index + 1 == fragments.len() { 0x80 } else { 0 };
                    bytes.extend(frame(fin | if index == 0 { 2 } else { 0 }, fragment, mask));
                    bytes.extend(frame(0x89, b"p", mask));
                }
            }
            let (came, controls) = all(&bytes, cut).unwrap();
            let whole: Vec<Vec<u8>> = messages.iter().map(|fragments| fragments.concat()).collect();
            prop_assert_eq!(came, whole);
            prop_assert_eq!(controls.len(), messages.iter().map(Vec::len).sum::<usize>());
            prop_assert!(controls.iter().all(|control| *control == Event::Ping(b"p".to_vec())));
        }

        #[test]
        fn any_bytes_are_frames_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50) {
            let _ = all(&bytes, cut);
        }

        #[test]
        fn a_frame_of_ours_is_read_by_a_client_as_it_was_meant(length in 0_usize..200_000) {
            let mut buffer = vec![0; MOST_HEADER];
            let start = put_header(&mut buffer, MOST_HEADER, Opcode::Binary, length);
            let header = &buffer[start..];
            let told = match header[1] {
                126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
                127 => u64::from_be_bytes(header[2..10].try_into().unwrap()),
                short => u64::from(short),
            };
            prop_assert_eq!((header[0], told), (0x82, length as u64));
        }
    }

    #[test]
    fn what_the_protocol_forbids_is_a_violation_of_its_kind() {
        let mask = [1, 2, 3, 4];
        let unmasked = vec![0x82, 1, 0];
        let mut huge = frame(0x82, &[], mask);
        huge.splice(1..2, [0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        let mut long = frame(0x82, &[], mask);
        long.splice(1..2, [0x80 | 127, 0, 0, 0, 0, 0, 0x10, 0, 1]);
        let cases = [
            (unmasked, Violation::Unmasked),
            (frame(0xc2, b"", mask), Violation::Reserved),
            (frame(0x83, b"", mask), Violation::Reserved),
            (frame(0x8b, b"", mask), Violation::Reserved),
            (frame(0x80, b"", mask), Violation::Order),
            ([frame(0x02, b"a", mask), frame(0x82, b"b", mask)].concat(), Violation::Order),
            (frame(0x09, b"", mask), Violation::Control),
            (frame(0x89, &[0; 126], mask), Violation::Control),
            (frame(0x88, b"x", mask), Violation::Length),
            (huge, Violation::Length),
            (long, Violation::TooLong),
        ];
        for (bytes, violation) in cases {
            assert_eq!(all(&bytes, 3).unwrap_err(), violation, "{bytes:02x?}");
        }
        let close = all(&frame(0x88, &[3, 0xe8, b'b'], mask), 99).unwrap().1;
        assert_eq!(close, [Event::Close(Some(1000))]);
    }

    #[test]
    fn a_message_of_many_fragments_is_bounded_as_one() {
        let mask = [9, 8, 7, 6];
        let half = vec![0; 600_000];
        let bytes = [frame(0x02, &half, mask), frame(0x80, &half, mask)].concat();
        assert_eq!(all(&bytes, 65536), Err(Violation::TooLong));
    }
}
