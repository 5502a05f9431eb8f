use clap::Parser as _;

use super::*;
use crate::arguments::Kubex;

const FILE: &str = r#"current = "one"

[[context]]
name = "one"
server = "https://10.0.0.1:8443"
ca = "ca.pem"
token_file = "/etc/token"

[[context]]
name = "two"
server = "https://two.example/"
ca = "/ca.pem"
certificate = "me.pem"
key = "me.key"
"#;

fn global(flags: &[&str]) -> Global {
    let line = ["kubex"].iter().chain(flags).chain(&["config", "view"]);
    Kubex::try_parse_from(line).unwrap().global
}

fn of_file(name: Option<&str>) -> Context {
    let path = Path::new("/home/me/config.toml");
    chosen(parse(path, FILE).unwrap(), name, path).unwrap()
}

fn wrong(text: &str) -> String {
    parse(Path::new("c.toml"), text).unwrap_err().to_string()
}

#[test]
fn the_current_context_is_used_and_paths_are_relative_to_the_file() {
    let target = assemble(&global(&[]), Some(of_file(None)), None).unwrap();
    assert_eq!(target.server.to_string(), "https://10.0.0.1:8443");
    assert_eq!(target.trust, Trust::Authorities("/home/me/ca.pem".into()));
    assert_eq!(target.token, Token::File("/etc/token".into()));
    assert_eq!(target.identity, None);
}

#[test]
fn flags_go_before_variables_and_these_before_the_context() {
    let known = assemble(&global(&["--ca", "x.pem"]), Some(of_file(None)), Some("secret".into())).unwrap();
    assert_eq!(
        (known.trust, known.token.clone()),
        (Trust::Authorities("x.pem".into()), Token::Known("secret".into()))
    );
    assert!(!format!("{:?}", known.token).contains("secret"));
    let flag =
        assemble(&global(&["--token-file", "t"]), Some(of_file(Some("two"))), Some("secret".into())).unwrap();
    assert_eq!(flag.token, Token::File("t".into()));
    assert_eq!(flag.identity, Some(("/home/me/me.pem".into(), "/home/me/me.key".into())));
}

#[test]
fn another_server_gets_no_credentials_of_a_context() {
    let target = assemble(&global(&["--server", "https://h:1", "--ca", "c"]), None, None).unwrap();
    assert_eq!((target.token, target.identity), (Token::None, None));
}

#[test]
fn without_an_authority_nothing_is_trusted_unless_it_is_said() {
    let error = assemble(&global(&["--server", "https://h:1"]), None, None).unwrap_err().to_string();
    assert_eq!(error, "no CA is given to check https://h:1 by: give --ca FILE (or `ca` of the context)");
    let target = assemble(&global(&["--server", "https://h:1", "--insecure"]), None, None).unwrap();
    assert_eq!(target.trust, Trust::Anything);
}

#[test]
fn half_an_identity_is_refused() {
    let error = assemble(&global(&["--key", "k"]), Some(of_file(None)), None).unwrap_err().to_string();
    assert_eq!(error, "a key is given without its certificate: a client certificate needs both");
}

#[test]
fn a_wrong_field_is_told_with_file_line_and_what_is_allowed() {
    let text = "[[context]]\nname = \"a\"\nserver = \"https://h:1\"\ncertificat = \"x\"\n";
    assert_eq!(
        wrong(text),
        "c.toml:4: unknown field `certificat`, expected one of `name`, `server`, `ca`, `certificate`, `key`, `token_file`"
    );
    assert!(wrong("context = 3").starts_with("c.toml:1: invalid type"));
    assert!(wrong("\n\nx = = 3").starts_with("c.toml:3: "));
}

#[test]
fn wrong_values_are_told_with_their_line() {
    let twice =
        "[[context]]\nname=\"a\"\nserver=\"https://h\"\n[[context]]\nname=\"a\"\nserver=\"https://h\"\n";
    assert_eq!(wrong(twice), "c.toml:5: a context's name must be its own and not empty, and \"a\" is not");
    assert_eq!(wrong("current = \"x\"\n"), "c.toml:1: there is no context \"x\"; there are none");
    assert!(
        wrong("[[context]]\nname=\"a\"\nserver=\"http://h\"\n")
            .starts_with("c.toml:3: server \"http://h\" is not an address: only https")
    );
}

#[test]
fn an_unknown_context_is_told_with_those_that_there_are() {
    let path = Path::new("c.toml");
    let error = chosen(parse(path, FILE).unwrap(), Some("three"), path).unwrap_err().to_string();
    assert_eq!(error, "no context \"three\" in c.toml; there are one, two");
    assert!(matches!(chosen(File::default(), None, path), Err(ConfigError::NoServer(_))));
}

#[test]
fn servers_are_addresses_with_https() {
    let v6 = server("https://[::1]:8443/mesos/").unwrap();
    assert_eq!(
        (v6.host.as_str(), v6.port, v6.prefix.as_str(), v6.authority.as_str()),
        ("::1", 8443, "/mesos", "[::1]:8443")
    );
    assert_eq!(server("https://h").unwrap().port, 443);
    for text in ["", "h:1", "http://h", "https://", "https://u@h", "https://h?x", "ftp://h"] {
        assert!(server(text).is_err(), "{text}");
    }
}
