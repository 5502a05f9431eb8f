use std::num::NonZeroU32;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::super::times::{GRANULARITY, RECORD, Record};
use super::*;

const OWNER: Owner = Owner { uid: 1234, gid: 2345 };

fn limits(bytes: u64, files: u32) -> LogLimits {
    LogLimits { bytes, files: NonZeroU32::new(files).unwrap() }
}

fn contents(path: &Path, files: u32) -> Vec<Vec<u8>> {
    let numbered = |number| {
        if number == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{number}", path.display())) }
    };
    (0..files).rev().filter_map(|number| std::fs::read(numbered(number)).ok()).collect()
}

/// A file system of `bytes`, gone with this value.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some(options.as_str())) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                eprintln!("skipped: mount a tmpfs: {error}");
                None
            }
        }
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_file_is_filled_to_the_byte_and_then_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER, 1).unwrap();
    file.write(b"abc\ndef\n", 0);
    assert_eq!(contents(&path, 3), [b"abc\ndef\n"]);
    file.write(b"ghi\n", 0);
    assert_eq!(contents(&path, 3), [b"abc\ndef\n".to_vec(), b"ghi\n".to_vec()]);
    file.write(b"0123456\n0123456\n0123456\nx", 0);
    assert_eq!(contents(&path, 4), [b"0123456\n".to_vec(), b"0123456\n".to_vec(), b"x".to_vec()]);
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 2345, 0o644));
    assert_eq!(file.counts(), Counts { written: 37, dropped: 0 });
}

#[test]
fn a_line_that_began_in_the_old_file_moves_to_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER, 1).unwrap();
    for byte in b"abc\ndefgh\nij" {
        file.write(&[*byte], 0);
    }
    assert_eq!(contents(&path, 3), [b"abc\n".to_vec(), b"defgh\nij".to_vec()]);
}

#[test]
fn a_line_longer_than_a_file_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(4, 9), OWNER, 1).unwrap();
    file.write(b"0123456789\n", 0);
    assert_eq!(contents(&path, 9), [b"0123".to_vec(), b"4567".to_vec(), b"89\n".to_vec()]);
}

#[test]
fn one_file_in_all_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 1), OWNER, 1).unwrap();
    file.write(b"one\ntwo\nthree\n", 0);
    assert_eq!(contents(&path, 5), [b"three\n"]);
}

#[test]
fn an_existing_file_is_continued_and_a_truncated_one_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    RotatedFile::create(&path, limits(8, 3), OWNER, 1).unwrap().write(b"old", 0);
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER, 1).unwrap();
    file.write(b"new\n", 0);
    assert_eq!(contents(&path, 3), [b"oldnew\n"]);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    file.write(b"abcd\n", 0);
    assert_eq!(contents(&path, 3), [b"".to_vec(), b"abcd\n".to_vec()]);
}

#[test]
fn no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("stdout"), folder.path().join("passwd"));
    std::fs::write(&target, "root").unwrap();
    symlink(&target, &path).unwrap();
    let mut file = RotatedFile::create(&path, limits(64, 3), OWNER, 1).unwrap();
    file.write(b"new\n", 0);
    drop(file);
    assert_eq!(std::fs::read(&target).unwrap(), b"root");
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&target, &path).unwrap();
    RotatedFile::create(&path, limits(64, 3), OWNER, 1).unwrap().write(b"new\n", 0);
    assert_eq!(std::fs::read(&target).unwrap(), b"root");
    assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
    assert_eq!(std::fs::metadata(&target).unwrap().uid(), 0);
}

