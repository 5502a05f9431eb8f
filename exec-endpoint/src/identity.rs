//! Who asks.
//!
//! ```text
//!  client certificate (proved by TLS) -> CN, O ----\
//!                                                   same user -> Who, else Unidentified
//!  Authorization: Bearer T | token=T -> SHA-256 ----/
//!                                        \-> tokens file (hashes) -> user, groups
//! ```

mod certificate;
mod tokens;

use std::sync::Arc;

use hyper::header::HeaderValue;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

pub use self::certificate::CertificateError;
pub use self::tokens::{Tokens, TokensError, TokensFile, TokensLoadError};

/// Bytes that a token may have.
const LONGEST_TOKEN: usize = 8192;
/// Bytes that a user's or a group's name may have.
const LONGEST_NAME: usize = 256;

/// Somebody whose certificate or token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The certificate's common name, or the token's user.
    pub user: String,
    /// The certificate's organisations, or the token's groups.
    pub groups: Vec<String>,
}

/// Nobody that is known. The sentence is for the client, with a 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// Neither a certificate nor a token.
    #[error("neither a client certificate nor a token came with the request: send one of them")]
    Nobody,
    /// The header is of another kind.
    #[error("the Authorization header is neither \"Bearer TOKEN\" nor \"token=TOKEN\"")]
    Header,
    /// No such token.
    #[error("the token is not one of this endpoint's: ask its operator for another")]
    Token,
    /// The certificate names nobody.
    #[error("the client certificate {0}")]
    Certificate(#[from] CertificateError),
    /// Two at once.
    #[error("the client certificate is {certificate}'s but the token is {token}'s: send one of them")]
    Different {
        /// The certificate's user.
        certificate: String,
        /// The token's.
        token: String,
    },
}

/// Finds out who asks.
#[derive(Debug, Clone)]
pub struct Authenticator {
    tokens: Option<watch::Receiver<Arc<Tokens>>>,
}

impl Authenticator {
    /// By client certificates, and by these tokens if there are any.
    pub fn new(tokens: Option<watch::Receiver<Arc<Tokens>>>) -> Self {
        Self { tokens }
    }

    /// Who it is. The certificate must be one that TLS has proved (its chain, usage and the possession of its key); that it has not expired
    /// is checked again, since a connection may outlive it. Where a certificate and a token are the same user's, the groups are the
    /// token's.
    ///
    /// # Errors
    /// [`Unidentified`]: 401.
    pub fn identify(
        &self,
        certificate: Option<&CertificateDer<'_>>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Who, Unidentified> {
        let certificate = certificate.map(|der| certificate::subject(der, Timestamp::now())).transpose()?;
        let token = authorization.map(|header| self.token(header)).transpose()?;
        match (certificate, token) {
            (None, None) => Err(Unidentified::Nobody),
            (Some(who), None) | (None, Some(who)) => Ok(who),
            (Some(certificate), Some(token)) if certificate.user == token.user => Ok(token),
            (Some(certificate), Some(token)) => {
                Err(Unidentified::Different { certificate: certificate.user, token: token.user })
            }
        }
    }

    fn token(&self, header: &HeaderValue) -> Result<Who, Unidentified> {
        let token = header.to_str().ok().and_then(token_of).ok_or(Unidentified::Header)?;
        let tokens = self.tokens.as_ref().map(|tokens| tokens.borrow().clone());
        tokens.and_then(|tokens| tokens.find(token)).ok_or(Unidentified::Token)
    }
}

/// The token in an Authorization header: `Bearer TOKEN` (RFC 6750, the scheme in any case) or `token=TOKEN` (DC/OS).
fn token_of(header: &str) -> Option<&str> {
    let header = header.trim();
    let token = match header.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        Some(_) => return None,
        None => header.strip_prefix("token=")?,
    };
    let fits = !token.is_empty() && token.len() <= LONGEST_TOKEN;
    (fits && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

/// Whether a user or group may be called so.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name != "*" && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::certificate::tests::{Validity, certificate};
    use super::*;

    const HASH_OF_SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn authenticator() -> Authenticator {
        let tokens = Tokens::parse(&format!("sha256:{HASH_OF_SECRET} alice ops,dev\n")).unwrap();
        Authenticator::new(Some(watch::channel(Arc::new(tokens)).1))
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    fn who(user: &str, groups: &[&str]) -> Who {
        Who { user: user.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
    }

    #[test]
    fn neither_certificate_nor_token_is_nobody() {
        assert_eq!(authenticator().identify(None, None), Err(Unidentified::Nobody));
    }

    #[test]
    fn both_spellings_of_a_token_are_known() {
        for spelling in ["Bearer secret", "bearer secret", "BEARER   secret ", "token=secret"] {
            let found = authenticator().identify(None, Some(&header(spelling)));
            assert_eq!(found, Ok(who("alice", &["ops", "dev"])), "{spelling}");
        }
    }

    #[test]
    fn a_wrong_token_is_nobody_even_beside_a_good_certificate() {
        let der = certificate("alice", &[], Validity::Now);
        for wrong in ["Bearer Secret", "Bearer secre", "token=secret2", &format!("Bearer {HASH_OF_SECRET}")] {
            let found = authenticator().identify(Some(&der), Some(&header(wrong)));
            assert_eq!(found, Err(Unidentified::Token), "{wrong}");
        }
    }

    #[test]
    fn another_scheme_or_no_token_is_refused() {
        for wrong in
            ["Basic c2VjcmV0", "secret", "Bearer", "Bearer ", "token=", "Bearer a b", "token = secret", ""]
        {
            let found = authenticator().identify(None, Some(&header(wrong)));
            assert_eq!(found, Err(Unidentified::Header), "{wrong:?}");
        }
        let binary = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
        assert_eq!(authenticator().identify(None, Some(&binary)), Err(Unidentified::Header));
    }

    #[test]
    fn without_a_tokens_file_no_token_is_right() {
        let found = Authenticator::new(None).identify(None, Some(&header("Bearer secret")));
        assert_eq!(found, Err(Unidentified::Token));
    }

    #[test]
    fn a_certificate_is_its_common_name_and_organisations() {
        let der = certificate("bob", &["ops", "night shift"], Validity::Now);
        assert_eq!(authenticator().identify(Some(&der), None), Ok(who("bob", &["ops", "night shift"])));
    }

    #[test]
    fn a_certificate_that_expired_on_an_open_connection_is_refused() {
        let der = certificate("bob", &[], Validity::Past);
        let refused = authenticator().identify(Some(&der), None).unwrap_err();
        assert_eq!(refused, Unidentified::Certificate(CertificateError::Expired));
    }

    #[test]
    fn a_certificate_and_a_token_must_be_one_users() {
        let token = header("Bearer secret");
        let alice = certificate("alice", &["admins"], Validity::Now);
        assert_eq!(authenticator().identify(Some(&alice), Some(&token)), Ok(who("alice", &["ops", "dev"])));
        let bob = certificate("bob", &[], Validity::Now);
        let refused = authenticator().identify(Some(&bob), Some(&token)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the client certificate is bob's but the token is alice's: send one of them"
        );
    }

    #[test]
    fn a_refusal_never_holds_the_token() {
        let found = authenticator().identify(None, Some(&header("Bearer hunter2")));
        assert!(!format!("{found:?}").contains("hunter2"));
        let found = authenticator().identify(None, Some(&header("Weird hunter2")));
        assert!(!format!("{found:?} {}", found.as_ref().unwrap_err()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_header_is_a_token_or_none(text in any::<String>()) {
            if let Some(token) = token_of(&text) {
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(text.contains(token));
            }
        }
    }
}
