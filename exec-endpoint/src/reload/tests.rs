use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::audit::AuditTo;
use crate::identity::{Tokens, TokensFile};
use crate::policy::{Policy, PolicyFile};

/// Two files whose contents must be equal, as a certificate and its key must fit.
#[derive(Debug)]
struct Twins(String);

#[derive(Debug, thiserror::Error)]
enum TwinsError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("they differ")]
    Differ,
}

impl Reloadable for Twins {
    type Files = [PathBuf; 2];
    type Error = TwinsError;
    const NAME: &'static str = "twins";

    fn paths(files: &Self::Files) -> Vec<PathBuf> {
        files.to_vec()
    }

    fn load(_: &Self::Files, contents: &[Content]) -> Result<Self, TwinsError> {
        match contents {
            [one, other] if one.bytes == other.bytes => Ok(Self(one.text()?.to_owned())),
            _ => Err(TwinsError::Differ),
        }
    }
}

struct Stage {
    folder: TempDir,
    twins: Reloading<Twins>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        files.iter().for_each(|file| std::fs::write(file, "1").unwrap());
        let twins = Reloading::load(files).unwrap();
        Self { folder, twins }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn value(&self) -> String {
        self.twins.current().0.clone()
    }
}

fn kept(polled: &Polled, reason: &str) {
    assert!(matches!(polled, Polled::Kept { error } if error.contains(reason)), "{polled:?}");
}

#[test]
fn what_changed_is_swapped_and_counted() {
    let stage = Stage::new();
    let mut values = stage.twins.subscribe();
    assert_eq!(stage.twins.poll(), Polled::Unchanged);
    stage.write("a", "2");
    stage.write("b", "2");
    assert_eq!(stage.twins.poll(), Polled::Swapped);
    assert_eq!(stage.value(), "2");
    assert!(values.has_changed().unwrap());
    assert_eq!(values.borrow_and_update().0, "2");
    assert_eq!(stage.twins.poll(), Polled::Unchanged);
    let Reloaded { name, loads, failures, last_error, .. } = stage.twins.reloaded();
    assert_eq!((name, loads, failures, last_error), ("twins", 2, 0, None));
}

#[test]
fn a_change_in_two_steps_is_taken_at_the_second() {
    let stage = Stage::new();
    stage.write("a", "2");
    kept(&stage.twins.poll(), "they differ");
    assert_eq!(stage.value(), "1");
    assert_eq!(stage.twins.reloaded().last_error.as_deref(), Some("they differ"));
    stage.write("b", "2");
    assert_eq!(stage.twins.poll(), Polled::Swapped);
    assert_eq!(stage.value(), "2");
    let Reloaded { loads, failures, last_error, .. } = stage.twins.reloaded();
    assert_eq!((loads, failures, last_error), (2, 1, None));
}

#[test]
fn one_failure_is_told_once() {
    let stage = Stage::new();
    stage.write("a", "2");
    kept(&stage.twins.poll(), "they differ");
    for _ in 0..3 {
        assert_eq!(stage.twins.poll(), Polled::Unchanged);
    }
    stage.write("a", "3");
    assert_eq!(stage.twins.poll(), Polled::Unchanged, "another content, the same failure");
    assert_eq!(stage.twins.reloaded().failures, 1);
}

#[test]
fn a_missing_file_keeps_the_old_until_it_is_back() {
    let stage = Stage::new();
    std::fs::remove_file(stage.path("b")).unwrap();
    kept(&stage.twins.poll(), "open");
    assert_eq!(stage.twins.poll(), Polled::Unchanged);
    assert_eq!(stage.value(), "1");
    stage.write("b", "1");
    assert_eq!(stage.twins.poll(), Polled::Swapped, "loaded again, so that the error is gone");
    assert_eq!(stage.twins.reloaded().last_error, None);
}

#[test]
fn going_back_to_what_is_in_use_clears_the_error() {
    let stage = Stage::new();
    stage.write("a", "2");
    kept(&stage.twins.poll(), "they differ");
    stage.write("a", "1");
    assert_eq!(stage.twins.poll(), Polled::Swapped);
    assert_eq!(stage.twins.reloaded().last_error, None);
}

