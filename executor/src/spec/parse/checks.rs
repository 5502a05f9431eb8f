//! The checks of a task: Mesos's health check and check, and those of `TaskSettings`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use mesos::common::{
    CheckInfo, CheckType, CommandInfo, HealthCheck, HttpCheckInfo, NetworkProtocol, Open, TaskInfo,
    TcpCheckInfo,
};
use rustls_pki_types::ServerName;
use task::settings::{Check, CheckTls, GrpcCheck, HttpCheck, TaskSettings};

use super::{command, seconds_or};
use crate::spec::field::{Field, suggest};
use crate::spec::{
    Address, CheckRole, CheckSpec, GrpcProbe, HttpProbe, Probe, ProbeTls, ProbeTrust, SpecError,
};

/// The health check, the check, then those of the settings, in order.
pub(super) fn checks(info: &TaskInfo, settings: &TaskSettings) -> Result<Vec<CheckSpec>, SpecError> {
    let health = info.health_check.as_ref().map(|raw| health_check(raw, &Field::new("health_check")));
    let reported = info.check.as_ref().map(|raw| reported_check(raw, &Field::new("check")));
    let list = Field::new("data.checks");
    let further =
        settings.checks.iter().enumerate().map(|(index, raw)| settings_check(raw, &list.index(index)));
    health.into_iter().chain(reported).chain(further).collect()
}

fn health_check(raw: &HealthCheck, field: &Field) -> Result<CheckSpec, SpecError> {
    let probe = match kind(raw.kind.as_ref(), field)? {
        CheckType::Command => {
            command_probe(required(raw.command.as_ref(), "command", field)?, &field.child("command"))?
        }
        CheckType::Http => mesos_http(required(raw.http.as_ref(), "http", field)?, &field.child("http"))?,
        CheckType::Tcp => mesos_tcp(required(raw.tcp.as_ref(), "tcp", field)?, &field.child("tcp"))?,
    };
    Ok(CheckSpec {
        role: CheckRole::Liveness,
        probe,
        delay: seconds_or(raw.delay_seconds, 15, &field.child("delay_seconds"))?,
        interval: seconds_or(raw.interval_seconds, 10, &field.child("interval_seconds"))?,
        timeout: timeout(raw.timeout_seconds, 20, field)?,
        grace: seconds_or(raw.grace_period_seconds, 10, &field.child("grace_period_seconds"))?,
        // 0 is 1 in Mesos: the first failure ends the task.
        failures: NonZeroU32::new(raw.consecutive_failures.unwrap_or(3)).unwrap_or(NonZeroU32::MIN),
        successes: NonZeroU32::MIN,
    })
}

fn reported_check(raw: &CheckInfo, field: &Field) -> Result<CheckSpec, SpecError> {
    let kind = kind(raw.kind.as_ref(), field)?;
    let ipv4_only = |protocol: Option<&Open<NetworkProtocol>>, field: &Field| match protocol {
        None | Some(Open::Known(NetworkProtocol::Ipv4)) => Ok(()),
        Some(other) => Err(field.child("protocol").error(other.name(), "must be IPv4 in a check")),
    };
    let probe = match kind {
        CheckType::Command => {
            let nested = required(raw.command.as_ref(), "command", field)?;
            command_probe(&nested.command, &field.child("command").child("command"))?
        }
        CheckType::Http => {
            let (http, field) = (required(raw.http.as_ref(), "http", field)?, field.child("http"));
            if let Some(scheme) = http.scheme.as_ref().filter(|scheme| *scheme != "http") {
                return Err(field.child("scheme").error(scheme, "must be http in a check"));
            }
            ipv4_only(http.protocol.as_ref(), &field)?;
            mesos_http(http, &field)?
        }
        CheckType::Tcp => {
            let (tcp, field) = (required(raw.tcp.as_ref(), "tcp", field)?, field.child("tcp"));
            ipv4_only(tcp.protocol.as_ref(), &field)?;
            mesos_tcp(tcp, &field)?
        }
    };
    Ok(CheckSpec {
        role: CheckRole::Reported(kind),
        probe,
        delay: seconds_or(raw.delay_seconds, 15, &field.child("delay_seconds"))?,
        interval: seconds_or(raw.interval_seconds, 10, &field.child("interval_seconds"))?,
        timeout: timeout(raw.timeout_seconds, 20, field)?,
        grace: Duration::ZERO,
        failures: NonZeroU32::MIN,
        successes: NonZeroU32::MIN,
    })
}

