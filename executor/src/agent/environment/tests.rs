//! What is read from the environment of an agent, and what is refused.

use super::*;
use proptest::prelude::*;

fn least() -> Variables {
    [
        ("MESOS_FRAMEWORK_ID", "f-1"),
        ("MESOS_EXECUTOR_ID", "e-1"),
        ("MESOS_SLAVE_ID", "a-1"),
        ("MESOS_SLAVE_PID", "slave(1)@10.0.0.1:5051"),
        ("MESOS_AGENT_ENDPOINT", "10.0.0.1:5051"),
        ("MESOS_DIRECTORY", "/sandbox"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn with(more: &[(&str, &str)]) -> Result<AgentEnvironment, EnvironmentError> {
    let mut variables = least();
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    AgentEnvironment::parse(&variables)
}

#[test]
fn what_is_not_set_has_the_defaults_of_mesos() {
    let environment = with(&[]).unwrap();
    assert_eq!(environment.process_id, "slave(1)");
    assert_eq!(environment.endpoint, "10.0.0.1:5051".parse().unwrap());
    assert_eq!(environment.domain_socket, None);
    assert_eq!(environment.sandbox, environment.directory);
    assert_eq!(environment.checkpoint, Checkpoint::Off);
    assert_eq!(environment.recovery_timeout, Duration::from_secs(900));
    assert_eq!(environment.subscription_backoff_max, Duration::from_secs(2));
    assert_eq!(environment.shutdown_grace_period, Duration::from_secs(5));
    assert_eq!((environment.token, environment.tls), (None, None));
}

#[test]
fn every_required_variable_is_named_when_it_is_missing() {
    for name in least().into_keys() {
        let mut variables = least();
        variables.remove(&name);
        let error = AgentEnvironment::parse(&variables).unwrap_err();
        assert!(matches!(error, EnvironmentError::Missing { variable, .. } if variable == name));
    }
}

#[test]
fn a_wrong_value_is_shown_with_what_is_allowed() {
    let error = with(&[("MESOS_RECOVERY_TIMEOUT", "15 mins")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "read environment: MESOS_RECOVERY_TIMEOUT is \"15 mins\"; allowed: a decimal number and one of ns, us, ms, secs, mins, hrs, days, weeks"
    );
    for (name, value) in [
        ("MESOS_CHECKPOINT", "yes"),
        ("MESOS_SLAVE_PID", "slave(1)"),
        ("MESOS_SLAVE_PID", "a/b@10.0.0.1:5051"),
        ("MESOS_AGENT_ENDPOINT", "http://10.0.0.1:5051"),
        ("MESOS_DOMAIN_SOCKET", "agent.sock"),
        ("LIBPROCESS_SSL_ENABLED", "on"),
    ] {
        let error = with(&[(name, value)]).unwrap_err();
        assert!(matches!(&error, EnvironmentError::Invalid { variable, .. } if variable == name), "{error}");
    }
}

#[test]
fn a_token_is_shown_nowhere() {
    let environment = with(&[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "s3cret")]).unwrap();
    assert!(!format!("{environment:?}").contains("s3cret"));
    let header = environment.token.unwrap();
    assert_eq!(header.authorization().to_str().unwrap(), "Bearer s3cret");
    let error = with(&[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "s3cret\n")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn tls_is_off_unless_enabled() {
    assert_eq!(with(&[("LIBPROCESS_SSL_CA_FILE", "/ca")]).unwrap().tls, None);
    assert_eq!(with(&[("LIBPROCESS_SSL_ENABLED", "0"), ("SSL_ENABLED", "1")]).unwrap().tls, None);
}

#[test]
fn tls_by_either_prefix_but_never_by_both() {
    for prefix in ["LIBPROCESS_SSL_", "SSL_"] {
        let names =
            ["ENABLED", "CERT_FILE", "KEY_FILE", "CA_DIR", "VERIFY_CERT"].map(|end| format!("{prefix}{end}"));
        let values = ["true", "/cert", "/key", "/ca", "1"];
        let pairs: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
        let tls = with(&pairs).unwrap().tls.unwrap();
        assert_eq!(tls.identity, Some(IdentityFiles { certificate: "/cert".into(), key: "/key".into() }));
        assert_eq!((tls.ca_file, tls.ca_dir), (None, Some("/ca".into())));
        assert_eq!(tls.verify, Verify::Agent);
    }
    let mixed = with(&[("LIBPROCESS_SSL_ENABLED", "1"), ("SSL_CA_FILE", "/ca")]).unwrap();
    assert_eq!(mixed.tls.unwrap().ca_file, None);
}

#[test]
fn the_new_name_of_verification_goes_before_the_old_one() {
    let tls = with(&[
        ("LIBPROCESS_SSL_ENABLED", "1"),
        ("LIBPROCESS_SSL_VERIFY_SERVER_CERT", "0"),
        ("LIBPROCESS_SSL_VERIFY_CERT", "1"),
    ]);
    assert_eq!(tls.unwrap().tls.unwrap().verify, Verify::Nothing);
}

#[test]
fn a_certificate_needs_its_key() {
    let error = with(&[("LIBPROCESS_SSL_ENABLED", "1"), ("LIBPROCESS_SSL_CERT_FILE", "/c")]).unwrap_err();
    assert!(error.to_string().contains("LIBPROCESS_SSL_KEY_FILE is not set"), "{error}");
}

#[test]
fn durations_are_those_of_mesos() {
    for (text, expected) in [
        ("15mins", Duration::from_secs(900)),
        ("1.5hrs", Duration::from_secs(5400)),
        ("2secs", Duration::from_secs(2)),
        ("0ns", Duration::ZERO),
        ("1ns", Duration::from_nanos(1)),
        ("10us", Duration::from_micros(10)),
        ("250ms", Duration::from_millis(250)),
        ("10days", Duration::from_secs(864_000)),
        ("520weeks", Duration::from_secs(520 * 604_800)),
    ] {
        assert_eq!(parse_duration(text), Some(expected), "{text}");
    }
    for bad in [
        "",
        "5",
        "secs",
        "-1secs",
        "+1secs",
        "1 secs",
        "1s",
        "1.2.3secs",
        ".secs",
        "1secs1ms",
        "1e3secs",
        "99999999weeks",
    ] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn whole_seconds_survive(seconds in 0_u32..) {
        prop_assert_eq!(parse_duration(&format!("{seconds}secs")), Some(Duration::from_secs(u64::from(seconds))));
    }

    #[test]
    fn no_text_makes_the_duration_parser_panic(text in ".{0,20}") {
        let _ = parse_duration(&text);
    }
}