#[test]
fn a_folder_or_pipe_in_its_place_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    RotatedFile::create(&path, limits(64, 3), OWNER, 1).unwrap().write(b"a\n", 0);
    let other = folder.path().join("stderr");
    std::fs::create_dir(&other).unwrap();
    RotatedFile::create(&other, limits(64, 3), OWNER, 1).unwrap().write(b"b\n", 0);
    assert_eq!(
        (std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap()),
        (b"a\n".to_vec(), b"b\n".to_vec())
    );
    let error =
        RotatedFile::create(&folder.path().join("absent/stdout"), limits(64, 3), OWNER, 1).unwrap_err();
    assert!(error.to_string().contains("absent/stdout"), "{error}");
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_marked_when_there_is_room() {
    let Some(disk) = Tiny::mount(64 << 10) else { return };
    let folder = disk.0.path();
    let path = folder.join("stdout");
    let ballast = folder.join("ballast");
    let mut file = RotatedFile::create(&path, limits(1 << 20, 3), OWNER, 1).unwrap();
    std::fs::write(&ballast, vec![0; 56 << 10]).unwrap();
    let line = [b"0123456789abcde".as_slice(), b"\n"].concat();
    for _ in 0..1024 {
        file.write(&line, 0);
    }
    let full = file.counts();
    assert!(full.dropped > 0 && full.written > 0, "{full:?}");
    assert_eq!(full.written + full.dropped, 16 * 1024);
    std::fs::remove_file(&ballast).unwrap();
    file.write(b"again\n", 0);
    assert_eq!(file.counts(), Counts { written: full.written + 6, ..full });
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let end = text.split_at(usize::try_from(full.written).unwrap()).1.trim_start();
    let expected = format!("[kube-executor: {} bytes of output are missing here: ", full.dropped);
    assert!(end.starts_with(&expected) && end.ends_with("]\nagain\n"), "{end}");
    assert_eq!(text.matches("kube-executor").count(), 1);
}

#[test]
fn a_rotation_on_a_full_disk_makes_room() {
    let Some(disk) = Tiny::mount(64 << 10) else { return };
    let path = disk.0.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(16 << 10, 3), OWNER, 1).unwrap();
    for number in 0..20_000 {
        file.write(format!("line {number}\n").as_bytes(), 0);
    }
    assert_eq!(file.counts().dropped, 0);
    assert!(contents(&path, 3).concat().ends_with(b"line 19999\n"));
}

proptest! {
    #[test]
    fn the_files_in_order_are_the_end_of_what_was_written_in_whole_lines(
        lines in proptest::collection::vec(0_usize..31, 1..60),
        cuts in proptest::collection::vec(1_usize..50, 1..20),
        bytes in 32_u64..80,
        files in 1_u32..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let mut file = RotatedFile::create(&path, limits(bytes, files), OWNER, 1).unwrap();
        let all: Vec<u8> = lines.iter().enumerate().flat_map(|(number, length)| {
            let letter = b'a' + u8::try_from(number % 26).unwrap();
            std::iter::repeat_n(letter, *length).chain([b'\n'])
        }).collect();
        let mut rest = all.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            file.write(now, 0);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let kept = contents(&path, files + 2);
        prop_assert!(kept.len() <= files as usize);
        prop_assert!(kept.iter().all(|one| one.len() as u64 <= bytes && one.ends_with(b"\n")));
        let kept = kept.concat();
        prop_assert!(all.ends_with(&kept));
        prop_assert!(kept.len() == all.len() || all[all.len() - kept.len() - 1] == b'\n');
        prop_assert_eq!(file.counts(), Counts { written: all.len() as u64, dropped: 0 });
    }
}

/// The records of the times of a log file.
fn records(log: &Path) -> Vec<Record> {
    let name = format!(".{}.times", log.file_name().unwrap().to_str().unwrap());
    let Ok(bytes) = std::fs::read(log.with_file_name(name)) else { return Vec::new() };
    assert_eq!(bytes.len() % RECORD, 0);
    bytes.as_chunks::<RECORD>().0.iter().map(|bytes| Record::parse(*bytes)).collect()
}

#[test]
fn a_record_is_sixteen_little_endian_bytes() {
    let record = Record { offset: 0x0102, at: 0x0304_0506, process: 0x0708 };
    assert_eq!(record.bytes(), [2, 1, 0, 0, 0, 0, 0, 0, 6, 5, 4, 3, 0, 0, 8, 7]);
    assert_eq!(Record::parse(record.bytes()), record);
}

#[test]
fn times_are_noted_at_the_first_byte_of_a_process_and_then_every_twenty_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(1 << 20, 3), OWNER, 1).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    for (text, now) in [("a", 1000), ("bc", 1019), ("def", 1020), ("g", 1030)] {
        file.write(text.as_bytes(), now);
    }
    RotatedFile::create(&path, limits(1 << 20, 3), OWNER, 2).unwrap().write(b"h", 1031);
    let expected = [(0, 1000, 1), (3, 1020, 1), (7, 1031, 2)].map(|(offset, at, process)| Record {
        offset,
        at,
        process,
    });
    assert_eq!(records(&path), expected);
    let metadata = std::fs::metadata(folder.path().join(".stdout.times")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1234, 0o644));
}

