//! A section of results as a table that reads well on a terminal and is Markdown besides.

use super::rows::{Measured, RowResult, Section};
use crate::judge::Score;

/// The table of a section.
pub(super) fn table(section: &Section) -> String {
    let mut lines = vec![header()];
    lines.extend(section.rows.iter().map(cells));
    let columns = lines[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            lines
                .iter()
                .map(|line| line[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        text.push_str(&row(line, &widths));
        if number == 0 {
            // Names to the left, numbers to the right.
            let rule = |(i, &width): (usize, &usize)| match i {
                0 => format!("|:{}-", "-".repeat(width)),
                _ => format!("|-{}:", "-".repeat(width)),
            };
            text.extend(widths.iter().enumerate().map(rule));
            text.push_str("|\n");
        }
    }
    text
}

fn header() -> Vec<String> {
    let first = [
        "pictures",
        "attributes",
        "all nine",
        "texture",
        "s/picture",
        "UNet evals",
    ];
    first
        .iter()
        .chain(&Score::PARTS)
        .map(|&name| name.to_owned())
        .collect()
}

fn cells(result: &RowResult) -> Vec<String> {
    let value = |of: fn(&Measured) -> f64| match result.spread(of) {
        Some(spread) => format!("{:.3} ±{spread:.3}", result.mean(of)),
        None => format!("{:.3}", result.mean(of)),
    };
    let nothing = || "-".to_owned();
    let mut cells = vec![
        result.row.label(),
        value(|m| m.score.mean),
        value(|m| m.score.all),
        value(|m| m.texture),
        result.seconds.map_or_else(nothing, |s| format!("{s:.4}")),
        result.row.evaluations().map_or_else(nothing, |n| n.to_string()),
    ];
    let part = |i: usize| format!("{:.3}", result.mean(|m| m.score.parts[i]));
    cells.extend((0..Score::PARTS.len()).map(part));
    cells
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let cell = |(i, (cell, &width)): (usize, (&String, &usize))| match i {
        0 => format!("| {cell:<width$} "),
        _ => format!("| {cell:>width$} "),
    };
    let line: String = cells.iter().zip(widths).enumerate().map(cell).collect();
    line + "|\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rows::Row;
    use crate::demo::rows::made_up::result;

    #[test]
    fn columns_line_up_and_real_pictures_have_no_time() {
        let text = table(&Section {
            guidance: 8.0,
            rows: vec![result(Row::Real, &[1.0]), result(Row::Teacher(50), &[0.90, 0.92])],
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let bars = |line: &str| line.char_indices().filter(|(_, c)| *c == '|').count();
        let width = lines[0].chars().count();
        for line in &lines {
            assert_eq!((line.chars().count(), bars(line)), (width, 13), "{text}");
        }
        assert!(lines[2].contains("|        1.000 |"), "{text}");
        assert!(lines[2].contains("|         - |          - |"), "{text}");
        assert!(lines[3].contains("| 0.910 ±0.010 |"), "{text}");
        assert!(lines[3].contains("|    1.0000 |        100 |"), "{text}");
    }
}
