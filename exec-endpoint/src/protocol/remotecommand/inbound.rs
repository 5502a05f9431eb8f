//! What a client's messages mean: the channels of Kubernetes' remotecommand. Pure.
//!
//! The first byte of a message is its channel: 0 stdin, 4 the terminal's size (`{"Width":80,"Height":24}`), and in v5 255: the channel in the second
//! byte is closed (`k8s.io/apimachinery/pkg/util/remotecommand`).

use std::ops::Range;

use serde::Deserialize;
use task::control::WindowSize;

use super::frame::{Decoder, Event, Violation};
use super::upgrade::Version;

/// The longest message that is kept whole: of a size, or of a close.
const LONGEST_KEPT: usize = 1024;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Input, where it lies in what was given.
    Stdin(Range<usize>),
    /// There is no more input.
    StdinEnd,
    /// The terminal has this size.
    Size(WindowSize),
    /// Wants this back.
    Ping(Vec<u8>),
    /// It closes.
    Close(Option<u16>),
}

/// Reads what a client says.
#[derive(Debug)]
pub struct Inbound {
    decoder: Decoder,
    version: Version,
    /// Of the message under way, once its first byte has come.
    channel: Option<u8>,
    kept: Vec<u8>,
    ignored: u64,
}

impl Inbound {
    /// For a client that speaks this version.
    pub fn new(version: Version) -> Self {
        Self { decoder: Decoder::default(), version, channel: None, kept: Vec::new(), ignored: 0 }
    }

    /// How many messages made no sense and were ignored.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Counts a message that makes no sense here.
    pub fn ignore(&mut self) {
        self.ignored += 1;
    }

    /// Reads on: how many bytes were used, and what they say. Nothing is said only when all were used.
    ///
    /// # Errors
    /// [`Violation`]; the rest makes no sense then.
    pub fn next(&mut self, bytes: &mut [u8]) -> Result<(usize, Option<Said>), Violation> {
        let mut used = 0;
        loop {
            let (more, event) = self.decoder.next(&mut bytes[used..])?;
            let from = used;
            used += more;
            let said = match event {
                None => return Ok((used, None)),
                Some(Event::Ping(payload)) => Some(Said::Ping(payload)),
                Some(Event::Pong) => None,
                Some(Event::Close(code)) => Some(Said::Close(code)),
                Some(Event::Data { range, first, last }) => {
                    self.data(bytes, range.start + from..range.end + from, first, last)
                }
            };
            if said.is_some() {
                return Ok((used, said));
            }
        }
    }

    fn data(&mut self, bytes: &[u8], mut range: Range<usize>, first: bool, last: bool) -> Option<Said> {
        if first {
            self.channel = None;
            self.kept.clear();
        }
        if self.channel.is_none() && !range.is_empty() {
            self.channel = Some(bytes[range.start]);
            range.start += 1;
        }
        match self.channel {
            Some(0) => (!range.is_empty()).then_some(Said::Stdin(range)),
            Some(4 | 255) => {
                if self.kept.len() <= LONGEST_KEPT {
                    let some = range.len().min(LONGEST_KEPT + 1 - self.kept.len());
                    self.kept.extend_from_slice(&bytes[range.start..range.start + some]);
                }
                if last { self.whole() } else { None }
            }
            Some(_) | None => {
                if last {
                    self.ignore();
                }
                None
            }
        }
    }

    /// A message that was kept has come whole.
    fn whole(&mut self) -> Option<Said> {
        let said = match (self.channel, self.version, self.kept.as_slice()) {
            (Some(255), Version::V5, [0]) => Some(Said::StdinEnd),
            (Some(4), _, json) if json.len() <= LONGEST_KEPT => size(json).map(Said::Size),
            _ => None,
        };
        if said.is_none() {
            self.ignore();
        }
        self.kept = Vec::new();
        said
    }
}

/// A terminal of no size is none.
fn size(json: &[u8]) -> Option<WindowSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct TerminalSize {
        width: u16,
        height: u16,
    }
    let TerminalSize { width: columns, height: rows } = serde_json::from_slice(json).ok()?;
    (rows > 0 && columns > 0).then_some(WindowSize { rows, columns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x82, 0x80 | 126];
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn all(version: Version, bytes: &[u8], cut: usize) -> (Vec<Said>, Vec<u8>, u64) {
        let (mut inbound, mut said, mut stdin) = (Inbound::new(version), vec![], vec![]);
        for part in bytes.chunks(cut) {
            let (mut part, mut at) = (part.to_vec(), 0);
            loop {
                let Ok((used, what)) = inbound.next(&mut part[at..]) else {
                    return (said, stdin, inbound.ignored());
                };
                match what {
                    Some(Said::Stdin(range)) => stdin.extend_from_slice(&part[at..][range]),
                    Some(other) => said.push(other),
                    None => break,
                }
                at += used;
            }
        }
        (said, stdin, inbound.ignored())
    }

    #[test]
    fn only_the_fifth_version_closes_stdin() {
        let close = message(&[255, 0]);
        assert_eq!(all(Version::V5, &close, 99), (vec![Said::StdinEnd], vec![], 0));
        assert_eq!(all(Version::V4, &close, 99), (vec![], vec![], 1));
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_the_rest_still_heard() {
        let nonsense: [&[u8]; 9] = [
            b"",
            b"\x01out",
            b"\x03",
            b"\x07",
            b"\xff\x01",
            b"\xff",
            b"\x04{",
            b"\x04{\"Width\":0,\"Height\":0}",
            b"\x04{\"Width\":99999999,\"Height\":1}",
        ];
        let mut bytes: Vec<u8> = nonsense.iter().flat_map(|payload| message(payload)).collect();
        bytes.extend(message(&[&[4][..], &[b' '; 5000]].concat()));
        bytes.extend(message(b"\x04{\"Width\":80,\"Height\":24}"));
        bytes.extend(message(b"\x00in"));
        for cut in [1, 2, 7, 99999] {
            let (said, stdin, ignored) = all(Version::V5, &bytes, cut);
            assert_eq!(said, [Said::Size(WindowSize { rows: 24, columns: 80 })]);
            assert_eq!((stdin.as_slice(), ignored), (&b"in"[..], 10));
        }
    }

    proptest! {
        #[test]
        fn any_messages_leave_stdin_in_order(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), cut in 1_usize..99,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| message(payload)).collect();
            let stdin: Vec<u8> = payloads.iter().filter(|payload| payload.first() == Some(&0))
                .flat_map(|payload| payload[1..].to_vec()).collect();
            prop_assert_eq!(all(Version::V5, &bytes, cut).1, stdin);
        }
    }
}