fn settings_check(raw: &Check, field: &Field) -> Result<CheckSpec, SpecError> {
    let role = match raw.role.as_str() {
        "startup" => CheckRole::Startup,
        "readiness" => CheckRole::Readiness,
        "liveness" => CheckRole::Liveness,
        other => {
            let nearest = suggest(other, &["startup", "readiness", "liveness"]);
            let allowed = format!("must be startup, readiness or liveness; {nearest}");
            return Err(field.child("role").error(other, allowed));
        }
    };
    let grace_field = field.child("grace_period_seconds");
    let grace = seconds_or(raw.grace_period_seconds, 0, &grace_field)?;
    if role == CheckRole::Readiness && !grace.is_zero() {
        let allowed = "must be 0 unless the role is liveness or startup";
        return Err(grace_field.error(grace.as_secs_f64(), allowed));
    }
    let count = |value: Option<u32>, default: u32, name: &str| {
        let value = value.unwrap_or(default);
        NonZeroU32::new(value).ok_or_else(|| field.child(name).error(value, "must be at least 1"))
    };
    let successes = count(raw.successes, 1, "successes")?;
    if role != CheckRole::Readiness && successes.get() > 1 {
        return Err(field.child("successes").error(successes, "must be 1 unless the role is readiness"));
    }
    Ok(CheckSpec {
        role,
        probe: settings_probe(raw, field)?,
        delay: seconds_or(raw.delay_seconds, 0, &field.child("delay_seconds"))?,
        interval: seconds_or(raw.interval_seconds, 10, &field.child("interval_seconds"))?,
        timeout: timeout(raw.timeout_seconds, 1, field)?,
        grace,
        failures: count(raw.failures, 3, "failures")?,
        successes,
    })
}

fn settings_probe(raw: &Check, field: &Field) -> Result<Probe, SpecError> {
    match (&raw.http, &raw.tcp, &raw.grpc, &raw.command) {
        (Some(http), None, None, None) => settings_http(http, &field.child("http")),
        (None, Some(tcp), None, None) => {
            Ok(Probe::Tcp(address(tcp.host.as_deref(), tcp.port, &field.child("tcp"))?))
        }
        (None, None, Some(grpc), None) => settings_grpc(grpc, &field.child("grpc")),
        (None, None, None, Some(command)) => command_probe(command, &field.child("command")),
        (http, tcp, grpc, command) => {
            let there = [
                ("http", http.is_some()),
                ("tcp", tcp.is_some()),
                ("grpc", grpc.is_some()),
                ("command", command.is_some()),
            ];
            let there: Vec<_> = there.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
            let allowed = "must have exactly one of http, tcp, grpc and command";
            Err(if there.is_empty() {
                field.missing(allowed)
            } else {
                field.error(format_args!("{}", there.join(" and ")), allowed)
            })
        }
    }
}

fn settings_http(raw: &HttpCheck, field: &Field) -> Result<Probe, SpecError> {
    for (name, value) in &raw.headers {
        let field = field.child("headers").child(name);
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(field.error(name, "must have the name of an HTTP header"));
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(field.error(value, "must be visible ASCII characters"));
        }
    }
    for (index, status) in raw.statuses.iter().enumerate() {
        if !(100..=599).contains(status) {
            return Err(field.child("statuses").index(index).error(status, "must be from 100 to 599"));
        }
    }
    Ok(Probe::Http(HttpProbe {
        address: address(raw.host.as_deref(), raw.port, field)?,
        path: path(raw.path.as_deref(), &field.child("path"))?,
        headers: raw.headers.clone(),
        statuses: raw.statuses.clone(),
        tls: raw.tls.as_ref().map(|raw| tls(raw, &field.child("tls"))).transpose()?,
    }))
}

fn settings_grpc(raw: &GrpcCheck, field: &Field) -> Result<Probe, SpecError> {
    Ok(Probe::Grpc(GrpcProbe {
        address: address(raw.host.as_deref(), raw.port, field)?,
        service: raw.service.clone().unwrap_or_default(),
        tls: raw.tls.as_ref().map(|raw| tls(raw, &field.child("tls"))).transpose()?,
    }))
}

