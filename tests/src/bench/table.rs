//! What was measured, as a table of aligned columns.

use std::fmt;
use std::time::Duration;

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub measure: &'static str,
    /// What is to be reached, if there is such a thing.
    pub target: &'static str,
    /// What came out.
    pub measured: String,
    /// The floor or a peer, measured in the same run.
    pub beside: String,
    /// How it was measured.
    pub how: String,
}

impl Row {
    /// A line for what could not be measured.
    pub fn failed(measure: &'static str, error: &anyhow::Error) -> Self {
        Self {
            measure,
            target: "",
            measured: "not measured".to_owned(),
            beside: String::new(),
            how: format!("{error:#}").replace('\n', " "),
        }
    }

    fn cells(&self) -> [&str; 5] {
        [self.measure, self.target, &self.measured, &self.beside, &self.how]
    }
}

/// The whole table.
#[derive(Debug, Clone, Default)]
pub struct Table(pub Vec<Row>);

const HEAD: [&str; 5] = ["measure", "to reach", "measured", "beside", "how"];

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(HEAD).chain(self.0.iter().map(Row::cells));
        let width =
            |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 5] = std::array::from_fn(width);
        let write = |out: &mut fmt::Formatter<'_>, cells: [&str; 5]| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", padded.collect::<Vec<_>>().join(" | ").trim_end())
        };
        write(out, HEAD)?;
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        writeln!(out, "{}", rule.join("-|-"))?;
        self.0.iter().try_for_each(|row| write(out, row.cells()))
    }
}

/// Lengths of time of the same thing, round after round.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// One more.
    pub fn push(&mut self, sample: Duration) {
        let at = self.0.partition_point(|other| *other <= sample);
        self.0.insert(at, sample);
    }

    /// The time that half of them do not exceed; zero without any.
    pub fn median(&self) -> Duration {
        self.quantile(1, 2)
    }

    /// The shortest; zero without any.
    pub fn min(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    /// The longest; zero without any.
    pub fn max(&self) -> Duration {
        self.quantile(1, 1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that `part` of `whole` samples do not exceed.
    fn quantile(&self, part: usize, whole: usize) -> Duration {
        let rank = (self.0.len() * part).div_ceil(whole);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// `1.23 ms (best 1.00 ms, p95 4.56 ms)`; with fewer than twenty samples, which have no p95, the maximum. The best is
/// what other work on the machine disturbs least.
impl fmt::Display for Samples {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.min();
        let (name, high) =
            if self.count() < 20 { ("max", self.max()) } else { ("p95", self.quantile(19, 20)) };
        write!(out, "{} (best {}, {name} {})", time(self.median()), time(best), time(high))
    }
}

/// A length of time for people.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// KiB in MB of 2^20 bytes, for people.
pub fn megabytes(kilobytes: u64) -> String {
    format!("{}.{:02} MB", kilobytes / 1024, kilobytes % 1024 * 100 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(milliseconds: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        milliseconds.into_iter().for_each(|one| samples.push(Duration::from_millis(one)));
        samples
    }

    #[test]
    fn quantiles_are_samples_whatever_their_order() {
        let many = samples((1..=100).rev());
        assert_eq!(many.to_string(), "50.00 ms (best 1.00 ms, p95 95.00 ms)");
        assert_eq!(samples([3, 1, 2]).to_string(), "2.00 ms (best 1.00 ms, max 3.00 ms)");
        assert_eq!(samples([]).median(), Duration::ZERO);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = Row {
            measure: "a long measure",
            target: "1",
            measured: "2".to_owned(),
            beside: String::new(),
            how: "so".to_owned(),
        };
        let text = Table(vec![row]).to_string();
        let places: Vec<_> = text.lines().map(|line| line.find('|')).collect();
        assert_eq!(places, [Some(15); 3]);
    }
}
