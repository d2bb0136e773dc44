//! What a host may watch of a run: phases and kernels as spans of time, and intermediate values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use etwgpu_engine::{Gpu, Prepared, Trace};
use etwgpu_graph::{DType, Graph, ValueId};
use etwgpu_kernels::storage::{Kind, Storage};
use etwgpu_kernels::{Live, Lowered};
use etwgpu_record::{Dispatch, Recording};

use crate::convert::scalar_type;
use crate::host::HostCall;
use crate::status::Error;

/// What a host wants to be told of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Phases of the host; kernels too, where the delegate was loaded with `timestamp_query` and no values are watched.
    pub spans: bool,
    /// The tensors that operators compute.
    pub values: bool,
}

/// A span of time, in nanoseconds since the run began.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSpan {
    /// Unique within a run. Every number in it is the id of an operator of the program.
    pub name: String,
    /// Begin.
    pub start: u64,
    /// End.
    pub end: u64,
    /// A JSON object, or nothing.
    pub metadata: String,
}

/// A tensor that an operator computed.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeValue {
    /// Id of the operator in the program.
    pub node: u32,
    /// ExecuTorch `ScalarType`.
    pub scalar_type: i8,
    /// Sizes, outermost first.
    pub sizes: Vec<i32>,
    /// Elements.
    pub bytes: Vec<u8>,
}

/// Phases and kernels of a run.
pub(crate) fn spans(trace: &Trace, recording: &Recording) -> Vec<NamedSpan> {
    let phases = trace.phases.iter().map(|p| NamedSpan {
        name: p.phase.name().to_owned(),
        start: p.start.as_nanos() as u64,
        end: p.end.as_nanos() as u64,
        metadata: String::new(),
    });
    let mut names = HashSet::new();
    let kernels = trace.spans.iter().filter_map(|span| {
        let dispatch = recording.dispatches.get(span.dispatch)?;
        let metadata = metadata(dispatch, span.duration());
        let (start, end) = (span.start.max(0.0) as u64, span.end.max(0.0) as u64);
        Some(NamedSpan { name: unique_name(dispatch, &mut names), start, end, metadata })
    });
    phases.chain(kernels).collect()
}

/// Kernel and operators, such as `q₄_gemv @12` or `swiglu @12+13+15`; primes tell launches of one operator apart.
///
/// ExecuTorch's Inspector finds the operator of a name by looking for ids anywhere in it, and takes spans of the same
/// name for one. So digits of kernel names are written as subscripts.
fn unique_name(dispatch: &Dispatch, taken: &mut HashSet<String>) -> String {
    let subscript = |c: char| match c.to_digit(10) {
        Some(digit) => char::from_u32('₀' as u32 + digit).unwrap_or(c),
        None => c,
    };
    let mut name: String = dispatch.shader.label.chars().map(subscript).collect();
    let ids: Vec<String> = dispatch.sources.iter().map(u32::to_string).collect();
    let _ = write!(name, " @{}", ids.join("+"));
    while !taken.insert(name.clone()) {
        name.push('\'');
    }
    name
}

/// What is known of a launch, as JSON.
fn metadata(dispatch: &Dispatch, nanoseconds: f64) -> String {
    let Dispatch { shader, route, grid, sources, bytes, ops, .. } = dispatch;
    let route = route.map_or("null".to_owned(), |route| format!("{route:?}"));
    let rate = |count: u64| if nanoseconds > 0.0 { count as f64 / nanoseconds } else { 0.0 };
    format!(
        "{{\"kernel\": {:?}, \"route\": {route}, \"grid\": {grid:?}, \"node_ids\": {sources:?}, \"bytes\": {bytes}, \
         \"ops\": {ops}, \"gb_per_s\": {:.3}, \"tflop_per_s\": {:.6}}}",
        shader.label,
        rate(*bytes),
        rate(*ops) / 1e3
    )
}