#[test]
fn a_line_that_moves_takes_its_times_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER, 1).unwrap();
    for (now, text) in [(1000, "abc\nd"), (2000, "ef"), (3000, "gh\n")] {
        file.write(text.as_bytes(), now);
    }
    let at = |offset, at| Record { offset, at, process: 1 };
    assert_eq!(records(&folder.path().join("stdout.1")), [at(0, 1000)]);
    assert_eq!(records(&path), [at(0, 1000), at(1, 2000), at(3, 3000)]);
}

#[test]
fn times_never_outgrow_the_log_nor_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8192, 3), OWNER, 1).unwrap();
    for number in 0..1500 {
        file.write(b"x", number * 20);
    }
    for name in [".stdout.times", ".stdout.1.times", ".stdout.2.times"] {
        assert!(std::fs::metadata(folder.path().join(name)).unwrap().len() <= 8192);
    }
    assert_eq!(contents(&path, 3).concat().len(), 1500 - 2 * 512 + 1024);
}

#[test]
fn no_link_in_the_place_of_times_is_followed_and_stale_ones_are_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("stdout"), folder.path().join("passwd"));
    let times = folder.path().join(".stdout.times");
    std::fs::write(&target, "root").unwrap();
    symlink(&target, &times).unwrap();
    let mut file = RotatedFile::create(&path, limits(64, 3), OWNER, 1).unwrap();
    file.write(b"new\n", 7);
    assert_eq!(std::fs::read(&target).unwrap(), b"root");
    assert_eq!(records(&path), [Record { offset: 0, at: 7, process: 1 }]);
    std::fs::remove_file(&path).unwrap();
    let garbage = [0xff_u8; 3 * RECORD + 5];
    std::fs::write(&times, garbage).unwrap();
    std::os::unix::fs::chown(&times, Some(1234), Some(2345)).unwrap();
    RotatedFile::create(&path, limits(64, 3), OWNER, 2).unwrap().write(b"x", 9);
    assert_eq!(records(&path), [Record { offset: 0, at: 9, process: 2 }]);
    std::fs::remove_file(&times).unwrap();
    std::fs::create_dir_all(times.join("full")).unwrap();
    let mut file = RotatedFile::create(&path, limits(64, 3), OWNER, 3).unwrap();
    file.write(b"y", 9);
    assert_eq!((std::fs::read(&path).unwrap().as_slice(), file.counts().dropped), (b"xy".as_slice(), 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_times_say_of_every_byte_when_it_came_and_from_which_process(
        writes in proptest::collection::vec(
            (0_u64..60, proptest::collection::vec(prop_oneof![3 => 0_u8..26, 1 => Just(26)], 0..40), 0_u8..8),
            1..120,
        ),
        bytes in 16_u64..120,
        files in 1_u32..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let (mut now, mut process) = (1_700_000_000_000, 1);
        let mut file = RotatedFile::create(&path, limits(bytes, files), OWNER, process).unwrap();
        let mut all = Vec::new();
        for (pause, letters, restart) in &writes {
            now += pause;
            if *restart == 0 {
                process += 1;
                drop(file);
                file = RotatedFile::create(&path, limits(bytes, files), OWNER, process).unwrap();
            }
            let data: Vec<u8> = letters.iter().map(|letter| if *letter == 26 { b'\n' } else { b'a' + letter }).collect();
            file.write(&data, now);
            all.extend(data.into_iter().map(|byte| (byte, now, process)));
        }
        let mut end = all.len();
        for number in 0..files {
            let path = if number == 0 { path.clone() } else { folder.path().join(format!("stdout.{number}")) };
            let Ok(text) = std::fs::read(&path) else { break };
            let start = end - text.len();
            let records = records(&path);
            for (offset, (byte, now, process)) in all[start..end].iter().enumerate() {
                prop_assert_eq!(text[offset], *byte);
                let said = records.iter().rfind(|record| record.offset <= offset as u64);
                let said = said.ok_or_else(|| TestCaseError::fail(format!("{path:?} {offset}: no time")))?;
                prop_assert_eq!(said.process, *process);
                prop_assert!(said.at <= *now && now - said.at < GRANULARITY, "{path:?} {offset} {said:?} {now}");
            }
            end = start;
        }
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        prop_assert!(names <= 2 * files as usize);
    }
}
