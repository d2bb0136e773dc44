//! A measurement in the format of Chrome's traces, which Perfetto opens: one run, the host above the device.

use serde_json::{Value, json};

use super::measurement::Measurement;

/// Threads of the trace.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// The last timed run as a trace; times are microseconds since it began.
///
/// wgpu has no common clock for host and device: kernels are put into the middle of the time that the host waited.
pub fn trace(measurement: &Measurement) -> Value {
    let named = |tid: u32, name: &str| json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": { "name": name } });
    let mut events = vec![
        json!({ "ph": "M", "name": "process_name", "pid": 1, "args": { "name": measurement.program } }),
        named(HOST, "host"),
        named(DEVICE, &measurement.device),
    ];
    events.extend(measurement.phases.iter().map(|phase| {
        json!({
            "ph": "X", "cat": "host", "name": phase.name, "pid": 1, "tid": HOST,
            "ts": phase.start_us, "dur": phase.end_us - phase.start_us,
        })
    }));
    events.extend(measurement.kernels.launches.iter().map(|launch| {
        json!({
            "ph": "X", "cat": "kernel", "name": launch.kernel, "pid": 1, "tid": DEVICE,
            "ts": launch.start_us, "dur": launch.last_us,
            "args": {
                "route": launch.route, "grid": launch.grid, "node_ids": launch.node_ids,
                "operators": launch.operators, "bytes": launch.bytes, "operations": launch.operations,
                "median_us": launch.us,
            },
        })
    }));
    json!({ "traceEvents": events, "displayTimeUnit": "ns" })
}
