//! The tokens file: hashes of tokens, and whose they are. A token itself is in no file of ours, and in no log.
//!
//! ```text
//!  # comment
//!  sha256:<64 hexadecimal digits> user [group,group...]
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::{Who, is_name};
use crate::reload::{Content, ReadError, Reloadable};

/// The tokens that are known, by their hashes.
#[derive(Clone, Default)]
pub struct Tokens {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    hash: [u8; 32],
    who: Who,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.entries.len())
    }
}

impl Tokens {
    /// Parses a tokens file.
    ///
    /// # Errors
    /// [`TokensError`]: the line, and what is wrong. Never what stands there: it may be a token.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut entries = Vec::new();
        let mut lines = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |sentence: String| TokensError { line, sentence };
            let Some(entry) = entry(text).map_err(|sentence| wrong(sentence.to_owned()))? else {
                continue;
            };
            if let Some(earlier) = lines.insert(entry.hash, line) {
                return Err(wrong(format!("this token is in line {earlier} already")));
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// Whose this token is. Takes the same time for each that is wrong: all entries are compared, each in constant time.
    pub fn find(&self, token: &str) -> Option<Who> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = u64::MAX;
        for (index, entry) in (0_u64..).zip(&self.entries) {
            found.conditional_assign(&index, entry.hash.ct_eq(&hash));
        }
        self.entries.get(usize::try_from(found).ok()?).map(|entry| entry.who.clone())
    }
}

/// A line of the file; `None` for one that says nothing.
fn entry(line: &str) -> Result<Option<Entry>, &'static str> {
    let mut fields = line.split_whitespace().take_while(|field| !field.starts_with('#'));
    let Some(hash) = fields.next() else { return Ok(None) };
    let hash = hash.strip_prefix("sha256:").and_then(hash_of).ok_or(
        "the first field is not sha256: and 64 hexadecimal digits; make it with: printf %s \"$TOKEN\" | sha256sum",
    )?;
    let user = fields.next().ok_or("there is no user behind the hash")?;
    let groups: Vec<_> = fields.next().map_or_else(Vec::new, |groups| groups.split(',').collect());
    if fields.next().is_some() {
        return Err("there are more than three fields; groups are joined by commas, without blanks");
    }
    if !is_name(user) || !groups.iter().all(|group| is_name(group)) {
        return Err("a user or group is empty, longer than 256 bytes, \"*\", or has control characters");
    }
    let groups = groups.into_iter().map(str::to_owned).collect();
    Ok(Some(Entry { hash, who: Who { user: user.to_owned(), groups } }))
}

fn hash_of(digits: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

/// A tokens file that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {sentence}")]
pub struct TokensError {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

/// Where the tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokensFile(pub PathBuf);

/// Why tokens were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum TokensLoadError {
    /// They cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They are none.
    #[error("{}:{source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        source: TokensError,
    },
    /// Others may read or change it.
    #[error("{} has mode {mode:04o}; at most 0640 is taken: chmod 0640 it", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else could change it.
    #[error("{} belongs to user {owner}; only root's and the endpoint's own are taken: chown it", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
}

impl Reloadable for Tokens {
    type Files = TokensFile;
    type Error = TokensLoadError;
    const NAME: &'static str = "tokens";

    fn paths(files: &TokensFile) -> Vec<PathBuf> {
        vec![files.0.clone()]
    }

    fn load(_: &TokensFile, contents: &[Content]) -> Result<Self, TokensLoadError> {
        let [content] = Content::all(contents)?;
        let path = || content.path.clone();
        if content.mode & !0o640 != 0 {
            return Err(TokensLoadError::Mode { path: path(), mode: content.mode });
        }
        if content.owner != 0 && content.owner != rustix::process::geteuid().as_raw() {
            return Err(TokensLoadError::Owner { path: path(), owner: content.owner });
        }
        Self::parse(content.text()?).map_err(|source| TokensLoadError::Parse { path: path(), source })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(token: &str) -> String {
        Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn content(bytes: &str, mode: u32, owner: u32) -> Content {
        Content { path: "/etc/tokens".into(), bytes: bytes.into(), mode, owner }
    }

    fn load(content: Content) -> Result<Tokens, String> {
        Tokens::load(&TokensFile("/etc/tokens".into()), &[content]).map_err(|error| error.to_string())
    }

    #[test]
    fn each_token_is_its_own_users() {
        let text = format!(
            "# people\n\nsha256:{} alice ops,dev # on call\n  sha256:{}\tbob\n",
            hash("a"),
            hash("b").to_uppercase()
        );
        let tokens = Tokens::parse(&text).unwrap();
        assert_eq!(
            tokens.find("a").unwrap(),
            Who { user: "alice".into(), groups: vec!["ops".into(), "dev".into()] }
        );
        assert_eq!(tokens.find("b").unwrap(), Who { user: "bob".into(), groups: vec![] });
        assert_eq!(tokens.find("c"), None);
        assert_eq!(Tokens::default().find("a"), None);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_never_shown() {
        let good = hash("a");
        for (line, sentence) in [
            ("hunter2 alice", "sha256sum"),
            ("sha256:hunter2 alice", "sha256sum"),
            (&format!("sha256:{good}0 alice"), "sha256sum"),
            (&format!("sha256:{}g alice", &good[1..]), "sha256sum"),
            (&format!("sha256:{good}"), "no user"),
            (&format!("sha256:{good} alice ops dev"), "more than three"),
            (&format!("sha256:{good} alice ops,,dev"), "empty"),
            (&format!("sha256:{good} *"), "\"*\""),
        ] {
            let error = Tokens::parse(&format!("# first\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.sentence.contains(sentence), "{line}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn one_token_for_two_is_refused() {
        let text = format!("sha256:{0} alice\nsha256:{0} bob\n", hash("a"));
        assert_eq!(Tokens::parse(&text).unwrap_err().to_string(), "2: this token is in line 1 already");
    }

    #[test]
    fn a_file_that_others_can_read_or_own_is_refused() {
        for mode in [0o400, 0o440, 0o600, 0o640] {
            assert!(load(content("", mode, 0)).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o660, 0o604, 0o641, 0o700, 0o4600] {
            assert!(load(content("", mode, 0)).unwrap_err().contains("chmod 0640"), "{mode:o}");
        }
        assert!(load(content("", 0o600, 4321)).unwrap_err().contains("belongs to user 4321"));
    }

    #[test]
    fn an_error_says_file_and_line() {
        let error = load(content("\nx y\n", 0o600, 0)).unwrap_err();
        assert!(error.starts_with("/etc/tokens:2: the first field"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_tokens_or_an_error_of_one_of_its_lines(text in any::<String>()) {
            if let Err(error) = Tokens::parse(&text) {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count());
            }
        }

        #[test]
        fn only_the_token_itself_is_found(token in "[!-~]{1,40}", other in "[!-~]{1,40}") {
            let tokens = Tokens::parse(&format!("sha256:{} alice", hash(&token))).unwrap();
            prop_assert!(tokens.find(&token).is_some());
            prop_assert_eq!(tokens.find(&other).is_some(), other == token);
        }
    }
}
