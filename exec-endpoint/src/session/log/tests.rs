use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use task::control::{LogFile, Stream};

use super::times::Record;
use super::*;

/// What a task wrote at once.
#[derive(Debug, Clone)]
struct Chunk {
    stream: Stream,
    text: String,
    time: u64,
    process: u16,
    /// Whether a new file was begun before it.
    rotate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    time: u64,
    text: String,
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk =
        ("[ab\n]{1,12}", any::<bool>(), 1_u64..4, prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    prop::collection::vec(chunk, 0..40).prop_map(|all| {
        let (mut time, mut process) = (1_000_000, 1);
        let chunk = |(text, err, later, rotate, restart): (String, bool, u64, bool, bool)| {
            time += later;
            process += u16::from(restart);
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            let text = if err { text.replace('a', "x").replace('b', "y") } else { text };
            Chunk { stream, text, time, process, rotate }
        };
        all.into_iter().map(chunk).collect()
    })
}

/// One stream's files as they come to be.
#[derive(Default)]
struct Written {
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

fn files(chunks: &[Chunk]) -> Vec<(LogFile, Segment)> {
    let mut all = Vec::new();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let mut written = Written::default();
        written.files.push(<_>::default());
        for chunk in chunks.iter().filter(|chunk| chunk.stream == stream) {
            if chunk.rotate {
                written.files.push(<_>::default());
            }
            let (bytes, times) = written.files.last_mut().unwrap();
            let record = Record { offset: bytes.len() as u64, time: chunk.time, process: chunk.process };
            times.extend_from_slice(&record.to_bytes());
            bytes.extend_from_slice(chunk.text.as_bytes());
        }
        for (bytes, times) in written.files {
            let file = LogFile { stream, times: true, moved: 0 };
            all.push((file, Segment::new(file_of(&bytes), Some(file_of(&times)))));
        }
    }
    all
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = memory();
    file.write_all(bytes).unwrap();
    file
}

/// A file that costs no disk.
fn memory() -> File {
    rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}

/// The lines of all streams by their times.
fn lines<'a>(chunks: impl Iterator<Item = &'a Chunk> + Clone) -> Vec<Line> {
    let mut all = Vec::new();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let mut open: Option<Line> = None;
        for chunk in chunks.clone().filter(|chunk| chunk.stream == stream) {
            for part in chunk.text.split_inclusive('\n') {
                let line = open.get_or_insert_with(|| Line { time: chunk.time, text: String::new() });
                line.text.push_str(part);
                if part.ends_with('\n') {
                    all.extend(open.take());
                }
            }
        }
        all.extend(open);
    }
    all.sort_by_key(|line| line.time);
    all
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn drain(reader: &mut Reader) -> String {
    let mut all = Vec::new();
    while let Piece::Bytes(bytes) = reader.next_piece().unwrap() {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

fn read(chunks: &[Chunk], wanted: &Wanted) -> String {
    let mut reader = Reader::new(files(chunks), wanted).unwrap();
    let all = drain(&mut reader);
    assert_eq!(reader.next_piece().unwrap(), Piece::End);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_of_both_streams_come_in_the_order_of_their_times(chunks in chunks()) {
        prop_assert_eq!(read(&chunks, &Wanted::default()), text(&lines(chunks.iter())));
    }

    #[test]
    fn one_stream_alone_is_its_files_one_after_another(chunks in chunks()) {
        let only = Wanted { stream: Some(Stream::Stderr), ..Wanted::default() };
        let expected: String = chunks.iter().filter(|c| c.stream == Stream::Stderr).map(|c| c.text.as_str()).collect();
        prop_assert_eq!(read(&chunks, &only), expected);
    }

    #[test]
    fn a_tail_is_the_last_lines_of_what_comes_without_it(chunks in chunks(), tail in 0_usize..30) {
        let lines = lines(chunks.iter());
        let wanted = Wanted { tail: Some(tail as u64), ..Wanted::default() };
        prop_assert_eq!(read(&chunks, &wanted), text(&lines[lines.len().saturating_sub(tail)..]));
    }

    #[test]
    fn since_is_the_lines_from_that_time_on_and_a_tail_is_of_those(
        chunks in chunks(), since in 1_000_000_u64..1_000_100, tail in prop::option::of(0_usize..8),
    ) {
        let lines = lines(chunks.iter());
        let from = lines.iter().position(|line| line.time >= since).unwrap_or(lines.len());
        let from = tail.map_or(from, |tail| from.max(lines.len().saturating_sub(tail)));
        let wanted = Wanted { since: Some(since), tail: tail.map(|tail| tail as u64), ..Wanted::default() };
        prop_assert_eq!(read(&chunks, &wanted), text(&lines[from..]));
    }

    #[test]
    fn previous_is_what_the_process_before_wrote(chunks in chunks(), tail in prop::option::of(0_usize..8)) {
        let present = chunks.iter().map(|chunk| chunk.process).max().unwrap_or(1);
        let tail = tail.map(|tail| tail as u64);
        let wanted = Wanted { before_restarts: Some(0), tail, ..Wanted::default() };
        match Reader::new(files(&chunks), &wanted) {
            Err(OpenError::NoPrevious) => prop_assert_eq!(present, 1),
            Err(OpenError::Io(error)) => panic!("{error}"),
            Ok(mut reader) => {
                let lines = lines(chunks.iter().filter(|chunk| chunk.process == present - 1));
                let from = tail.map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap()));
                prop_assert_eq!(drain(&mut reader), text(&lines[from..]));
            }
        }
    }

    #[test]
    fn a_limit_cuts_and_timestamps_are_before_each_line(chunks in chunks(), limit in 0_u64..200) {
        let lines = lines(chunks.iter());
        let stamped: String = lines.iter().map(|line| {
            let milliseconds = i64::try_from(line.time).unwrap();
            format!("{:.9} {}", jiff::Timestamp::from_millisecond(milliseconds).unwrap(), line.text)
        }).collect();
        let wanted = Wanted { timestamps: true, limit: Some(limit), ..Wanted::default() };
        let expected = &stamped[..stamped.len().min(usize::try_from(limit).unwrap())];
        prop_assert_eq!(read(&chunks, &wanted), expected);
    }

    #[test]
    fn what_follows_over_rotations_is_all_there_once(
        chunks in chunks(), polls in prop::collection::vec(any::<bool>(), 40), late in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut lanes = [Stream::Stdout, Stream::Stderr].map(Growing::new);
        let segments = lanes.iter().map(|lane| (lane.log_file(0), lane.segment())).collect();
        let mut reader = Reader::new(segments, &Wanted { follow: true, ..Wanted::default() }).unwrap();
        let mut got = String::new();
        for ((chunk, poll), late) in chunks.iter().zip(polls).zip(late) {
            let lane = &mut lanes[usize::from(chunk.stream == Stream::Stderr)];
            let rotated = chunk.rotate.then(|| lane.rotate());
            // The word of a rotation may come before or after something is read.
            if late && poll {
                got += &drain(&mut reader);
            }
            if let Some((file, segment)) = rotated {
                reader.rotated(&file, segment);
            }
            lane.write(chunk);
            if poll && reader.has_grown().unwrap() {
                got += &drain(&mut reader);
            }
        }
        got += &drain(&mut reader);
        reader.finish();
        got += &drain(&mut reader);
        for (stream, own) in [(Stream::Stdout, ['a', 'b']), (Stream::Stderr, ['x', 'y'])] {
            let written: String = chunks.iter().filter(|c| c.stream == stream).map(|c| c.text.as_str()).collect();
            let letters = |text: &str| text.chars().filter(|letter| own.contains(letter)).collect::<String>();
            prop_assert_eq!(letters(&got), letters(&written));
        }
        let newlines = |text: &str| text.matches('\n').count();
        prop_assert_eq!(newlines(&got), chunks.iter().map(|chunk| newlines(&chunk.text)).sum::<usize>());
    }
}

