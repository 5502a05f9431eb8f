use std::num::NonZeroU32;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

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
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER).unwrap();
    file.write(b"abc\ndef\n");
    assert_eq!(contents(&path, 3), [b"abc\ndef\n"]);
    file.write(b"ghi\n");
    assert_eq!(contents(&path, 3), [b"abc\ndef\n".to_vec(), b"ghi\n".to_vec()]);
    file.write(b"0123456\n0123456\n0123456\nx");
    assert_eq!(contents(&path, 4), [b"0123456\n".to_vec(), b"0123456\n".to_vec(), b"x".to_vec()]);
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 2345, 0o644));
    assert_eq!(file.counts(), Counts { written: 37, dropped: 0 });
}

#[test]
fn a_line_that_began_in_the_old_file_moves_to_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER).unwrap();
    for byte in b"abc\ndefgh\nij" {
        file.write(&[*byte]);
    }
    assert_eq!(contents(&path, 3), [b"abc\n".to_vec(), b"defgh\nij".to_vec()]);
}

#[test]
fn a_line_longer_than_a_file_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(4, 9), OWNER).unwrap();
    file.write(b"0123456789\n");
    assert_eq!(contents(&path, 9), [b"0123".to_vec(), b"4567".to_vec(), b"89\n".to_vec()]);
}

#[test]
fn one_file_in_all_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    let mut file = RotatedFile::create(&path, limits(8, 1), OWNER).unwrap();
    file.write(b"one\ntwo\nthree\n");
    assert_eq!(contents(&path, 5), [b"three\n"]);
}

#[test]
fn an_existing_file_is_continued_and_a_truncated_one_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    RotatedFile::create(&path, limits(8, 3), OWNER).unwrap().write(b"old");
    let mut file = RotatedFile::create(&path, limits(8, 3), OWNER).unwrap();
    file.write(b"new\n");
    assert_eq!(contents(&path, 3), [b"oldnew\n"]);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    file.write(b"abcd\n");
    assert_eq!(contents(&path, 3), [b"".to_vec(), b"abcd\n".to_vec()]);
}

#[test]
fn no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("stdout"), folder.path().join("passwd"));
    std::fs::write(&target, "root").unwrap();
    symlink(&target, &path).unwrap();
    let mut file = RotatedFile::create(&path, limits(64, 3), OWNER).unwrap();
    file.write(b"new\n");
    drop(file);
    assert_eq!(std::fs::read(&target).unwrap(), b"root");
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&target, &path).unwrap();
    RotatedFile::create(&path, limits(64, 3), OWNER).unwrap().write(b"new\n");
    assert_eq!(std::fs::read(&target).unwrap(), b"root");
    assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
    assert_eq!(std::fs::metadata(&target).unwrap().uid(), 0);
}

#[test]
fn a_folder_or_pipe_in_its_place_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    RotatedFile::create(&path, limits(64, 3), OWNER).unwrap().write(b"a\n");
    let other = folder.path().join("stderr");
    std::fs::create_dir(&other).unwrap();
    RotatedFile::create(&other, limits(64, 3), OWNER).unwrap().write(b"b\n");
    assert_eq!(
        (std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap()),
        (b"a\n".to_vec(), b"b\n".to_vec())
    );
    let error = RotatedFile::create(&folder.path().join("absent/stdout"), limits(64, 3), OWNER).unwrap_err();
    assert!(error.to_string().contains("absent/stdout"), "{error}");
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_marked_when_there_is_room() {
    let Some(disk) = Tiny::mount(64 << 10) else { return };
    let folder = disk.0.path();
    let path = folder.join("stdout");
    let ballast = folder.join("ballast");
    let mut file = RotatedFile::create(&path, limits(1 << 20, 3), OWNER).unwrap();
    std::fs::write(&ballast, vec![0; 56 << 10]).unwrap();
    let line = [b"0123456789abcde".as_slice(), b"\n"].concat();
    for _ in 0..1024 {
        file.write(&line);
    }
    let full = file.counts();
    assert!(full.dropped > 0 && full.written > 0, "{full:?}");
    assert_eq!(full.written + full.dropped, 16 * 1024);
    std::fs::remove_file(&ballast).unwrap();
    file.write(b"again\n");
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
    let mut file = RotatedFile::create(&path, limits(16 << 10, 3), OWNER).unwrap();
    for number in 0..20_000 {
        file.write(format!("line {number}\n").as_bytes());
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
        let mut file = RotatedFile::create(&path, limits(bytes, files), OWNER).unwrap();
        let all: Vec<u8> = lines.iter().enumerate().flat_map(|(number, length)| {
            let letter = b'a' + u8::try_from(number % 26).unwrap();
            std::iter::repeat_n(letter, *length).chain([b'\n'])
        }).collect();
        let mut rest = all.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            file.write(now);
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