/// One line about a timed run: device time, and the kernels that took most of it.
pub(crate) fn summary(trace: &Trace, recording: &Recording) -> String {
    let mut times: BTreeMap<&str, f64> = BTreeMap::new();
    for span in &trace.spans {
        if let Some(dispatch) = recording.dispatches.get(span.dispatch) {
            *times.entry(dispatch.shader.label).or_default() += span.duration();
        }
    }
    let total: f64 = times.values().sum();
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_by(|a, b| b.1.total_cmp(&a.1));
    let share = |(label, time): &(&str, f64)| format!("{label} {:.0} %", 100.0 * time / total.max(1.0));
    let largest: Vec<String> = times.iter().take(4).map(share).collect();
    format!("{:.1} us on the GPU in {} launches: {}", total / 1e3, trace.spans.len(), largest.join(", "))
}

/// What of a delegate an intermediate value is found by.
pub(crate) struct Values<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) storage: &'a Storage,
    pub(crate) live: &'a Live,
    pub(crate) lowered: &'a Lowered,
}

impl Values<'_> {
    /// Hands every stored intermediate value of the last run to the host, in the order of the operators.
    ///
    /// What a fused kernel keeps to itself is not stored, and caches are not values of a run.
    pub(crate) fn hand_over(
        &self,
        gpu: &Gpu,
        prepared: &Prepared,
        host: &mut dyn HostCall,
    ) -> Result<(), Error> {
        let mut read: HashMap<ValueId, Vec<u8>> = HashMap::new();
        for node in &self.graph.nodes {
            let Some(&id) = node.handles.first() else { continue };
            for &out in &node.outs {
                let root = self.storage.root(out);
                let (Some(tensor), Some(&buffer)) = (self.graph.tensor(out), self.lowered.values.get(&root))
                else {
                    continue;
                };
                let dims = &self.live.dims[out.index()];
                let bytes = dims.iter().map(|&d| u64::from(d)).product::<u64>() * tensor.dtype.size();
                if self.storage.kind(root) != Kind::Temp || bytes == 0 || tensor.dtype == DType::I64 {
                    continue;
                }
                let whole = match read.get(&root) {
                    Some(whole) if whole.len() as u64 >= bytes => whole,
                    _ => {
                        let whole = prepared.read(gpu, buffer, bytes)?;
                        read.entry(root).insert_entry(whole).into_mut()
                    }
                };
                host.value(&NodeValue {
                    node: id,
                    scalar_type: scalar_type(tensor.dtype),
                    sizes: dims.iter().map(|&d| d as i32).collect(),
                    bytes: whole[..bytes as usize].to_vec(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use etwgpu_record::Shader;

    use super::*;

    fn dispatch(label: &'static str, sources: &[u32]) -> Dispatch {
        Dispatch {
            shader: Shader { label, source: "".into() },
            grid: [1, 2, 1],
            sources: sources.to_vec(),
            route: Some("q4.gemv"),
            bytes: 2000,
            ops: 4000,
            ..Dispatch::default()
        }
    }

    #[test]
    fn names_are_unique_and_hold_no_numbers_but_ids() {
        let mut taken = HashSet::new();
        let mut name = |label, sources: &[u32]| unique_name(&dispatch(label, sources), &mut taken);
        assert_eq!(name("q4_gemv", &[12]), "q₄_gemv @12");
        assert_eq!(name("q4_gemv", &[12]), "q₄_gemv @12'");
        assert_eq!(name("swiglu", &[3, 14]), "swiglu @3+14");
    }

    #[test]
    fn metadata_is_json_with_rates() {
        let text = metadata(&dispatch("q4_gemv", &[3, 14]), 1000.0);
        assert_eq!(
            text,
            "{\"kernel\": \"q4_gemv\", \"route\": \"q4.gemv\", \"grid\": [1, 2, 1], \"node_ids\": [3, 14], \
             \"bytes\": 2000, \"ops\": 4000, \"gb_per_s\": 2.000, \"tflop_per_s\": 0.004000}"
        );
    }
}
