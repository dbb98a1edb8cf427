//! Where the time and the memory of recorded steps went: a step's phases, its operators, and an accelerator's kernels.
//!
//! Arithmetic over events; it knows the name of one span, a step's. The spans directly within it are its phases.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use libtorch_ext::profiler::{Recorded, What};
use tch::Device;

/// The span that is one step.
pub(crate) const STEP: &std::ffi::CStr = c"step";

/// Operators and kernels that are listed by name; the rest is one line.
const LISTED: usize = 20;

/// Where the time and the memory of recorded steps went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfileTable {
    /// Steps that were recorded.
    pub steps: u64,
    /// Time of all of them, in nanoseconds.
    pub total_ns: i64,
    /// Their phases, in the order of their first beginning.
    pub phases: Vec<PhaseRow>,
    /// Operators by the time that they took without those that they called, most first.
    pub operators: Vec<NameRow>,
    /// An accelerator's work, most first; none on the CPU.
    pub kernels: Vec<NameRow>,
}

/// A phase of a step, all recorded steps together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseRow {
    /// Its name.
    pub name: String,
    /// Its time in nanoseconds.
    pub ns: i64,
    /// The most bytes of tensors during it, beyond those from before the recording.
    pub peak: i64,
    /// Bytes of tensors at its end, beyond those from before the recording: the most of its occurrences.
    pub left: i64,
}

/// All operators, or kernels, of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// How many there were.
    pub calls: u64,
    /// Their time in nanoseconds.
    pub ns: i64,
}

impl ProfileTable {
    /// Adds up what was recorded; memory is that of `device`.
    pub(crate) fn of(events: &[Recorded], device: Device) -> Self {
        let spans: Vec<&Recorded> = in_order(events, |event| event.what == What::Span);
        let step_name = STEP.to_string_lossy();
        let steps: Vec<&Recorded> = spans
            .iter()
            .filter(|span| span.name == step_name)
            .copied()
            .collect();
        let phases = outermost(spans.iter().filter(|span| span.name != step_name).copied());
        ProfileTable {
            steps: steps.len() as u64,
            total_ns: steps.iter().map(|step| step.end_ns - step.start_ns).sum(),
            phases: phase_rows(&phases, &Memory::of(events, device)),
            operators: by_time(own_times(events)),
            kernels: by_time(
                events
                    .iter()
                    .filter(|event| event.what == What::Kernel)
                    .map(|kernel| (kernel.name.as_str(), kernel.end_ns - kernel.start_ns)),
            ),
        }
    }
}

/// Events of a kind by their beginnings; of two that begin at once the longer one first, which holds the other.
fn in_order(events: &[Recorded], wanted: impl Fn(&Recorded) -> bool) -> Vec<&Recorded> {
    let mut chosen: Vec<&Recorded> = events.iter().filter(|event| wanted(event)).collect();
    chosen.sort_by_key(|event| (event.start_ns, std::cmp::Reverse(event.end_ns)));
    chosen
}

/// Those that lie within no other; `spans` are in order.
fn outermost<'a>(spans: impl Iterator<Item = &'a Recorded>) -> Vec<&'a Recorded> {
    let mut end = i64::MIN;
    spans
        .filter(|span| {
            let first = span.start_ns >= end;
            if first {
                end = span.end_ns;
            }
            first
        })
        .collect()
}

fn phase_rows(phases: &[&Recorded], memory: &Memory) -> Vec<PhaseRow> {
    let mut rows: Vec<PhaseRow> = Vec::new();
    for phase in phases {
        let (peak, left) = memory.during(phase.start_ns, phase.end_ns);
        let ns = phase.end_ns - phase.start_ns;
        match rows.iter_mut().find(|row| row.name == phase.name) {
            Some(row) => {
                row.ns += ns;
                row.peak = row.peak.max(peak);
                row.left = row.left.max(left);
            }
            None => rows.push(PhaseRow {
                name: phase.name.clone(),
                ns,
                peak,
                left,
            }),
        }
    }
    rows
}

/// How much memory there was, after each time that it changed.
struct Memory(Vec<(i64, i64)>);

