//! Real delegates, and a writer of small ones.
#![allow(dead_code, reason = "each test file uses its own part")]

use etwgpu_graph::{Blob, DecodeError, Graph, decode, parse};
use etwgpu_schema::vkgraph::{self, GraphTypes};
use etwgpu_schema::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

/// Delegates as the VulkanPartitioner of ExecuTorch 1.5.1 wrote them; weights are in the programs, not here.
pub(crate) const REAL: [(&str, &[u8]); 5] = [
    ("q4gsw_4w_m3", include_bytes!("../data/q4gsw_4w_m3.vk")),
    ("q4gsw_8da4w_m3", include_bytes!("../data/q4gsw_8da4w_m3.vk")),
    ("sdpa_dyns_d32_tiny", include_bytes!("../data/sdpa_dyns_d32_tiny.vk")),
    ("sdpa_dynpos_d32_tiny", include_bytes!("../data/sdpa_dynpos_d32_tiny.vk")),
    ("tiny_4w_dyn", include_bytes!("../data/tiny_4w_dyn.vk")),
];

/// The graph of a real delegate.
pub(crate) fn real(name: &str) -> Graph {
    let (_, bytes) = REAL.iter().find(|(known, _)| *known == name).unwrap();
    decode(&parse(bytes).unwrap()).unwrap()
}

/// The bytes of a delegate with this header and body.
pub(crate) fn with_header(size: u16, fb: (u32, u32), constants: (u32, u64), total: usize) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(b"VH00");
    bytes.extend(size.to_le_bytes());
    bytes.extend(fb.0.to_le_bytes());
    bytes.extend(fb.1.to_le_bytes());
    bytes.extend(constants.0.to_le_bytes());
    bytes.extend(constants.1.to_le_bytes());
    bytes.resize(total, 0);
    bytes
}

/// A serialized value.
pub(crate) enum V {
    /// A `VkValue` without content.
    Nothing,
    Null,
    Int(i64),
    Double(f64),
    Bool(bool),
    Str(&'static str),
    Sym,
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    Bools(Vec<bool>),
    List(Vec<i32>),
    /// Data type, sizes, constant id.
    Tensor(i8, Vec<u32>, i32),
    /// Content of a kind that the schema does not have.
    Unknown(u8),
}

/// A float tensor without a constant.
pub(crate) fn floats(dims: &[u32]) -> V {
    V::Tensor(5, dims.to_vec(), -1)
}

/// A serialized graph; fields as in the schema.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) values: Vec<V>,
    pub(crate) chain: Vec<(Option<&'static str>, Vec<i32>)>,
    pub(crate) inputs: Vec<u32>,
    pub(crate) outputs: Vec<u32>,
    pub(crate) constants: Vec<(u64, Option<&'static str>)>,
    pub(crate) section: Vec<u8>,
}

impl Stored {
    /// Serializes and decodes.
    pub(crate) fn decode(&self) -> Result<Graph, DecodeError> {
        decode(&Blob { flatbuffer: &self.flatbuffer(), constants: &self.section })
    }

    pub(crate) fn flatbuffer(&self) -> Vec<u8> {
        let fbb = &mut FlatBufferBuilder::new();
        let values: Vec<_> = self.values.iter().map(|value| stored_value(fbb, value)).collect();
        let chain = self.chain.iter().zip(10..).map(|((name, args), node_id)| {
            let name = name.map(|name| fbb.create_string(name));
            let args = Some(fbb.create_vector(args));
            vkgraph::OperatorCall::create(fbb, &vkgraph::OperatorCallArgs { node_id, name, args })
        });
        let chain: Vec<_> = chain.collect();
        let constants = self.constants.iter().map(|&(offset, key)| {
            let named_key = key.map(|key| fbb.create_string(key));
            vkgraph::VkBytes::create(fbb, &vkgraph::VkBytesArgs { offset, length: 0, named_key })
        });
        let constants: Vec<_> = constants.collect();
        let args = vkgraph::VkGraphArgs {
            values: Some(fbb.create_vector(&values)),
            chain: Some(fbb.create_vector(&chain)),
            constants: Some(fbb.create_vector(&constants)),
            input_ids: Some(fbb.create_vector(&self.inputs)),
            output_ids: Some(fbb.create_vector(&self.outputs)),
            ..Default::default()
        };
        let root = vkgraph::VkGraph::create(fbb, &args);
        vkgraph::finish_vk_graph_buffer(fbb, root);
        fbb.finished_data().to_vec()
    }
}

fn stored_value<'a>(fbb: &mut FlatBufferBuilder<'a>, value: &V) -> WIPOffset<vkgraph::VkValue<'a>> {
    use vkgraph::*;
    let (value_type, value) = match value {
        V::Nothing => (GraphTypes::NONE, None),
        V::Null => (GraphTypes::Null, Some(Null::create(fbb, &NullArgs {}).as_union_value())),
        V::Int(int_val) => union(GraphTypes::Int, Int::create(fbb, &IntArgs { int_val: *int_val })),
        V::Double(v) => union(GraphTypes::Double, Double::create(fbb, &DoubleArgs { double_val: *v })),
        V::Bool(bool_val) => union(GraphTypes::Bool, Bool::create(fbb, &BoolArgs { bool_val: *bool_val })),
        V::Str(text) => {
            let string_val = Some(fbb.create_string(text));
            union(GraphTypes::String, String::create(fbb, &StringArgs { string_val }))
        }
        V::Sym => union(GraphTypes::SymInt, SymInt::create(fbb, &SymIntArgs { value: 0 })),
        V::Ints(items) => {
            let items: Vec<_> = items.iter().map(|&item| Word64::of_bits(item as u64)).collect();
            let items = Some(fbb.create_vector(&items));
            union(GraphTypes::IntList, IntList::create(fbb, &IntListArgs { items }))
        }
        V::Doubles(items) => {
            let items: Vec<_> = items.iter().map(|item| Word64::of_bits(item.to_bits())).collect();
            let items = Some(fbb.create_vector(&items));
            union(GraphTypes::DoubleList, DoubleList::create(fbb, &DoubleListArgs { items }))
        }
        V::Bools(items) => {
            let items = Some(fbb.create_vector(items));
            union(GraphTypes::BoolList, BoolList::create(fbb, &BoolListArgs { items }))
        }
        V::List(items) => {
            let items = Some(fbb.create_vector(items));
            union(GraphTypes::ValueList, ValueList::create(fbb, &ValueListArgs { items }))
        }
        V::Tensor(datatype, dims, constant_id) => {
            let (datatype, dims) = (VkDataType(*datatype), Some(fbb.create_vector(dims)));
            let args = VkTensorArgs { datatype, dims, constant_id: *constant_id, ..Default::default() };
            union(GraphTypes::VkTensor, VkTensor::create(fbb, &args))
        }
        V::Unknown(kind) => (GraphTypes(*kind), Some(Null::create(fbb, &NullArgs {}).as_union_value())),
    };
    VkValue::create(fbb, &VkValueArgs { value_type, value })
}

fn union<T>(kind: GraphTypes, value: WIPOffset<T>) -> (GraphTypes, Option<WIPOffset<UnionWIPOffset>>) {
    (kind, Some(value.as_union_value()))
}
