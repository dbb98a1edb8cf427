//! Results as tables that read well on a terminal and are Markdown besides.

use super::cost::Cost;
use super::rows::{Measured, Row, RowResult, Section};
use super::student::Student;
use crate::judge::Score;

/// The students are compared at so many steps.
const STEPS: i64 = 4;

/// The table of a section.
pub(super) fn table(section: &Section) -> String {
    let mut lines = vec![header()];
    lines.extend(section.rows.iter().map(cells));
    layout(&lines)
}

/// The table of what the students are and what they took, and how well they do in four steps.
pub(super) fn costs(costs: &[Cost], sections: &[Section]) -> String {
    let first = ["students", "trained", "file", "steps", "training", "memory"];
    let mut header: Vec<String> = first.iter().map(|&name| name.to_owned()).collect();
    header.push(format!("s/picture, {STEPS} steps"));
    header.extend(
        sections
            .iter()
            .map(|section| format!("at guidance {}", section.guidance)),
    );
    let mut lines = vec![header];
    lines.extend(costs.iter().map(|cost| cost_cells(cost, sections)));
    layout(&lines)
}

fn cost_cells(cost: &Cost, sections: &[Section]) -> Vec<String> {
    let nothing = || "-".to_owned();
    let row = Row::Student(cost.student, STEPS);
    let seconds = sections.first().and_then(|section| section.row(row)?.seconds);
    let mut cells = vec![
        match cost.student {
            Student::Whole => "student (whole UNet)".to_owned(),
            Student::Lora => "LoRA (adapters)".to_owned(),
        },
        format!("{:.3} M", cost.trained as f64 / 1e6),
        format!("{:.2} MB", cost.bytes as f64 / 1e6),
        cost.steps.to_string(),
        format!("{:.0} s", cost.seconds),
        cost.memory_gb
            .map_or_else(nothing, |memory| format!("{memory:.2} GB")),
        seconds.map_or_else(nothing, |seconds| format!("{seconds:.4}")),
    ];
    let attributes = |section: &Section| {
        section
            .row(row)
            .map_or_else(nothing, |r| format!("{:.3}", r.attributes()))
    };
    cells.extend(sections.iter().map(attributes));
    cells
}

/// Lines of cells as a table; the first is its head.
fn layout(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
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
    use crate::demo::rows::made_up::result;

    /// Every line as wide as the first, and with as many bars; returns the lines.
    fn lines_of(text: &str, columns: usize) -> Vec<&str> {
        let lines: Vec<&str> = text.lines().collect();
        let bars = |line: &str| line.char_indices().filter(|(_, c)| *c == '|').count();
        for line in &lines {
            let width = lines[0].chars().count();
            assert_eq!((line.chars().count(), bars(line)), (width, columns + 1), "{text}");
        }
        lines
    }

    #[test]
    fn columns_line_up_and_real_pictures_have_no_time() {
        let text = table(&Section {
            guidance: 8.0,
            rows: vec![result(Row::Real, &[1.0]), result(Row::Teacher(50), &[0.90, 0.92])],
        });
        let lines = lines_of(&text, 12);
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains("|        1.000 |"), "{text}");
        assert!(lines[2].contains("|         - |          - |"), "{text}");
        assert!(lines[3].contains("| 0.910 ±0.010 |"), "{text}");
        assert!(lines[3].contains("|    1.0000 |        100 |"), "{text}");
    }

    #[test]
    fn a_student_has_its_size_its_cost_and_how_well_it_does() {
        let [whole, lora] = [Student::Whole, Student::Lora];
        let cost = |student, trained, memory_gb| Cost {
            student,
            weights: "weights".into(),
            trained,
            bytes: 4 * trained,
            steps: 300,
            seconds: 71.6,
            memory_gb,
        };
        let section = |guidance, mean| Section {
            guidance,
            rows: vec![
                result(Row::Student(whole, 4), &[mean]),
                result(Row::Student(lora, 4), &[0.875]),
            ],
        };
        let text = costs(
            &[cost(whole, 4_240_000, Some(0.408)), cost(lora, 210_400, None)],
            &[section(8.0, 0.9), section(4.0, 0.8)],
        );
        let lines = lines_of(&text, 9);
        let ends = [
            "| at guidance 8 | at guidance 4 |",
            "",
            "| 4.240 M | 16.96 MB |   300 |     72 s | 0.41 GB |             0.0400 |         0.900 |         0.800 |",
            "| 0.210 M |  0.84 MB |   300 |     72 s |       - |             0.0400 |         0.875 |         0.875 |",
        ];
        assert_eq!(lines.len(), ends.len());
        for (line, end) in lines.iter().zip(ends) {
            assert!(line.ends_with(end), "{text}");
        }
    }
}