impl Memory {
    fn of(events: &[Recorded], wanted: Device) -> Self {
        let mut changes: Vec<(i64, i64)> = events
            .iter()
            .filter_map(|event| match event.what {
                What::Memory { bytes, device } if device == wanted => Some((event.start_ns, bytes)),
                _ => None,
            })
            .collect();
        changes.sort_by_key(|(moment, _)| *moment);
        let mut there = 0;
        for (_, bytes) in &mut changes {
            there += *bytes;
            *bytes = there;
        }
        Memory(changes)
    }

    /// The most from `start` to `end`, and what there was at the end.
    fn during(&self, start: i64, end: i64) -> (i64, i64) {
        let first = self.0.partition_point(|(moment, _)| *moment < start);
        let after = self.0.partition_point(|(moment, _)| *moment <= end);
        let before = first.checked_sub(1).map_or(0, |index| self.0[index].1);
        let within = self.0[first..after].iter().map(|(_, there)| *there);
        let left = within.clone().next_back().unwrap_or(before);
        (within.fold(before, i64::max), left)
    }
}

/// Each operator's name with its time, without that of the operators within it.
fn own_times(events: &[Recorded]) -> Vec<(&str, i64)> {
    let mut own: Vec<(&str, i64)> = Vec::new();
    // Of each thread the operators that have begun and not ended: where they stand in `own`, and their ends.
    let mut open: HashMap<u64, Vec<(usize, i64)>> = HashMap::new();
    for event in in_order(events, |event| event.what == What::Operator) {
        let stack = open.entry(event.thread).or_default();
        while stack.last().is_some_and(|(_, end)| *end <= event.start_ns) {
            stack.pop();
        }
        let ns = event.end_ns - event.start_ns;
        if let Some((caller, _)) = stack.last() {
            own[*caller].1 -= ns;
        }
        stack.push((own.len(), event.end_ns));
        own.push((&event.name, ns));
    }
    own
}

fn by_time<'a>(times: impl IntoIterator<Item = (&'a str, i64)>) -> Vec<NameRow> {
    let mut sums: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for (name, ns) in times {
        let (calls, sum) = sums.entry(name).or_default();
        *calls += 1;
        *sum += ns;
    }
    let mut rows: Vec<NameRow> = sums
        .into_iter()
        .map(|(name, (calls, ns))| NameRow {
            name: name.to_owned(),
            calls,
            ns,
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.ns));
    rows
}

