//! Which server, and who we are there: flags, variables, and contexts in a file.
//!
//! ```toml
//! current = "production"
//!
//! [[context]]
//! name = "production"
//! server = "https://10.0.0.1:8443"
//! ca = "ca.pem"                        # relative to this file
//! certificate = "me.pem"
//! key = "me.key"
//! token_file = "token"
//! ```

pub(crate) mod command;

use std::io;
use std::path::{Path, PathBuf};

use hyper::Uri;
use serde::Deserialize;
use toml::Spanned;

use crate::arguments::Global;
use crate::failure::Failure;

/// The variable with a bearer token.
const TOKEN_VARIABLE: &str = "KUBEX_TOKEN";

/// A server, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where.
    pub(crate) server: Server,
    /// What its certificate must come from.
    pub(crate) trust: Trust,
    /// Our certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Where our bearer token comes from.
    pub(crate) token: Token,
}

/// What a server's certificate must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// One of the authorities in this file.
    Authorities(PathBuf),
    /// Anything: nothing is checked.
    Anything,
}

/// Where a bearer token comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A file.
    File(PathBuf),
    /// It is known.
    Known(String),
    /// There is none.
    None,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
            Self::Known(_) => out.write_str("Known(..)"),
            Self::None => out.write_str("None"),
        }
    }
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// A name or an address without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// What stands before all paths, without a slash at its end.
    pub(crate) prefix: String,
    /// Host and port as a Host header has them.
    pub(crate) authority: String,
}

impl std::fmt::Display for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "https://{}{}", self.authority, self.prefix)
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read or written.
    #[error("{verb} {}: {source}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What, and what is allowed.
        what: String,
    },
    /// There is no such context.
    #[error("no context {name:?} in {}; there {}", path.display(), present(names))]
    NoContext {
        /// Which.
        name: String,
        /// The file.
        path: PathBuf,
        /// Those that there are.
        names: Vec<String>,
    },
    /// Nothing says which server.
    #[error(
        "no server is known: give --server URL and --ca FILE, or write them into {} by \
         `kubex config set-context NAME --server URL --ca FILE` and `kubex config use-context NAME`",
        .0.display()
    )]
    NoServer(PathBuf),
    /// There is no folder for it.
    #[error(
        "there is neither HOME nor XDG_CONFIG_HOME: say by --config FILE or KUBEX_CONFIG where the contexts are"
    )]
    NoHome,
    /// A server's address cannot be one.
    #[error("server {text:?} is not an address: {what}; give https://HOST:PORT")]
    Server {
        /// The text.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Nothing says which authorities to trust.
    #[error("no CA is given to check {0} by: give --ca FILE (or `ca` of the context)")]
    NoAuthorities(Server),
    /// Half an identity.
    #[error("{0} is given without {1}: a client certificate needs both")]
    HalfIdentity(&'static str, &'static str),
}

fn present(names: &[String]) -> String {
    if names.is_empty() { "are none".to_owned() } else { format!("are {}", names.join(", ")) }
}

/// The file with contexts.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The context that is used when none is named.
    current: Option<Spanned<String>>,
    /// The contexts.
    #[serde(default)]
    context: Vec<Context>,
}

/// A server under a name. Paths are relative to the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    name: Spanned<String>,
    server: Spanned<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

/// Flags before variables before the context. With `--server` no context is used: its credentials are for its own server.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn target(global: &Global) -> Result<Target, Failure> {
    let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
    let context = match &global.server {
        Some(_) => None,
        None => {
            let path = path(global)?;
            let text = read(&path)?;
            let file = parse(&path, text.as_deref().unwrap_or_default())?;
            Some(chosen(file, global.context.as_deref(), &path)?)
        }
    };
    Ok(assemble(global, context, token)?)
}

/// Where the contexts are.
///
/// # Errors
/// [`ConfigError::NoHome`].
fn path(global: &Global) -> Result<PathBuf, ConfigError> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    Ok(folder.ok_or(ConfigError::NoHome)?.join("kubex/config.toml"))
}

/// The file's text; `None` if there is no file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::File { verb: "read", path: path.to_owned(), source }),
    }
}

