//! A stable, readable text form of a graph, for `etwgpu dump` and for snapshots.
//!
//! ```text
//! inputs (%0:f32[1,128])
//! outputs (%3:f32[1,64])
//! %0 f32[1,128]
//! %1 f32[64,128] constant 6d5be13f
//! %3 f32[1,64]
//! #0 aten.linear.default(%0:f32[1,128], %1:f32[64,128]@6d5be13f, none) -> (%3:f32[1,64]) handles [7]
//! ```
//!
//! Tensors and symbolic integers get a line each when something uses them; all other values are written out
//! where they are used.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use crate::ir::{ConstantId, ConstantSource, DType, Graph, Node, Tensor, Value, ValueId};

/// Characters of a constant's key that are shown; keys are hashes.
const SHORT_KEY: usize = 8;

/// The text form of `graph`.
pub fn dump(graph: &Graph) -> String {
    Text(graph).to_string()
}

struct Text<'a>(&'a Graph);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let graph = self.0;
        writeln!(f, "inputs ({})", refs(graph, &graph.inputs))?;
        writeln!(f, "outputs ({})", refs(graph, &graph.outputs))?;
        for id in used(graph) {
            match graph.values.get(id.index()) {
                Some(Value::Tensor(tensor)) => writeln!(f, "%{} {}", id.0, declared(graph, tensor))?,
                Some(Value::SymInt) => writeln!(f, "%{} sym", id.0)?,
                _ => {}
            }
        }
        for (at, Node { op, handles, args, outs }) in graph.nodes.iter().enumerate() {
            let (args, outs) = (refs(graph, args), refs(graph, outs));
            writeln!(f, "#{at} {op}({args}) -> ({outs}) handles {handles:?}")?;
        }
        Ok(())
    }
}

/// Ids that inputs, outputs and nodes name, directly or through a list, in ascending order.
fn used(graph: &Graph) -> BTreeSet<ValueId> {
    let of_nodes = graph.nodes.iter().flat_map(|node| node.args.iter().chain(&node.outs));
    let mut ids: BTreeSet<ValueId> =
        graph.inputs.iter().chain(&graph.outputs).chain(of_nodes).copied().collect();
    let members = |id: &ValueId| match graph.values.get(id.index()) {
        Some(Value::List(members)) => members.clone(),
        _ => Vec::new(),
    };
    let listed: Vec<ValueId> = ids.iter().flat_map(members).collect();
    ids.extend(listed);
    ids
}

fn refs(graph: &Graph, ids: &[ValueId]) -> String {
    join(ids.iter().map(|&id| reference(graph, id)), ", ")
}

/// A value where it is used: tensors and symbolic integers by id, everything else by content.
fn reference(graph: &Graph, id: ValueId) -> String {
    match graph.values.get(id.index()) {
        None => format!("%{}:?", id.0),
        Some(Value::None) => "none".to_owned(),
        Some(Value::Int(value)) => value.to_string(),
        Some(Value::Double(value)) => format!("{value:?}"),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::String(value)) => format!("{value:?}"),
        Some(Value::IntList(items)) => format!("[{}]", join(items.iter().map(i64::to_string), ", ")),
        Some(Value::DoubleList(items)) => format!("{items:?}"),
        Some(Value::BoolList(items)) => format!("{items:?}"),
        Some(Value::List(members)) => {
            // Lists hold no lists; a graph that breaks this still prints.
            let member = |&id: &ValueId| match graph.values.get(id.index()) {
                Some(Value::List(_)) => format!("%{}:list", id.0),
                _ => reference(graph, id),
            };
            format!("[{}]", join(members.iter().map(member), ", "))
        }
        Some(Value::SymInt) => format!("%{}:sym", id.0),
        Some(Value::Tensor(tensor)) => {
            let key = tensor.constant.map(|id| format!("@{}", short_key(graph, id))).unwrap_or_default();
            format!("%{}:{}{key}", id.0, shape(tensor))
        }
    }
}

fn declared(graph: &Graph, tensor: &Tensor) -> String {
    match tensor.constant {
        Some(id) => format!("{} constant {}", shape(tensor), short_key(graph, id)),
        None => shape(tensor),
    }
}

fn shape(tensor: &Tensor) -> String {
    format!("{}[{}]", dtype(tensor.dtype), join(tensor.dims.iter().map(u32::to_string), ","))
}

fn short_key(graph: &Graph, id: ConstantId) -> String {
    match graph.constants.get(id.index()).map(|constant| &constant.source) {
        Some(ConstantSource::Named(key)) => key.chars().take(SHORT_KEY).collect(),
        Some(ConstantSource::Inline { offset }) => format!("+{offset}"),
        None => "?".to_owned(),
    }
}

fn dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::U8 => "u8",
        DType::I8 => "i8",
        DType::I32 => "i32",
        DType::F16 => "f16",
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::I64 => "i64",
    }
}

fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}
