//! Tables for people: columns aligned by what a terminal shows.

use unicode_width::UnicodeWidthStr as _;

use crate::failure::printable;

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    mood: Mood,
}

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing to say.
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Uncertain,
    /// Not as it should be.
    Bad,
}

impl Cell {
    /// A cell in color, if there are colors.
    pub(crate) fn new(text: impl AsRef<str>, mood: Mood) -> Self {
        Self { text: printable(text.as_ref()).replace('\n', " "), mood }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Mood::Plain)
    }
}

/// Whether a column's cells stand at its left or right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Colors or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colors {
    /// A terminal that has them.
    Some,
    /// Anything else.
    None,
}

impl Colors {
    /// As stdout and the environment want it.
    pub(crate) fn of_stdout() -> Self {
        if crate::output::colored() { Self::Some } else { Self::None }
    }
}

/// The table as text. Nothing stands at the end of a line that is not seen.
pub(crate) fn render(columns: &[(&str, Side)], rows: &[Vec<Cell>], colors: Colors) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, (name, _))| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.text.width())
                .fold(name.width(), usize::max)
        })
        .collect();
    let header: Vec<Cell> = columns.iter().map(|(name, _)| Cell::from(name)).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for ((cell, (_, side)), width) in row.iter().zip(columns).zip(&widths) {
            let gap = " ".repeat(width.saturating_sub(cell.text.width()));
            let shown = paint(cell, colors);
            line.push_str(&match side {
                Side::Left => format!("{shown}{gap}   "),
                Side::Right => format!("{gap}{shown}   "),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn paint(cell: &Cell, colors: Colors) -> String {
    let color = match (colors, cell.mood) {
        (Colors::None, _) | (_, Mood::Plain) => return cell.text.clone(),
        (_, Mood::Good) => 32,
        (_, Mood::Uncertain) => 33,
        (_, Mood::Bad) => 31,
    };
    format!("\x1b[{color}m{}\x1b[0m", cell.text)
}

/// Bytes as people read them: `512`, `1.5Ki`, `12Mi`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    // Tenths of the unit, so that no float is needed.
    let (mut tenths, mut unit) = (u128::from(count) * 10, None);
    for name in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, Some(name));
    }
    match unit {
        None => count.to_string(),
        Some(unit) if tenths < 100 => format!("{}.{}{unit}", tenths / 10, tenths % 10),
        Some(unit) => format!("{}{unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_shown_not_by_bytes() {
        let rows =
            vec![vec!["ä".into(), "1".into(), "x".into()], vec!["日本".into(), "22".into(), "".into()]];
        let columns = [("N", Side::Left), ("CPU", Side::Right), ("Z", Side::Left)];
        assert_eq!(render(&columns, &rows, Colors::None), "N      CPU   Z\nä        1   x\n日本    22\n");
    }

    #[test]
    fn color_does_not_move_columns() {
        let rows = vec![vec![Cell::new("up", Mood::Good), "y".into()], vec!["down".into(), "y".into()]];
        let text = render(&[("S", Side::Left), ("T", Side::Left)], &rows, Colors::Some);
        assert_eq!(text, "S      T\n\x1b[32mup\x1b[0m     y\ndown   y\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_or_break_the_line() {
        let text = render(&[("S", Side::Left)], &[vec!["a\x1b[2J\nb".into()]], Colors::Some);
        assert_eq!(text, "S\na\u{fffd}[2J b\n");
    }

    #[test]
    fn bytes_are_short() {
        let short: Vec<String> =
            [0, 1023, 1024, 1536, 10 << 20, 1 << 30, u64::MAX].into_iter().map(bytes).collect();
        assert_eq!(short, ["0", "1023", "1.0Ki", "1.5Ki", "10Mi", "1.0Gi", "15Ei"]);
    }
}