/// A file that was checked: names are unique, servers are addresses, the current context exists.
///
/// # Errors
/// [`ConfigError::Wrong`], with the line and what is allowed.
fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    let wrong = |at: usize, what: String| ConfigError::Wrong {
        path: path.to_owned(),
        line: 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count(),
        what,
    };
    let file: File = toml::from_str(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    for (at, context) in file.context.iter().enumerate() {
        let name = context.name.get_ref();
        if name.is_empty() || file.context[..at].iter().any(|other| other.name.get_ref() == name) {
            let what = format!("a context's name must be its own and not empty, and {name:?} is not");
            return Err(wrong(context.name.span().start, what));
        }
        server(context.server.get_ref())
            .map_err(|error| wrong(context.server.span().start, error.to_string()))?;
    }
    if let Some(current) = &file.current
        && !file.context.iter().any(|context| context.name.get_ref() == current.get_ref())
    {
        let what = format!("there is no context {:?}; there {}", current.get_ref(), present(&names(&file)));
        return Err(wrong(current.span().start, what));
    }
    Ok(file)
}

fn names(file: &File) -> Vec<String> {
    file.context.iter().map(|context| context.name.get_ref().clone()).collect()
}

/// The context meant, its paths as they are from here.
fn chosen(file: File, name: Option<&str>, path: &Path) -> Result<Context, ConfigError> {
    let wanted = name.or(file.current.as_ref().map(|current| current.get_ref().as_str()));
    let Some(wanted) = wanted else {
        return Err(ConfigError::NoServer(path.to_owned()));
    };
    let found = file.context.iter().find(|context| context.name.get_ref() == wanted).cloned();
    let mut context = found.ok_or_else(|| ConfigError::NoContext {
        name: wanted.to_owned(),
        path: path.to_owned(),
        names: names(&file),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let paths = [&mut context.ca, &mut context.certificate, &mut context.key, &mut context.token_file];
    for relative in paths.into_iter().flatten() {
        *relative = folder.join(&*relative);
    }
    Ok(context)
}

fn assemble(global: &Global, context: Option<Context>, token: Option<String>) -> Result<Target, ConfigError> {
    let (address, [ca, certificate, key, token_file]) = match context {
        Some(Context { server, ca, certificate, key, token_file, .. }) => {
            (Some(server.into_inner()), [ca, certificate, key, token_file])
        }
        None => (global.server.clone(), [None, None, None, None]),
    };
    let server = server(address.as_deref().unwrap_or_default())?;
    let trust = match (global.insecure, global.ca.clone().or(ca)) {
        (true, _) => Trust::Anything,
        (false, Some(ca)) => Trust::Authorities(ca),
        (false, None) => return Err(ConfigError::NoAuthorities(server)),
    };
    let identity = match (global.certificate.clone().or(certificate), global.key.clone().or(key)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err(ConfigError::HalfIdentity("a certificate", "its key")),
        (None, Some(_)) => return Err(ConfigError::HalfIdentity("a key", "its certificate")),
        (None, None) => None,
    };
    let token = match (&global.token_file, token, token_file) {
        (Some(path), _, _) => Token::File(path.clone()),
        (None, Some(token), _) => Token::Known(token),
        (None, None, Some(path)) => Token::File(path),
        (None, None, None) => Token::None,
    };
    Ok(Target { server, trust, identity, token })
}

/// An address like `https://10.0.0.1:8443` or `https://[::1]:8443/prefix`; port 443 when there is none.
///
/// # Errors
/// [`ConfigError::Server`].
pub(crate) fn server(text: &str) -> Result<Server, ConfigError> {
    let wrong = |what| ConfigError::Server { text: text.to_owned(), what };
    let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some(_) => return Err(wrong("only https is spoken")),
        None => return Err(wrong("https:// is missing")),
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("there is no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("there is a user in it"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("there is no host"));
    }
    Ok(Server {
        host: host.to_owned(),
        port: authority.port_u16().unwrap_or(443),
        prefix: uri.path().trim_end_matches('/').to_owned(),
        authority: authority.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests;