#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let stage = Stage::new();
    for (folder, text) in [("first", "2"), ("second", "3")] {
        std::fs::create_dir(stage.path(folder)).unwrap();
        ["a", "b"].iter().for_each(|name| stage.write(&format!("{folder}/{name}"), text));
    }
    std::os::unix::fs::symlink("first", stage.path("now")).unwrap();
    let twins = Reloading::<Twins>::load(["now/a", "now/b"].map(|name| stage.path(name))).unwrap();
    std::os::unix::fs::symlink("second", stage.path("new")).unwrap();
    std::fs::rename(stage.path("new"), stage.path("now")).unwrap();
    assert_eq!(twins.poll(), Polled::Swapped);
    assert_eq!(twins.current().0, "3");
}

#[test]
fn a_file_written_twice_within_one_tick_of_the_clock_is_read_twice() {
    let stage = Stage::new();
    for text in ["2", "3", "4", "5"] {
        stage.write("a", text);
        stage.write("b", text);
        assert_eq!(stage.twins.poll(), Polled::Swapped);
        assert_eq!(stage.value(), text);
    }
}

#[test]
fn old_files_are_not_read_again() {
    let marks = |age: i64| {
        let second = Timestamp::now().as_second() - age;
        vec![Mark { device: 1, inode: 1, size: 1, mode: 0, owner: 0, modified: (0, 0), changed: (second, 0) }]
    };
    assert_eq!(settled(marks(10)), Some(marks(10)));
    assert_eq!(settled(marks(1)), None);
    assert_eq!(settled(marks(-100)), None);
}

#[test]
fn a_pipe_a_folder_and_a_huge_file_are_refused_at_once() {
    let stage = Stage::new();
    let (pipe, huge) = (stage.path("pipe"), stage.path("huge"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    File::create(&huge).unwrap().set_len(MOST + 1).unwrap();
    let error = |path: &Path| read_one(path).unwrap_err().to_string();
    assert!(error(&pipe).ends_with("is not a regular file"));
    assert!(error(stage.folder.path()).ends_with("is not a regular file"));
    assert!(error(&huge).ends_with("has more than 4194304 bytes"));
    assert!(error(&stage.path("none")).contains("No such file"));
}

#[test]
fn text_that_is_none_is_refused_with_its_place() {
    let content = Content { path: "/x".into(), bytes: b"ab\xff".to_vec(), mode: 0, owner: 0 };
    assert_eq!(content.text().unwrap_err().to_string(), "/x is not UTF-8 from byte 2 on");
}

#[test]
fn tokens_are_taken_once_their_mode_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::write(&path, "").unwrap();
    mode(0o600);
    let tokens = Reloading::<Tokens>::load(TokensFile(path.clone())).unwrap();
    mode(0o644);
    kept(&tokens.poll(), "chmod 0640");
    mode(0o640);
    assert_eq!(tokens.poll(), Polled::Swapped);
}

#[test]
fn a_policy_that_does_not_parse_keeps_the_old_one_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let good = "[[rule]]\nusers = [\"u\"]\nverbs = [\"list\"]\ntasks = [\"*\"]\n";
    std::fs::write(&path, good).unwrap();
    let policy = Reloading::<Policy>::load(PolicyFile(path.clone())).unwrap();
    let before = policy.current();
    std::fs::write(&path, good.replace("list", "lisst")).unwrap();
    kept(&policy.poll(), &format!("{}:3:10: there is no verb \"lisst\"", path.display()));
    assert!(Arc::ptr_eq(&before, &policy.current()));
    std::fs::write(&path, "").unwrap();
    assert_eq!(policy.poll(), Polled::Swapped, "an empty policy is one: nobody may do anything");
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_every_two_seconds_and_at_a_hang_up() {
    let stage = Stage::new();
    let Stage { folder, twins } = stage;
    let twins = Arc::new(twins);
    let audit_path = folder.path().join("audit");
    let audit = Arc::new(Audit::open(&AuditTo::File(audit_path)).unwrap());
    let mut values = twins.subscribe();
    let running = tokio::spawn(run(vec![twins.clone() as Arc<dyn Poll>], audit));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = tokio::time::Instant::now();
    ["a", "b"].iter().for_each(|name| std::fs::write(folder.path().join(name), "2").unwrap());
    values.changed().await.unwrap();
    assert!(started.elapsed() <= EVERY, "{:?}", started.elapsed());

    tokio::time::resume();
    ["a", "b"].iter().for_each(|name| std::fs::write(folder.path().join(name), "3").unwrap());
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    values.changed().await.unwrap();
    assert_eq!(values.borrow().0, "3");
    running.abort();
}
