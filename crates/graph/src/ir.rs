//! The graph: values, nodes and the typed ids that name them.

use arrayvec::ArrayVec;

/// The largest tensor rank a delegate may hold.
pub const MAX_RANK: usize = 8;

/// Sizes of a tensor, outermost first; at most [`MAX_RANK`] entries, none for a scalar tensor.
pub type Dims = ArrayVec<u32, MAX_RANK>;

/// Names a [`Value`] of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a [`Constant`] of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstantId(pub u32);

impl ConstantId {
    /// Position in [`Graph::constants`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Element type of a tensor on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned byte; also carries packed 4-bit weights.
    U8,
    /// Signed byte.
    I8,
    /// 32-bit signed integer; 64-bit integers of the program are narrowed to it by the exporter.
    I32,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
    /// IEEE double; only present when the exporter was told not to narrow.
    F64,
    /// 64-bit signed integer; only present when the exporter was told not to narrow.
    I64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::F16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A tensor as the exporter declared it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type on the GPU.
    pub dtype: DType,
    /// Upper bound of each size; live sizes may be smaller.
    pub dims: Dims,
    /// Initial bytes, for weights and for state that the program mutates.
    pub constant: Option<ConstantId>,
}

/// One entry of the value table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absent optional argument.
    None,
    /// Integer; the exporter may have interned a double of equal value onto it.
    Int(i64),
    /// Double; the exporter may have interned an integer of equal value onto it.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// String.
    String(String),
    /// List of integers.
    IntList(Vec<i64>),
    /// List of doubles.
    DoubleList(Vec<f64>),
    /// List of booleans.
    BoolList(Vec<bool>),
    /// List of other values: tensors, or sizes that mix integers and symbolic integers.
    List(Vec<ValueId>),
    /// An integer known only at run time.
    SymInt,
    /// A tensor.
    Tensor(Tensor),
}

/// Where the initial bytes of a constant are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConstantSource {
    /// In the blob's own constant section.
    Inline {
        /// Byte offset within the section.
        offset: u64,
    },
    /// Under a key of the program's named data (inside the program or in an external file).
    Named(String),
}

/// Initial bytes of a tensor; the byte count is the tensor's, unless they are stored as another element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Where the bytes are.
    pub source: ConstantSource,
    /// Element type of the bytes where the tensor has another: they are converted when they are loaded.
    pub stored: Option<DType>,
}

/// One operator call.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Operator name as serialized, for example `aten.add.Tensor`; fused operators are named `wgpu.*`.
    pub op: String,
    /// Debug handles of the source operators that this call stands for.
    pub handles: Vec<u32>,
    /// Arguments in schema order, without the output.
    pub args: Vec<ValueId>,
    /// Outputs: tensors, or one symbolic integer for scalar operators.
    pub outs: Vec<ValueId>,
}

/// A delegate's computation: nodes in execution order over a value table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Value table.
    pub values: Vec<Value>,
    /// Operator calls in execution order.
    pub nodes: Vec<Node>,
    /// Constants that tensors refer to.
    pub constants: Vec<Constant>,
    /// Values that the host passes in, in order.
    pub inputs: Vec<ValueId>,
    /// Values that the host receives, in order; may repeat, and may name inputs.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The tensor with this id, if the value is one.
    pub fn tensor(&self, id: ValueId) -> Option<&Tensor> {
        match self.value(id) {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Adds a value and returns its id.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }
}

/// Product of sizes, or `None` when it overflows.
pub fn numel(dims: &[u32]) -> Option<u64> {
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)))
}
