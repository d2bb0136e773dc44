//! From serialized graph to [`Graph`]; all trust ends here.
//!
//! After decoding, every [`ValueId`] and [`ConstantId`] of the graph is in range, every tensor's byte count
//! fits in 64 bits, and every inline constant lies within its section. What an operator demands of its
//! arguments is not checked.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use etwgpu_schema::vkgraph::{GraphTypes, OperatorCall, VkBytes, VkDataType, VkTensor, VkValue, Word64};
use etwgpu_schema::{RootError, vk_graph};

use crate::blob::Blob;
use crate::ir::{
    Constant, ConstantId, ConstantSource, DType, Dims, Graph, MAX_RANK, Node, Tensor, Value, ValueId, numel,
};

/// Offset of a constant whose bytes are not in the blob.
const NAMED: u64 = u64::MAX;

/// Why a serialized graph is refused. Values, nodes and constants are named by their positions.
#[allow(missing_docs, reason = "the messages show what each field holds")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The flatbuffer is damaged or of another schema.
    #[error("graph flatbuffer: {0}")]
    Flatbuffer(RootError),
    /// A value of a kind that this reader does not know.
    #[error("value {value}: kind {kind} is not known")]
    Kind { value: u32, kind: u8 },
    /// A tensor without a known element type.
    #[error("value {value}: data type {:?} ({datatype}) is not known", VkDataType(*datatype))]
    DType { value: u32, datatype: i8 },
    /// A tensor of too many dimensions.
    #[error("value {value}: rank {rank} exceeds {MAX_RANK}")]
    Rank { value: u32, rank: usize },
    /// A tensor whose byte count does not fit in 64 bits.
    #[error("value {value}: {dtype:?} tensor of sizes {dims:?} exceeds 2^64 bytes")]
    TooLarge { value: u32, dtype: DType, dims: Dims },
    /// A tensor that refers past the constant table.
    #[error("value {value}: constant {constant} is not among the {count} constants")]
    ConstantId { value: u32, constant: u32, count: usize },
    /// A tensor whose inline bytes leave the constant section.
    #[error("value {value}: constant {constant} needs {need} bytes at {offset}, the section has {have}")]
    ConstantRange { value: u32, constant: u32, offset: u64, need: u64, have: usize },
    /// A constant that is neither inline nor named.
    #[error("constant {constant} has neither an offset nor a key")]
    ConstantSource { constant: usize },
    /// A list that refers past the value table.
    #[error("value {list}: member {member} is not among the {count} values")]
    ListMember { list: u32, member: i32, count: usize },
    /// A list within a list.
    #[error("value {list}: member {member} is itself a list")]
    NestedList { list: u32, member: u32 },
    /// An operator call without a name.
    #[error("node {node} has no operator name")]
    NoName { node: usize },
    /// An operator call without an output.
    #[error("node {node} ({op}) has no output")]
    NoOutput { node: usize, op: String },
    /// An operator call that refers past the value table.
    #[error("node {node} ({op}): argument {position} is value {value}, not among the {count} values")]
    Argument { node: usize, op: String, position: usize, value: i32, count: usize },
    /// An operator call that writes something other than a tensor or an integer.
    #[error("node {node} ({op}): output value {value} is {kind}, not a tensor or an integer")]
    Output { node: usize, op: String, value: u32, kind: &'static str },
    /// A delegate input or output that is past the value table.
    #[error("graph {side} {position} is value {value}, not among the {count} values")]
    BoundaryId { side: &'static str, position: usize, value: u32, count: usize },
    /// A delegate input or output that is not a tensor or an integer.
    #[error("graph {side} {position}: value {value} is {kind}, not a tensor or an integer")]
    BoundaryKind { side: &'static str, position: usize, value: u32, kind: &'static str },
}

/// Reads the graph of a delegate.
pub fn decode(blob: &Blob<'_>) -> Result<Graph, DecodeError> {
    let root = vk_graph(blob.flatbuffer).map_err(DecodeError::Flatbuffer)?;
    let constants = root.constants().into_iter().flatten().enumerate().map(constant);
    let constants = constants.collect::<Result<Vec<_>, _>>()?;

    let count = root.values().map_or(0, |values| values.len());
    let table = Table { constants: &constants, section: blob.constants.len(), count };
    let values = (0..).zip(root.values().into_iter().flatten()).map(|(id, value)| table.value(id, value));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    refuse_nested_lists(&values)?;

    let calls = root.chain().into_iter().flatten().enumerate();
    let nodes = calls.map(|(at, call)| node(&values, at, call)).collect::<Result<_, _>>()?;
    let inputs = root.input_ids().into_iter().flatten().enumerate();
    let inputs = inputs.map(|(at, id)| boundary(&values, "input", at, id)).collect::<Result<_, _>>()?;
    let outputs = root.output_ids().into_iter().flatten().enumerate();
    let outputs = outputs.map(|(at, id)| boundary(&values, "output", at, id)).collect::<Result<_, _>>()?;
    Ok(Graph { values, nodes, constants, inputs, outputs })
}

fn constant((at, bytes): (usize, VkBytes<'_>)) -> Result<Constant, DecodeError> {
    let source = match (bytes.offset(), bytes.named_key()) {
        (NAMED, Some(key)) => ConstantSource::Named(key.to_owned()),
        (NAMED, None) => return Err(DecodeError::ConstantSource { constant: at }),
        (offset, _) => ConstantSource::Inline { offset },
    };
    Ok(Constant { source, stored: None })
}

/// What the entries of the value table may refer to.
struct Table<'a> {
    constants: &'a [Constant],
    /// Bytes in the constant section.
    section: usize,
    /// Number of values.
    count: usize,
}

impl Table<'_> {
    fn value(&self, id: u32, value: VkValue<'_>) -> Result<Value, DecodeError> {
        // A union whose body is missing reads as `None`, like one that says it is nothing.
        let decoded = match value.value_type() {
            GraphTypes::NONE | GraphTypes::Null => Some(Value::None),
            GraphTypes::Int => value.value_as_int().map(|v| Value::Int(v.int_val())),
            GraphTypes::Double => value.value_as_double().map(|v| Value::Double(v.double_val())),
            GraphTypes::Bool => value.value_as_bool().map(|v| Value::Bool(v.bool_val())),
            GraphTypes::String => {
                value.value_as_string().map(|v| Value::String(v.string_val().unwrap_or_default().to_owned()))
            }
            GraphTypes::SymInt => Some(Value::SymInt),
            GraphTypes::IntList => {
                let integer = |item: &Word64| item.bits() as i64;
                value
                    .value_as_int_list()
                    .map(|v| Value::IntList(v.items().into_iter().flatten().map(integer).collect()))
            }
            GraphTypes::DoubleList => {
                let double = |item: &Word64| f64::from_bits(item.bits());
                value
                    .value_as_double_list()
                    .map(|v| Value::DoubleList(v.items().into_iter().flatten().map(double).collect()))
            }
            GraphTypes::BoolList => {
                value.value_as_bool_list().map(|v| Value::BoolList(v.items().into_iter().flatten().collect()))
            }
            GraphTypes::ValueList => match value.value_as_value_list() {
                Some(list) => Some(self.list(id, list.items().into_iter().flatten())?),
                None => None,
            },
            GraphTypes::VkTensor => match value.value_as_vk_tensor() {
                Some(tensor) => Some(Value::Tensor(self.tensor(id, tensor)?)),
                None => None,
            },
            GraphTypes(kind) => return Err(DecodeError::Kind { value: id, kind }),
        };
        Ok(decoded.unwrap_or(Value::None))
    }

    fn list(&self, list: u32, members: impl Iterator<Item = i32>) -> Result<Value, DecodeError> {
        let count = self.count;
        let check = |member| value_id(member, count).ok_or(DecodeError::ListMember { list, member, count });
        members.map(check).collect::<Result<_, _>>().map(Value::List)
    }

    fn tensor(&self, value: u32, tensor: VkTensor<'_>) -> Result<Tensor, DecodeError> {
        let dtype =
            dtype(tensor.datatype()).ok_or(DecodeError::DType { value, datatype: tensor.datatype().0 })?;
        let rank = tensor.dims().map_or(0, |dims| dims.len());
        if rank > MAX_RANK {
            return Err(DecodeError::Rank { value, rank });
        }
        let dims: Dims = tensor.dims().into_iter().flatten().collect();
        let Some(need) = numel(&dims).and_then(|n| n.checked_mul(dtype.size())) else {
            return Err(DecodeError::TooLarge { value, dtype, dims });
        };
        let constant = self.constant(value, tensor.constant_id(), need)?;
        Ok(Tensor { dtype, dims, constant })
    }

    /// The constant of a tensor of `need` bytes; negative ids stand for none.
    fn constant(&self, value: u32, id: i32, need: u64) -> Result<Option<ConstantId>, DecodeError> {
        let Ok(constant) = u32::try_from(id) else { return Ok(None) };
        let Some(entry) = self.constants.get(constant as usize) else {
            return Err(DecodeError::ConstantId { value, constant, count: self.constants.len() });
        };
        if let ConstantSource::Inline { offset } = entry.source {
            let have = self.section;
            // An empty tensor too must point into the section or at its end.
            if offset.checked_add(need).is_none_or(|end| end > have as u64) {
                return Err(DecodeError::ConstantRange { value, constant, offset, need, have });
            }
        }
        Ok(Some(ConstantId(constant)))
    }
}