impl fmt::Display for ProfileTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.max(1) as f64;
        let ms = |ns: i64| ns as f64 / 1e6 / steps;
        let share = |ns: i64| 100.0 * ns as f64 / self.total_ns.max(1) as f64;
        let mb = |bytes: i64| bytes as f64 / 1e6;
        let average = match self.steps {
            1 => "one step".to_owned(),
            more => format!("a step, the mean of {more}"),
        };
        writeln!(f, "{average}: {:.1} ms while it was recorded", ms(self.total_ns))?;
        writeln!(
            f,
            "\n{:<24}{:>12}{:>8}{:>14}{:>14}",
            "phase", "ms", "%", "peak, MB", "left, MB"
        )?;
        for row in &self.phases {
            let (ms, share) = (ms(row.ns), share(row.ns));
            let (peak, left) = (mb(row.peak), mb(row.left));
            writeln!(
                f,
                "{:<24}{ms:>12.1}{share:>8.1}{peak:>14.1}{left:>14.1}",
                row.name
            )?;
        }
        let between = self.total_ns - self.phases.iter().map(|row| row.ns).sum::<i64>();
        writeln!(
            f,
            "{:<24}{:>12.1}{:>8.1}",
            "between them",
            ms(between),
            share(between)
        )?;
        writeln!(
            f,
            "(tensors' memory during a phase and at its end, beyond what there was before the recording)"
        )?;
        for (title, rows) in [
            ("operators, without those within", &self.operators),
            ("kernels", &self.kernels),
        ] {
            if rows.is_empty() {
                continue;
            }
            writeln!(f, "\n{title:<56}{:>8}{:>12}{:>8}", "calls", "ms", "%")?;
            let (listed, rest) = rows.split_at(rows.len().min(LISTED));
            let rest = (!rest.is_empty()).then(|| NameRow {
                name: format!("{} others", rest.len()),
                calls: rest.iter().map(|row| row.calls).sum(),
                ns: rest.iter().map(|row| row.ns).sum(),
            });
            for row in listed.iter().chain(&rest) {
                // Kernels' names may be as long as their templates.
                let name: String = row.name.chars().take(55).collect();
                let calls = row.calls as f64 / steps;
                writeln!(
                    f,
                    "{name:<56}{calls:>8.0}{:>12.1}{:>8.1}",
                    ms(row.ns),
                    share(row.ns)
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A made-up event, on thread 1.
    pub(crate) fn event(name: &str, what: What, start_ns: i64, end_ns: i64) -> Recorded {
        Recorded {
            name: name.to_owned(),
            what,
            sizes: String::new(),
            thread: 1,
            start_ns,
            end_ns,
        }
    }

    fn memory(moment: i64, bytes: i64, device: Device) -> Recorded {
        event("[memory]", What::Memory { bytes, device }, moment, moment)
    }

    /// Two steps of two phases, of which the second holds a span of its own.
    fn events() -> Vec<Recorded> {
        let mut events = Vec::new();
        for at in [0, 1000] {
            events.extend([
                event("step", What::Span, at, at + 1000),
                event("first", What::Span, at + 100, at + 400),
                event("second", What::Span, at + 400, at + 900),
                event("inner", What::Span, at + 500, at + 600),
                event("outer_op", What::Operator, at + 110, at + 390),
                event("inner_op", What::Operator, at + 120, at + 320),
                event("inner_op", What::Operator, at + 410, at + 510),
                event("kernel", What::Kernel, at + 300, at + 350),
                memory(at + 150, 64, Device::Cpu),
                memory(at + 160, 4000, Device::Cuda(0)),
                memory(at + 200, -32, Device::Cpu),
                memory(at + 800, -32, Device::Cpu),
            ]);
        }
        events.reverse();
        events
    }

    #[test]
    fn phases_are_the_spans_within_a_step() {
        let table = ProfileTable::of(&events(), Device::Cpu);
        assert_eq!((table.steps, table.total_ns), (2, 2000));
        let row = |name: &str, ns, peak, left| PhaseRow {
            name: name.to_owned(),
            ns,
            peak,
            left,
        };
        assert_eq!(
            table.phases,
            [row("first", 600, 64, 32), row("second", 1000, 32, 0)]
        );
        let on_card = ProfileTable::of(&events(), Device::Cuda(0));
        assert_eq!((on_card.phases[0].peak, on_card.phases[1].left), (8000, 8000));
    }

    #[test]
    fn an_operators_time_is_without_those_that_it_calls() {
        let table = ProfileTable::of(&events(), Device::Cpu);
        let row = |name: &str, calls, ns| NameRow {
            name: name.to_owned(),
            calls,
            ns,
        };
        assert_eq!(
            table.operators,
            [row("inner_op", 4, 600), row("outer_op", 2, 160)]
        );
        assert_eq!(table.kernels, [row("kernel", 2, 100)]);
    }

    #[test]
    fn an_operator_on_another_thread_is_within_none() {
        let mut events = events();
        events.push(Recorded {
            thread: 2,
            ..event("elsewhere", What::Operator, 130, 180)
        });
        let table = ProfileTable::of(&events, Device::Cpu);
        assert!(
            table
                .operators
                .iter()
                .any(|row| row.name == "outer_op" && row.ns == 160)
        );
    }

    #[test]
    fn the_text_accounts_for_the_whole_step() {
        let text = ProfileTable::of(&events(), Device::Cpu).to_string();
        assert!(text.starts_with("a step, the mean of 2: 0.0 ms"), "{text}");
        for line in ["first", "second", "between them", "inner_op", "kernels"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let between = text.lines().find(|line| line.starts_with("between")).unwrap();
        assert!(between.ends_with("20.0"), "{between}");
    }
}
