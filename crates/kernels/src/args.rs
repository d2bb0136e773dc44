//! Typed access to a node's arguments.

use etwgpu_graph::{DType, Dims, Graph, Node, Value, ValueId};
use thiserror::Error;

use crate::live::Live;

/// Why an operator cannot be planned or run as asked.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum OpError {
    /// An argument is missing or of the wrong kind.
    #[error("argument {index}: expected {expected}, got {got}")]
    Argument {
        /// Position in schema order.
        index: usize,
        /// What the operator takes there.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// Live sizes or values that the operator's definition does not allow.
    #[error("{0}")]
    Invalid(String),
    /// A combination that no route can run.
    #[error("{0}")]
    Unsupported(String),
}

/// Shorthand for [`OpError::Invalid`] with a formatted message.
#[macro_export]
macro_rules! invalid {
    ($($text:tt)*) => { $crate::args::OpError::Invalid(format!($($text)*)) };
}

/// Shorthand for [`OpError::Unsupported`] with a formatted message.
#[macro_export]
macro_rules! unsupported {
    ($($text:tt)*) => { $crate::args::OpError::Unsupported(format!($($text)*)) };
}

/// A tensor argument at its live size.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorArg {
    /// Which value.
    pub id: ValueId,
    /// Element type on the GPU.
    pub dtype: DType,
    /// Live sizes.
    pub dims: Dims,
}

impl TensorArg {
    /// Elements.
    pub fn numel(&self) -> u64 {
        self.dims.iter().map(|&d| u64::from(d)).product()
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.numel() * self.dtype.size()
    }

    /// Size of the last dimension; one for a scalar tensor.
    pub fn width(&self) -> u32 {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Product of all dimensions but the last.
    pub fn rows(&self) -> u64 {
        let leading = self.dims.len().saturating_sub(1);
        self.dims[..leading].iter().map(|&d| u64::from(d)).product()
    }

    /// Normalises a Python dimension index.
    pub fn dim(&self, dim: i64) -> Result<usize, OpError> {
        let rank = self.dims.len() as i64;
        let at = if dim < 0 { dim + rank.max(1) } else { dim };
        if at < 0 || at >= rank.max(1) {
            return Err(invalid!("dimension {dim} is outside a tensor of rank {rank}"));
        }
        Ok(at as usize)
    }
}

/// A node with the live state that its arguments take their sizes and values from.
#[derive(Clone, Copy)]
pub struct NodeCx<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Live sizes and integers.
    pub live: &'a Live,
    /// Position in [`Graph::nodes`].
    pub index: usize,
}

