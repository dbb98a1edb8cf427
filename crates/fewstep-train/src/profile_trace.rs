//! What was recorded, as a file that Perfetto and chrome://tracing open: Google's "Trace Event Format", as an object with
//! complete events (`X`) and counters (`C`).
//!
//! It writes what happened, and adds nothing up. (LibTorch's own writer of such files asks for GPUs where there is no
//! driver and complains on standard error.)

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use fewstep_models::weights::{ModelError, write_atomic};
use libtorch_ext::profiler::{Recorded, What};
use serde_json::{Value, json};
use tch::Device;

use crate::error::TrainError;

/// The processes under which the viewers list what happened.
const HOST: u32 = 0;
const ACCELERATOR: u32 = 1;

/// Writes the trace, whole or not at all.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn write(path: &Path, events: &[Recorded]) -> Result<(), TrainError> {
    write_atomic(path, |file| {
        let mut file = std::io::BufWriter::new(file);
        lines(events)
            .try_for_each(|line| file.write_all(line.as_bytes()))
            .and_then(|()| file.flush())
            .map_err(|error| ModelError::io("write", path, error))
    })?;
    Ok(())
}

/// The file's text, an event a line.
fn lines(events: &[Recorded]) -> impl Iterator<Item = String> {
    let begin = events.iter().map(|event| event.start_ns).min().unwrap_or(0);
    let named = [(HOST, "fewstep"), (ACCELERATOR, "accelerator")]
        .map(|(pid, name)| json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}));
    let all = named
        .into_iter()
        .chain(things(events, begin))
        .chain(memory(events, begin));
    let mut first = true;
    std::iter::once("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [".to_owned())
        .chain(all.map(move |event| {
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            format!("{comma}\n{event}")
        }))
        .chain(std::iter::once("\n]}\n".to_owned()))
}

/// Spans, operators and kernels.
fn things(events: &[Recorded], begin: i64) -> impl Iterator<Item = Value> {
    events.iter().filter_map(move |event| {
        let (category, pid, tid) = match event.what {
            What::Span => ("phase", HOST, event.thread),
            What::Operator => ("operator", HOST, event.thread),
            What::Kernel => ("kernel", ACCELERATOR, 0),
            What::Memory { .. } => return None,
        };
        let mut thing = json!({
            "ph": "X",
            "name": event.name,
            "cat": category,
            "pid": pid,
            "tid": tid,
            "ts": micros(event.start_ns - begin),
            "dur": micros(event.end_ns - event.start_ns),
        });
        if !event.sizes.is_empty() {
            thing["args"] = json!({"sizes": event.sizes});
        }
        Some(thing)
    })
}

/// The memory of each device's tensors as it changes, beyond what there was before the recording.
fn memory(events: &[Recorded], begin: i64) -> impl Iterator<Item = Value> {
    let mut changes: Vec<(i64, String, i64)> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Memory { bytes, device } => Some((event.start_ns, name(device), bytes)),
            _ => None,
        })
        .collect();
    changes.sort_by_key(|(moment, ..)| *moment);
    let mut there: BTreeMap<String, i64> = BTreeMap::new();
    changes.into_iter().map(move |(moment, device, bytes)| {
        let sum = there.entry(device.clone()).or_default();
        *sum += bytes;
        json!({
            "ph": "C",
            "name": format!("memory of tensors, {device}"),
            "pid": HOST,
            "ts": micros(moment - begin),
            "args": {"MB": *sum as f64 / 1e6},
        })
    })
}

fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// The format counts in microseconds.
fn micros(ns: i64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile_table::tests::event;

    #[test]
    fn the_text_is_a_trace() {
        let memory = |bytes, at| {
            let device = Device::Cpu;
            event("[memory]", What::Memory { bytes, device }, at, at)
        };
        let mut product = event("aten::mm", What::Operator, 2_000, 3_500);
        product.sizes = "[2, 3] [3, 4]".to_owned();
        let events = [
            memory(-500, 3_000),
            event("step", What::Span, 1_000, 5_000),
            product,
            memory(2_000, 1_000),
            event("kernel", What::Kernel, 2_500, 4_000),
        ];
        let text: String = lines(&events).collect();
        let trace: Value = serde_json::from_str(&text).unwrap();
        let of = |name: &str| {
            let found = trace["traceEvents"].as_array().unwrap().iter();
            let found: Vec<&Value> = found.filter(|event| event["name"] == name).collect();
            found
        };
        let product = of("aten::mm")[0];
        assert_eq!(
            (&product["ts"], &product["dur"], &product["tid"]),
            (&json!(1.0), &json!(1.5), &json!(1))
        );
        assert_eq!(product["args"]["sizes"], "[2, 3] [3, 4]");
        assert_eq!(of("kernel")[0]["pid"], 1);
        assert!(of("step")[0].get("args").is_none());
        let there: Vec<f64> = of("memory of tensors, cpu")
            .iter()
            .map(|event| event["args"]["MB"].as_f64().unwrap())
            .collect();
        assert_eq!(there, [0.002, 0.0015]);
    }
}
