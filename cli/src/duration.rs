//! Durations and times on the command line, and ages in tables.

use std::time::Duration;

/// From when on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// So many seconds ago.
    Ago(u64),
    /// A time (RFC 3339).
    Time(String),
}

/// `90s`, `5m`, `1h30m`, `2d`; or a time as RFC 3339 has it.
///
/// # Errors
/// What is allowed.
pub(crate) fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(duration) = parse_duration(text) {
        return Ok(Since::Ago(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Since::Time(time.to_string())),
        Err(_) => Err("give a duration (90s, 5m, 1h30m, 2d) or a time (2026-01-31T12:00:00Z)".to_owned()),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86400),
            _ => return None,
        };
        let part = Duration::from_nanos(u64::try_from(unit.as_nanos().checked_mul(u128::from(count))?).ok()?);
        total = total.checked_add(part)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

/// How long ago, in at most two units: `42s`, `3m5s`, `5h`, `12d`.
pub(crate) fn age(seconds: u64) -> String {
    let two = |large: u64, large_unit: char, small: u64, small_unit: char| {
        if small == 0 || large >= 10 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => two(seconds / 60, 'm', seconds % 60, 's'),
        7200..172_800 => two(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => two(seconds / 86400, 'd', seconds % 86400 / 3600, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_times_are_told_apart() {
        assert_eq!(parse_since("90s"), Ok(Since::Ago(90)));
        assert_eq!(parse_since("1h30m"), Ok(Since::Ago(5400)));
        assert_eq!(parse_since("2d"), Ok(Since::Ago(172_800)));
        assert_eq!(parse_since("1500ms"), Ok(Since::Ago(2)));
        assert_eq!(
            parse_since("2026-01-31T13:00:00+01:00"),
            Ok(Since::Time("2026-01-31T12:00:00Z".to_owned()))
        );
    }

    #[test]
    fn anything_else_is_answered_with_what_is_allowed() {
        for wrong in ["", "5", "m", "5x", "-5m", "yesterday", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(parse_since(wrong).unwrap_err().contains("give a duration"), "{wrong}");
        }
    }

    #[test]
    fn ages_have_at_most_two_units() {
        let ages: Vec<String> =
            [5, 119, 185, 600, 7200, 9000, 90_000, 180_000, 864_000].into_iter().map(age).collect();
        assert_eq!(ages, ["5s", "119s", "3m5s", "10m", "2h", "2h30m", "25h", "2d2h", "10d"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}|[0-9smhd]{0,30}") {
            let _ = parse_since(&text);
        }
    }
}