impl<'a> NodeCx<'a> {
    /// The node.
    pub fn node(&self) -> &'a Node {
        &self.graph.nodes[self.index]
    }

    /// The same state at another node.
    pub fn at(&self, index: usize) -> Self {
        Self { index, ..*self }
    }

    /// The value at argument `index`; absent arguments read as [`Value::None`].
    pub fn value(&self, index: usize) -> &'a Value {
        self.node().args.get(index).map_or(&Value::None, |&id| self.graph.value(id))
    }

    fn mismatch(&self, index: usize, expected: &'static str) -> OpError {
        OpError::Argument { index, expected, got: describe(self.value(index)) }
    }

    fn tensor_of(&self, id: ValueId) -> Option<TensorArg> {
        let tensor = self.graph.tensor(id)?;
        Some(TensorArg { id, dtype: tensor.dtype, dims: self.live.dims[id.index()].clone() })
    }

    /// Tensor at argument `index`.
    pub fn tensor(&self, index: usize) -> Result<TensorArg, OpError> {
        let id = self.node().args.get(index).copied();
        id.and_then(|id| self.tensor_of(id)).ok_or_else(|| self.mismatch(index, "a tensor"))
    }

    /// Tensor at argument `index`, or none.
    pub fn tensor_opt(&self, index: usize) -> Result<Option<TensorArg>, OpError> {
        match self.value(index) {
            Value::None => Ok(None),
            _ => self.tensor(index).map(Some),
        }
    }

    /// Output tensor `index`.
    pub fn out(&self, index: usize) -> Result<TensorArg, OpError> {
        let id = self.node().outs.get(index).copied();
        id.and_then(|id| self.tensor_of(id)).ok_or_else(|| invalid!("output {index} is missing or no tensor"))
    }

    /// Live sizes of tensor argument `index`.
    pub fn dims(&self, index: usize) -> Result<&'a Dims, OpError> {
        let id = self.node().args.get(index).copied();
        id.filter(|&id| self.graph.tensor(id).is_some())
            .map(|id| &self.live.dims[id.index()])
            .ok_or_else(|| self.mismatch(index, "a tensor"))
    }

    /// Declared upper bound of tensor argument `index`.
    pub fn bound(&self, index: usize) -> Result<&'a Dims, OpError> {
        let id = self.node().args.get(index).copied();
        id.and_then(|id| self.graph.tensor(id))
            .map(|t| &t.dims)
            .ok_or_else(|| self.mismatch(index, "a tensor"))
    }

    /// Integer value of a scalar; the exporter interns integers and doubles of equal value onto one entry.
    fn int_of(&self, id: ValueId) -> Option<i64> {
        match self.graph.value(id) {
            Value::Int(v) => Some(*v),
            Value::Double(v) if v.fract() == 0.0 && v.abs() < 9.0e15 => Some(*v as i64),
            Value::Bool(v) => Some(i64::from(*v)),
            Value::SymInt => Some(self.live.ints[id.index()]),
            _ => None,
        }
    }

    /// Integer at argument `index`.
    pub fn int(&self, index: usize) -> Result<i64, OpError> {
        let id = self.node().args.get(index).copied();
        id.and_then(|id| self.int_of(id)).ok_or_else(|| self.mismatch(index, "an integer"))
    }

    /// The symbolic integer at argument `index`, if it is one.
    pub fn symbolic(&self, index: usize) -> Option<ValueId> {
        let id = self.node().args.get(index).copied()?;
        matches!(self.graph.value(id), Value::SymInt).then_some(id)
    }

    /// Integer at argument `index`, or `default` where there is none.
    pub fn int_or(&self, index: usize, default: i64) -> Result<i64, OpError> {
        match self.value(index) {
            Value::None => Ok(default),
            _ => self.int(index),
        }
    }

    /// Number at argument `index`, or none.
    pub fn float_opt(&self, index: usize) -> Result<Option<f64>, OpError> {
        match self.value(index) {
            Value::None => Ok(None),
            Value::Double(v) => Ok(Some(*v)),
            _ => self.int(index).map(|v| Some(v as f64)),
        }
    }

    /// Number at argument `index`.
    pub fn float(&self, index: usize) -> Result<f64, OpError> {
        self.float_opt(index)?.ok_or_else(|| self.mismatch(index, "a number"))
    }

    /// Boolean at argument `index`, or `default` where there is none.
    pub fn bool_or(&self, index: usize, default: bool) -> Result<bool, OpError> {
        match self.value(index) {
            Value::None => Ok(default),
            Value::Bool(v) => Ok(*v),
            _ => self.int(index).map(|v| v != 0),
        }
    }

    /// Text at argument `index`.
    pub fn text(&self, index: usize) -> Result<&'a str, OpError> {
        match self.value(index) {
            Value::String(text) => Ok(text),
            _ => Err(self.mismatch(index, "a string")),
        }
    }

    /// Integers at argument `index`, symbolic ones at their live values; none where there is no list.
    pub fn ints(&self, index: usize) -> Result<Vec<i64>, OpError> {
        match self.value(index) {
            Value::None => Ok(Vec::new()),
            Value::IntList(items) => Ok(items.clone()),
            Value::DoubleList(items) if items.iter().all(|v| v.fract() == 0.0) => {
                Ok(items.iter().map(|&v| v as i64).collect())
            }
            Value::List(items) => items
                .iter()
                .map(|&id| self.int_of(id).ok_or_else(|| self.mismatch(index, "a list of integers")))
                .collect(),
            _ => self.int(index).map(|v| vec![v]),
        }
    }

    /// Tensors of the list at argument `index`; absent members are none.
    pub fn tensors(&self, index: usize) -> Result<Vec<Option<TensorArg>>, OpError> {
        match self.value(index) {
            Value::List(items) => items
                .iter()
                .map(|&id| match self.graph.value(id) {
                    Value::None => Ok(None),
                    _ => {
                        self.tensor_of(id).map(Some).ok_or_else(|| self.mismatch(index, "a list of tensors"))
                    }
                })
                .collect(),
            _ => Err(self.mismatch(index, "a list of tensors")),
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::None => "nothing".into(),
        Value::Tensor(t) => format!("a {:?} tensor of rank {}", t.dtype, t.dims.len()),
        other => format!("{other:?}").chars().take(60).collect(),
    }
}