/// A file that is written and rotated as an executor does it.
struct Growing {
    stream: Stream,
    bytes: File,
    times: File,
    length: u64,
    line: u64,
    last: Record,
}

impl Growing {
    fn new(stream: Stream) -> Self {
        let [bytes, times] = [memory(), memory()];
        Self { stream, bytes, times, length: 0, line: 0, last: Record::default() }
    }

    fn log_file(&self, moved: u64) -> LogFile {
        LogFile { stream: self.stream, times: true, moved }
    }

    fn segment(&self) -> Segment {
        Segment::new(self.bytes.try_clone().unwrap(), Some(self.times.try_clone().unwrap()))
    }

    fn write(&mut self, chunk: &Chunk) {
        self.last = Record { offset: self.length, time: chunk.time, process: chunk.process };
        self.times.write_all(&self.last.to_bytes()).unwrap();
        self.bytes.write_all_at(chunk.text.as_bytes(), self.length).unwrap();
        if let Some(newline) = chunk.text.rfind('\n') {
            self.line = self.length + newline as u64 + 1;
        }
        self.length += chunk.text.len() as u64;
    }

    /// The last line that is not whole goes to the new file.
    fn rotate(&mut self) -> (LogFile, Segment) {
        let mut begun = vec![0; usize::try_from(self.length - self.line).unwrap()];
        self.bytes.read_exact_at(&mut begun, self.line).unwrap();
        let mut new = Self::new(self.stream);
        new.bytes.write_all_at(&begun, 0).unwrap();
        new.times.write_all(&Record { offset: 0, ..self.last }.to_bytes()).unwrap();
        self.bytes.set_len(self.line).unwrap();
        new.length = begun.len() as u64;
        new.last = self.last;
        *self = new;
        (self.log_file(self.length), self.segment())
    }
}

