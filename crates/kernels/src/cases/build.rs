//! Building cases: graphs, arguments, random elements.

use std::collections::HashMap;

use etwgpu_graph::{Constant, ConstantId, ConstantSource, DType, Dims, Graph, Node, Tensor, Value, ValueId};

use super::Case;
use crate::reference::{Array, count};

/// An argument of a node.
#[derive(Clone, Debug)]
pub enum Arg {
    /// Absent.
    None,
    /// Integer.
    Int(i64),
    /// Double.
    Float(f64),
    /// Boolean.
    Bool(bool),
    /// Text.
    Text(&'static str),
    /// Integers.
    Ints(Vec<i64>),
    /// A value that exists already.
    Id(ValueId),
    /// A list of other arguments.
    List(Vec<Arg>),
}

impl From<ValueId> for Arg {
    fn from(id: ValueId) -> Self {
        Self::Id(id)
    }
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Arg {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&[i64]> for Arg {
    fn from(items: &[i64]) -> Self {
        Self::Ints(items.to_vec())
    }
}

impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// Builds a case.
pub struct Builder {
    case: Case,
    /// Where random elements come from.
    pub random: Random,
}

impl Builder {
    /// An empty graph; the name seeds its random elements.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let random = Random::of_text(&name);
        let case = Case {
            name,
            graph: Graph::default(),
            inputs: HashMap::new(),
            ints: HashMap::new(),
            constants: Vec::new(),
        };
        Self { case, random }
    }

    fn tensor(&mut self, dtype: DType, dims: &[u32], constant: Option<ConstantId>) -> ValueId {
        let dims: Dims = dims.iter().copied().collect();
        self.case.graph.add_value(Value::Tensor(Tensor { dtype, dims, constant }))
    }

    /// A host input at its bound.
    pub fn input(&mut self, dtype: DType, dims: &[u32], values: Vec<f64>) -> ValueId {
        self.input_below(dims, Array::new(dtype, dims, values))
    }

    /// A host input whose live sizes are below its bound.
    pub fn input_below(&mut self, bound: &[u32], live: Array) -> ValueId {
        let id = self.tensor(live.dtype, bound, None);
        self.case.graph.inputs.push(id);
        self.case.inputs.insert(id, live);
        id
    }

    /// A host input of random elements between -1 and 1.
    pub fn noise(&mut self, dtype: DType, dims: &[u32]) -> ValueId {
        let values = self.random.signed(count(dims), 1.0);
        self.input(dtype, dims, values)
    }

    /// An integer that the host passes.
    pub fn integer(&mut self, value: i64) -> ValueId {
        let id = self.case.graph.add_value(Value::SymInt);
        self.case.graph.inputs.push(id);
        self.case.ints.insert(id, value);
        id
    }

    /// A constant: a weight, or a state when a node mutates it.
    pub fn constant(&mut self, dtype: DType, dims: &[u32], values: Vec<f64>) -> ValueId {
        let number = self.case.constants.len() as u32;
        let source = ConstantSource::Named(format!("constant {number}"));
        self.case.graph.constants.push(Constant { source, stored: None });
        self.case.constants.push(Array::new(dtype, dims, values));
        self.tensor(dtype, dims, Some(ConstantId(number)))
    }

    /// A tensor that some node will write.
    pub fn result(&mut self, dtype: DType, dims: &[u32]) -> ValueId {
        self.tensor(dtype, dims, None)
    }

    /// An integer that some node will compute.
    pub fn symbol(&mut self) -> ValueId {
        self.case.graph.add_value(Value::SymInt)
    }

    /// A node.
    pub fn node(&mut self, op: &str, args: &[Arg], outs: &[ValueId]) {
        let args = args.iter().map(|arg| self.argument(arg)).collect();
        let handles = vec![self.case.graph.nodes.len() as u32];
        let node = Node { op: op.into(), handles, args, outs: outs.to_vec() };
        self.case.graph.nodes.push(node);
    }

    fn argument(&mut self, arg: &Arg) -> ValueId {
        let value = match arg {
            Arg::Id(id) => return *id,
            Arg::List(items) => Value::List(items.iter().map(|item| self.argument(item)).collect()),
            Arg::None => Value::None,
            Arg::Int(v) => Value::Int(*v),
            Arg::Float(v) => Value::Double(*v),
            Arg::Bool(v) => Value::Bool(*v),
            Arg::Text(v) => Value::String((*v).into()),
            Arg::Ints(v) => Value::IntList(v.clone()),
        };
        self.case.graph.add_value(value)
    }

    /// The case; `outputs` are what the host receives, and what is compared.
    pub fn finish(mut self, outputs: &[ValueId]) -> Case {
        self.case.graph.outputs = outputs.to_vec();
        self.case
    }
}

/// Reproducible random numbers.
pub struct Random(u64);

impl Random {
    fn of_text(text: &str) -> Self {
        Self(
            text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Numbers between `-limit` and `limit`.
    pub fn signed(&mut self, count: usize, limit: f64) -> Vec<f64> {
        (0..count).map(|_| (2.0 * self.unit() - 1.0) * limit).collect()
    }

    /// Integers from `low` up to, not including, `high`.
    pub fn integers(&mut self, count: usize, low: i64, high: i64) -> Vec<f64> {
        (0..count).map(|_| (low + (self.next() % (high - low) as u64) as i64) as f64).collect()
    }
}