fn tls(raw: &CheckTls, field: &Field) -> Result<ProbeTls, SpecError> {
    let file = |text: &String, name: &str| {
        if text.is_empty() {
            Err(field.child(name).error(text, "must be the path of a file"))
        } else {
            Ok(PathBuf::from(text))
        }
    };
    if let Some(name) = raw.server_name.as_ref().filter(|name| ServerName::try_from(name.as_str()).is_err()) {
        return Err(field.child("server_name").error(name, "must be a DNS name or an IP address"));
    }
    let trust = match (&raw.ca, raw.unverified) {
        (Some(ca), false) => ProbeTrust::Authority { file: file(ca, "ca")?, name: raw.server_name.clone() },
        (None, true) => match &raw.server_name {
            None => ProbeTrust::Anybody,
            Some(name) => {
                return Err(field.child("server_name").error(name, "must not be set with unverified"));
            }
        },
        (None, false) => return Err(field.missing("must have ca, or unverified set to true")),
        (Some(_), true) => {
            return Err(field.child("unverified").error(true, "must not be set together with ca"));
        }
    };
    let client = match (&raw.certificate, &raw.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((file(certificate, "certificate")?, file(key, "key")?)),
        (Some(_), None) => {
            return Err(field.child("key").missing("must be set together with certificate"));
        }
        (None, Some(_)) => {
            return Err(field.child("certificate").missing("must be set together with key"));
        }
    };
    Ok(ProbeTls { trust, client })
}

/// The address of a check of the settings; `field` has `host` and `port`.
fn address(host: Option<&str>, port: u16, field: &Field) -> Result<Address, SpecError> {
    let ip = match host {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => host
            .parse()
            .map_err(|_| field.child("host").error(host, "must be an IP address: names are not looked up"))?,
    };
    Ok(Address { ip, port: self::port(u32::from(port), field)? })
}

fn port(value: u32, field: &Field) -> Result<u16, SpecError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| field.child("port").error(value, "must be from 1 to 65535"))
}

fn path(text: Option<&str>, field: &Field) -> Result<String, SpecError> {
    let text = text.unwrap_or("/");
    let valid = text.starts_with('/')
        && text.bytes().all(|one| one.is_ascii_graphic() && one != b'#')
        && text.parse::<PathAndQuery>().is_ok();
    if valid {
        Ok(text.to_owned())
    } else {
        Err(field
            .error(text, "must begin with a slash and be a valid path of a URL, with or without a query"))
    }
}

/// User and URIs of a check's command are ignored, as Mesos does.
fn command_probe(raw: &CommandInfo, field: &Field) -> Result<Probe, SpecError> {
    let environment = command::environment(raw.environment.as_ref(), field)?;
    let probe = command::command(raw, field)?;
    command::fits(&probe, &environment, raw, field)?;
    Ok(Probe::Command { command: probe, environment })
}

fn mesos_http(raw: &HttpCheckInfo, field: &Field) -> Result<Probe, SpecError> {
    let tls = match raw.scheme.as_deref() {
        None | Some("http") => None,
        Some("https") => Some(ProbeTls { trust: ProbeTrust::Anybody, client: None }),
        Some(other) => return Err(field.child("scheme").error(other, "must be http or https")),
    };
    Ok(Probe::Http(HttpProbe {
        address: Address { ip: loopback(raw.protocol.as_ref(), field)?, port: port(raw.port, field)? },
        path: path(raw.path.as_deref(), &field.child("path"))?,
        headers: BTreeMap::new(),
        // Mesos ignores the statuses that it is given.
        statuses: Vec::new(),
        tls,
    }))
}

fn mesos_tcp(raw: &TcpCheckInfo, field: &Field) -> Result<Probe, SpecError> {
    Ok(Probe::Tcp(Address { ip: loopback(raw.protocol.as_ref(), field)?, port: port(raw.port, field)? }))
}

fn loopback(protocol: Option<&Open<NetworkProtocol>>, field: &Field) -> Result<IpAddr, SpecError> {
    match protocol {
        None | Some(Open::Known(NetworkProtocol::Ipv4)) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(Open::Known(NetworkProtocol::Ipv6)) => Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Some(Open::Unknown(name)) => Err(field.child("protocol").error(name, "must be IPv4 or IPv6")),
    }
}

fn kind(raw: Option<&Open<CheckType>>, field: &Field) -> Result<CheckType, SpecError> {
    let (field, allowed) = (field.child("type"), "must be COMMAND, HTTP or TCP");
    match raw {
        None => Err(field.missing(allowed)),
        Some(Open::Known(kind)) => Ok(*kind),
        Some(Open::Unknown(name)) => Err(field.error(name, allowed)),
    }
}

fn required<'a, T>(value: Option<&'a T>, name: &str, field: &Field) -> Result<&'a T, SpecError> {
    value.ok_or_else(|| field.child(name).missing("must be there for a check of this type"))
}

/// 0 is no limit.
fn timeout(value: Option<f64>, default: u64, field: &Field) -> Result<Option<Duration>, SpecError> {
    let timeout = seconds_or(value, default, &field.child("timeout_seconds"))?;
    Ok((!timeout.is_zero()).then_some(timeout))
}