#[test]
fn a_line_longer_than_memory_is_cut_into_pieces_that_nothing_comes_between() {
    let long = "a".repeat(1_000_000) + "\n";
    let chunk =
        |stream, text: &str, time| Chunk { stream, text: text.into(), time, process: 1, rotate: false };
    let chunks = [
        chunk(Stream::Stdout, &long, 10),
        chunk(Stream::Stderr, "x\n", 11),
        chunk(Stream::Stdout, "b\n", 12),
    ];
    assert_eq!(read(&chunks, &Wanted::default()), format!("{long}x\nb\n"));
    let tail = Wanted { tail: Some(2), ..Wanted::default() };
    assert_eq!(read(&chunks, &tail), "x\nb\n");
    let stamped = read(&chunks, &Wanted { timestamps: true, ..Wanted::default() });
    assert_eq!(stamped.matches("1970-01-01T00:00:00.01").count(), 3);
}

#[test]
fn a_line_that_is_not_whole_is_held_back_until_it_is_or_the_task_has_ended() {
    let mut lane = Growing::new(Stream::Stdout);
    let files = vec![(lane.log_file(0), lane.segment())];
    let mut reader = Reader::new(files, &Wanted { follow: true, ..Wanted::default() }).unwrap();
    let chunk =
        |text: &str| Chunk { stream: Stream::Stdout, text: text.into(), time: 5, process: 1, rotate: false };
    lane.write(&chunk("ab"));
    assert!(reader.has_grown().unwrap());
    assert_eq!(reader.next_piece().unwrap(), Piece::Waiting);
    assert!(!reader.has_grown().unwrap());
    lane.write(&chunk("c\nd"));
    assert_eq!(drain(&mut reader), "abc\n");
    reader.finish();
    assert_eq!(drain(&mut reader), "d");
    assert_eq!(reader.next_piece().unwrap(), Piece::End);
}

#[test]
fn a_file_that_somebody_truncated_is_read_from_its_beginning() {
    let mut lane = Growing::new(Stream::Stdout);
    let files = vec![(lane.log_file(0), lane.segment())];
    let mut reader = Reader::new(files, &Wanted { follow: true, ..Wanted::default() }).unwrap();
    let chunk =
        |text: &str| Chunk { stream: Stream::Stdout, text: text.into(), time: 5, process: 1, rotate: false };
    lane.write(&chunk("a long line\n"));
    assert_eq!(drain(&mut reader), "a long line\n");
    lane.bytes.set_len(0).unwrap();
    lane.length = 0;
    lane.write(&chunk("b\n"));
    let found = (0..100).any(|_| reader.has_grown().unwrap());
    assert!(found);
    assert_eq!(drain(&mut reader), "b\n");
}

#[test]
fn all_of_a_large_log_is_read_in_bounded_pieces() {
    let line = "a".repeat(99) + "\n";
    let big = line.repeat(100_000);
    let chunks = [Chunk { stream: Stream::Stdout, text: big.clone(), time: 5, process: 1, rotate: false }];
    let mut reader = Reader::new(files(&chunks), &Wanted::default()).unwrap();
    let mut all = 0;
    while let Piece::Bytes(bytes) = reader.next_piece().unwrap() {
        assert!(bytes.len() <= 1 << 20, "{}", bytes.len());
        all += bytes.len();
    }
    assert_eq!(all, big.len());
}