fn dtype(stored: VkDataType) -> Option<DType> {
    Some(match stored {
        VkDataType::BOOL => DType::Bool,
        VkDataType::UINT8 => DType::U8,
        VkDataType::INT8 => DType::I8,
        VkDataType::INT32 => DType::I32,
        VkDataType::FLOAT16 => DType::F16,
        VkDataType::FLOAT32 => DType::F32,
        VkDataType::FLOAT64 => DType::F64,
        VkDataType::INT64 => DType::I64,
        _ => return None,
    })
}

/// Lists may hold tensors and numbers only, so that nobody has to recurse into them.
fn refuse_nested_lists(values: &[Value]) -> Result<(), DecodeError> {
    for (list, value) in (0..).zip(values) {
        let Value::List(members) = value else { continue };
        let nested = |member: &&ValueId| {
            use Value::{BoolList, DoubleList, IntList, List};
            matches!(values.get(member.index()), Some(List(_) | IntList(_) | DoubleList(_) | BoolList(_)))
        };
        if let Some(member) = members.iter().find(nested) {
            return Err(DecodeError::NestedList { list, member: member.0 });
        }
    }
    Ok(())
}

fn node(values: &[Value], at: usize, call: OperatorCall<'_>) -> Result<Node, DecodeError> {
    let op = call.name().filter(|name| !name.is_empty()).ok_or(DecodeError::NoName { node: at })?;
    let count = values.len();
    let argument = |(position, value)| {
        value_id(value, count).ok_or_else(|| DecodeError::Argument {
            node: at,
            op: op.into(),
            position,
            value,
            count,
        })
    };
    let args = call.args().into_iter().flatten().enumerate().map(argument);
    let mut args = args.collect::<Result<Vec<_>, _>>()?;

    // The output comes last, also for operators that are called for their effect only; several outputs come
    // as a list.
    let last = args.pop();
    let outs = match last.map(|id| (id, values.get(id.index()))) {
        Some((_, Some(Value::List(members)))) => members.clone(),
        Some((id, _)) => vec![id],
        None => Vec::new(),
    };
    if outs.is_empty() {
        return Err(DecodeError::NoOutput { node: at, op: op.into() });
    }
    for &ValueId(value) in &outs {
        if let Err(kind) = tensor_or_integer(values, value) {
            return Err(DecodeError::Output { node: at, op: op.into(), value, kind });
        }
    }
    Ok(Node { op: op.to_owned(), handles: vec![call.node_id()], args, outs })
}

