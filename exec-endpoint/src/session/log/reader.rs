//! The lines of both streams by their times, from where they are wanted.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use jiff::Timestamp;
use task::control::{LogFile, Stream};

use super::lane::{Head, Lane, Segment};

/// About as much is given out at once.
const PIECE: usize = 256 << 10;

/// What is wanted of a log. The default is all that there is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Of one stream only.
    pub stream: Option<Stream>,
    /// Also what comes.
    pub follow: bool,
    /// At most so many lines of those that there are.
    pub tail: Option<u64>,
    /// Only lines that were read at this time or later, milliseconds since 1970.
    pub since: Option<u64>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// No more than so many bytes.
    pub limit: Option<u64>,
    /// Only what the process before the present one wrote, of a task that was restarted so often.
    pub before_restarts: Option<u32>,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was no process before the present one.
    #[error("no process before the present one")]
    NoPrevious,
    /// A file cannot be read.
    #[error("read the log: {0}")]
    Io(#[from] io::Error),
}

/// What [`Reader::next_piece`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines, but for those too long and the last.
    Bytes(Bytes),
    /// Nothing before [`Reader::has_grown`] says so, or a rotation.
    Waiting,
    /// Nothing more.
    End,
}

/// Reads a log once.
#[derive(Debug)]
pub struct Reader {
    lanes: Vec<(Stream, Lane)>,
    timestamps: bool,
    /// Lines that are left out first.
    skip: u64,
    /// Bytes that may still be given out.
    left: u64,
    clock: Clock,
}

impl Reader {
    /// A reader of these files, of each stream the oldest first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(mut files: Vec<(LogFile, Segment)>, wanted: &Wanted) -> Result<Self, OpenError> {
        let process = match wanted.before_restarts {
            Some(restarts) => Some(previous(&mut files, restarts)?),
            None => None,
        };
        let mut this = Self {
            lanes: Vec::new(),
            timestamps: wanted.timestamps,
            skip: 0,
            left: wanted.limit.unwrap_or(u64::MAX),
            clock: Clock::default(),
        };
        let mut streams = [(Stream::Stdout, VecDeque::new()), (Stream::Stderr, VecDeque::new())];
        for (file, segment) in files {
            let [(_, out), (_, err)] = &mut streams;
            let lane = if file.stream == Stream::Stdout { out } else { err };
            lane.push_back(segment.moved(file.moved));
        }
        let mut lines = 0;
        for (stream, segments) in streams {
            if wanted.stream.is_some_and(|only| only != stream) {
                continue;
            }
            let mut lane = Lane::new(segments, wanted.follow && process.is_none())?;
            if let Some(process) = process {
                lane.only_process(process)?;
            }
            if let Some(since) = wanted.since {
                lane.since(since)?;
            }
            if let Some(tail) = wanted.tail {
                lines += lane.tail(tail)?;
            }
            this.lanes.push((stream, lane));
        }
        this.skip = wanted.tail.map_or(0, |tail| lines.saturating_sub(tail));
        Ok(this)
    }

    /// The next piece, without waiting.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Piece> {
        let mut piece = Vec::new();
        let mut ended = self.left == 0;
        let (skipping, mut looked) = (self.skip > 0, 0_usize);
        while piece.len() < PIECE && self.left > 0 {
            looked += 1;
            // What is left out takes time too.
            if skipping && looked > PIECE {
                return Ok(Piece::Bytes(Bytes::from(piece)));
            }
            let (chosen, alone) = match self.choose()? {
                Choice::Line { lane, alone } => (lane, alone),
                Choice::Waiting => break,
                Choice::End => {
                    ended = true;
                    break;
                }
            };
            let Some((_, lane)) = self.lanes.get_mut(chosen) else { break };
            let before = piece.len();
            if alone && !self.timestamps && self.skip == 0 {
                piece.extend_from_slice(lane.take_all());
            } else {
                let Head::Line(time) = lane.head()? else { continue };
                let taken = lane.take();
                if self.skip > 0 {
                    self.skip -= u64::from(taken.ends);
                    continue;
                }
                if self.timestamps && taken.begins {
                    piece.extend_from_slice(self.clock.text(time));
                }
                piece.extend_from_slice(taken.bytes);
            }
            let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len() - before);
            piece.truncate(before + fits);
            self.left -= fits as u64;
        }
        Ok(match piece.is_empty() {
            false => Piece::Bytes(Bytes::from(piece)),
            true if ended || self.left == 0 => Piece::End,
            true => Piece::Waiting,
        })
    }

    /// A stream goes on in a new file.
    pub fn rotated(&mut self, file: &LogFile, segment: Segment) {
        if let Some((_, lane)) = self.lanes.iter_mut().find(|(stream, _)| *stream == file.stream) {
            lane.rotated(segment.moved(file.moved));
        }
    }

    /// Nothing more will come: what is there is the end.
    pub fn finish(&mut self) {
        self.lanes.iter_mut().for_each(|(_, lane)| lane.finish());
    }

    /// Whether there is something to read that was not there before.
    ///
    /// # Errors
    /// When a file cannot be asked.
    pub fn has_grown(&mut self) -> io::Result<bool> {
        let mut grown = false;
        for (_, lane) in &mut self.lanes {
            grown |= lane.has_grown()?;
        }
        Ok(grown)
    }

    fn choose(&mut self) -> io::Result<Choice> {
        let (mut best, mut lines, mut waiting) = (None, 0, false);
        for (index, (_, lane)) in self.lanes.iter_mut().enumerate() {
            match lane.head()? {
                Head::Line(time) => {
                    lines += 1;
                    let rank = (!lane.is_inside(), time, index);
                    if best.is_none_or(|best| rank < best) {
                        best = Some(rank);
                    }
                }
                Head::Waiting => waiting = true,
                Head::End => {}
            }
        }
        Ok(match best {
            Some((_, _, lane)) => Choice::Line { lane, alone: lines == 1 },
            None if waiting => Choice::Waiting,
            None => Choice::End,
        })
    }
}

enum Choice {
    /// The lane's line is next; whether no other has one.
    Line {
        lane: usize,
        alone: bool,
    },
    Waiting,
    End,
}

/// The number of the process before the present one. One that waits for its restart is the present one already.
fn previous(files: &mut [(LogFile, Segment)], restarts: u32) -> Result<u16, OpenError> {
    let mut present = u16::try_from(restarts.saturating_add(1)).unwrap_or(u16::MAX);
    for (_, segment) in files {
        present = present.max(segment.last_process()?);
    }
    match present {
        0 | 1 => Err(OpenError::NoPrevious),
        present => Ok(present - 1),
    }
}

/// Writes times; many lines have the same.
#[derive(Debug, Default)]
struct Clock {
    time: Option<u64>,
    text: Vec<u8>,
}

impl Clock {
    /// RFC 3339 with nine digits, and a space.
    fn text(&mut self, time: u64) -> &[u8] {
        if self.time != Some(time) {
            let stamp = i64::try_from(time).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
            self.text = format!("{:.9} ", stamp.unwrap_or_default()).into_bytes();
            self.time = Some(time);
        }
        &self.text
    }
}
