//! What the demo is to show, as comparisons of two rows with a margin, and whether it did.

use super::rows::{Row, Section};

/// A comparison of the student's mean attribute accuracy with the teacher's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gate {
    student: Row,
    teacher: Row,
    /// The student is to be better by at least this; where negative, worse by at most that.
    margin: f64,
}

/// The comparisons of rows with as many UNet evaluations. Any advantage counts, and at four of them 15 points.
fn equal_evaluations() -> Vec<Gate> {
    let all = Row::TABLE;
    let students = all.into_iter().filter(|row| matches!(row, Row::Student(_)));
    let pairs = students.filter_map(|student| {
        let same = |row: &Row| matches!(row, Row::Teacher(_)) && row.evaluations() == student.evaluations();
        Some((student, all.into_iter().find(same)?))
    });
    pairs
        .map(|(student, teacher)| Gate {
            student,
            teacher,
            margin: if student == Row::Student(4) { 0.15 } else { 0.0 },
        })
        .collect()
}

/// The comparisons of rows with as many steps.
fn equal_steps(guidance: f64) -> Option<Gate> {
    let gate = |steps, margin| Gate {
        student: Row::Student(steps),
        teacher: Row::Teacher(steps),
        margin,
    };
    match guidance {
        8.0 => Some(gate(4, 0.10)),
        4.0 => Some(gate(2, 0.15)),
        _ => None,
    }
}

/// What is to strive for.
const STRIVE: Gate = Gate {
    student: Row::Student(4),
    teacher: Row::Teacher(50),
    margin: -0.05,
};

/// A sentence for every comparison that this section can answer.
pub(super) fn sentences(section: &Section) -> Vec<String> {
    let mut sentences = Vec::new();
    for gate in equal_evaluations() {
        let evaluations = gate.student.evaluations().unwrap_or_default();
        sentences.extend(gate.sentence(section, &format!("with {evaluations} UNet evaluations")));
    }
    if let Some(gate) = equal_steps(section.guidance) {
        sentences.extend(gate.sentence(section, "with as many steps"));
    }
    sentences.extend(STRIVE.sentence(section, "to strive for"));
    sentences
}

impl Gate {
    /// What came of it, where both rows were measured.
    fn sentence(&self, section: &Section, when: &str) -> Option<String> {
        let student = section.row(self.student)?.attributes();
        let teacher = section.row(self.teacher)?.attributes();
        let points = 100.0 * (student - teacher);
        let wanted = match 100.0 * self.margin {
            0.0 => "more than 0".to_owned(),
            margin => format!("at least {margin:+.0}"),
        };
        // At a margin of 0 a tie is no advantage.
        let reached =
            points > 0.0 && self.margin == 0.0 || points >= 100.0 * self.margin && self.margin != 0.0;
        Some(format!(
            "{when}: {} {student:.3}, {} {teacher:.3}: {points:+.1} points, wanted {wanted}: {}",
            self.student.label(),
            self.teacher.label(),
            if reached { "reached" } else { "missed" }
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rows::made_up::result;

    #[test]
    fn rows_with_as_many_evaluations_meet() {
        let pairs: Vec<_> = equal_evaluations()
            .iter()
            .map(|gate| (gate.student, gate.teacher))
            .collect();
        let expected = [(2, 1), (4, 2), (8, 4)];
        assert_eq!(pairs, expected.map(|(s, t)| (Row::Student(s), Row::Teacher(t))));
    }

    #[test]
    fn a_sentence_says_by_how_much_and_whether_it_is_enough() {
        let section = Section {
            guidance: 8.0,
            rows: vec![
                result(Row::Teacher(50), &[0.9]),
                result(Row::Teacher(4), &[0.7]),
                result(Row::Teacher(2), &[0.7]),
                result(Row::Teacher(1), &[0.5]),
                result(Row::Student(2), &[0.5]),
                result(Row::Student(4), &[0.81, 0.83]),
            ],
        };
        assert_eq!(
            sentences(&section),
            [
                "with 2 UNet evaluations: student 2 0.500, teacher 1 0.500: +0.0 points, wanted more than 0: missed",
                "with 4 UNet evaluations: student 4 0.820, teacher 2 0.700: +12.0 points, wanted at least +15: missed",
                "with as many steps: student 4 0.820, teacher 4 0.700: +12.0 points, wanted at least +10: reached",
                "to strive for: student 4 0.820, teacher 50 0.900: -8.0 points, wanted at least -5: missed",
            ]
        );
    }
}