fn boundary(
    values: &[Value],
    side: &'static str,
    position: usize,
    value: u32,
) -> Result<ValueId, DecodeError> {
    let count = values.len();
    if value as usize >= count {
        return Err(DecodeError::BoundaryId { side, position, value, count });
    }
    match tensor_or_integer(values, value) {
        Ok(()) => Ok(ValueId(value)),
        Err(kind) => Err(DecodeError::BoundaryKind { side, position, value, kind }),
    }
}

fn value_id(stored: i32, count: usize) -> Option<ValueId> {
    u32::try_from(stored).ok().filter(|&id| (id as usize) < count).map(ValueId)
}

/// Nothing when the value can be written by an operator or pass the delegate's boundary, else what it is
/// instead.
fn tensor_or_integer(values: &[Value], id: u32) -> Result<(), &'static str> {
    match values.get(id as usize) {
        Some(Value::Tensor(_) | Value::Int(_) | Value::SymInt) => Ok(()),
        None | Some(Value::None) => Err("nothing"),
        Some(Value::Double(_)) => Err("a double"),
        Some(Value::Bool(_)) => Err("a boolean"),
        Some(Value::String(_)) => Err("a string"),
        Some(Value::IntList(_) | Value::DoubleList(_) | Value::BoolList(_) | Value::List(_)) => Err("a list"),
    }
}
