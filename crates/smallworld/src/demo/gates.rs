//! What the demo is to show, as comparisons of two rows with a margin, and whether it did.

use super::rows::{Row, Section};
use super::student::Student;

/// A comparison of a student's mean attribute accuracy with the teacher's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gate {
    student: Row,
    teacher: Row,
    /// The student is to be better by at least this; where negative, worse by at most that.
    margin: f64,
}

/// The comparisons of a student's rows with the teacher's of as many UNet evaluations. Any advantage counts,
/// and at four of them 15 points.
fn equal_evaluations(student: Student) -> Vec<Gate> {
    let rows = Row::table(&[student]);
    let pairs = Student::STEPS.iter().filter_map(|&steps| {
        let mine = Row::Student(student, steps);
        let same = |row: &Row| matches!(row, Row::Teacher(_)) && row.evaluations() == mine.evaluations();
        let margin = if steps == 4 { 0.15 } else { 0.0 };
        Some((mine, rows.iter().copied().find(same)?, margin))
    });
    pairs
        .map(|(student, teacher, margin)| Gate {
            student,
            teacher,
            margin,
        })
        .collect()
}

/// The comparison of rows with as many steps.
fn equal_steps(student: Student, guidance: f64) -> Option<Gate> {
    let gate = |steps, margin| Gate {
        student: Row::Student(student, steps),
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
fn strive(student: Student) -> Gate {
    Gate {
        student: Row::Student(student, 4),
        teacher: Row::Teacher(50),
        margin: -0.05,
    }
}

/// A sentence for every comparison that this section can answer.
pub(super) fn sentences(section: &Section) -> Vec<String> {
    let mut sentences = Vec::new();
    for student in [Student::Whole, Student::Lora] {
        for gate in equal_evaluations(student) {
            let evaluations = gate.student.evaluations().unwrap_or_default();
            sentences.extend(gate.sentence(section, &format!("with {evaluations} UNet evaluations")));
        }
        if let Some(gate) = equal_steps(student, section.guidance) {
            sentences.extend(gate.sentence(section, "with as many steps"));
        }
        sentences.extend(strive(student).sentence(section, "to strive for"));
    }
    sentences.extend(side_by_side(section));
    sentences
}

/// How far the adapters are from the whole UNet, in every number of steps that both were shown in.
fn side_by_side(section: &Section) -> Option<String> {
    let points = |&steps: &i64| {
        let of = |student| Some(section.row(Row::Student(student, steps))?.attributes());
        let points = 100.0 * (of(Student::Lora)? - of(Student::Whole)?);
        Some(format!("{points:+.1} at {steps}"))
    };
    let points: Vec<String> = Student::STEPS.iter().filter_map(points).collect();
    let (ours, theirs) = (Student::Lora.name(), Student::Whole.name());
    (!points.is_empty()).then(|| format!("{ours} against {theirs}, points by steps: {}", points.join(", ")))
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
        for student in [Student::Whole, Student::Lora] {
            let pairs: Vec<_> = equal_evaluations(student)
                .iter()
                .map(|gate| (gate.student, gate.teacher))
                .collect();
            let expected = [(2, 1), (4, 2), (8, 4)];
            assert_eq!(
                pairs,
                expected.map(|(s, t)| (Row::Student(student, s), Row::Teacher(t)))
            );
        }
    }

    fn section() -> Section {
        Section {
            guidance: 8.0,
            rows: vec![
                result(Row::Teacher(50), &[0.9]),
                result(Row::Teacher(4), &[0.7]),
                result(Row::Teacher(2), &[0.7]),
                result(Row::Teacher(1), &[0.5]),
                result(Row::Student(Student::Whole, 2), &[0.5]),
                result(Row::Student(Student::Whole, 4), &[0.81, 0.83]),
            ],
        }
    }

    #[test]
    fn a_sentence_says_by_how_much_and_whether_it_is_enough() {
        assert_eq!(
            sentences(&section()),
            [
                "with 2 UNet evaluations: student 2 0.500, teacher 1 0.500: +0.0 points, wanted more than 0: missed",
                "with 4 UNet evaluations: student 4 0.820, teacher 2 0.700: +12.0 points, wanted at least +15: missed",
                "with as many steps: student 4 0.820, teacher 4 0.700: +12.0 points, wanted at least +10: reached",
                "to strive for: student 4 0.820, teacher 50 0.900: -8.0 points, wanted at least -5: missed",
            ]
        );
    }

    #[test]
    fn adapters_meet_the_teacher_as_the_whole_unet_does_and_then_the_whole_unet() {
        let mut section = section();
        let before = sentences(&section);
        section.rows.extend([
            result(Row::Student(Student::Lora, 2), &[0.53]),
            result(Row::Student(Student::Lora, 4), &[0.86]),
            result(Row::Student(Student::Lora, 8), &[0.87]),
        ]);
        let sentences = sentences(&section);
        assert_eq!(sentences[..4], before);
        assert_eq!(
            sentences[4..],
            [
                "with 2 UNet evaluations: LoRA 2 0.530, teacher 1 0.500: +3.0 points, wanted more than 0: reached",
                "with 4 UNet evaluations: LoRA 4 0.860, teacher 2 0.700: +16.0 points, wanted at least +15: reached",
                "with 8 UNet evaluations: LoRA 8 0.870, teacher 4 0.700: +17.0 points, wanted more than 0: reached",
                "with as many steps: LoRA 4 0.860, teacher 4 0.700: +16.0 points, wanted at least +10: reached",
                "to strive for: LoRA 4 0.860, teacher 50 0.900: -4.0 points, wanted at least -5: reached",
                "LoRA against student, points by steps: +3.0 at 2, +4.0 at 4",
            ]
        );
    }
}
