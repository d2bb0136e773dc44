//! What operators mean, in plain loops over `f64`: the oracle that kernels and passes are compared with.
//!
//! Each operator folder has a `reference.rs`, written from the operator's definition and not from its kernels. A new
//! operator gets a function there and a line in [`REFERENCES`].

mod array;

use std::collections::HashMap;

use etwgpu_graph::{Graph, Value, ValueId};

use crate::args::{NodeCx, OpError};
use crate::invalid;
use crate::live::Live;
use crate::ops::{
    binary, compare, copy, embedding_q4, expand, fill, gather, linear, logical, matmul, permute, qparams,
    rms_norm, rope, scalar, sdpa, select_where, softmax, strided, unary,
};

pub use array::{Array, count, flat, positions};

/// Evaluates one node.
pub type Reference = fn(&mut Eval<'_>) -> Result<(), OpError>;

/// The reference of every operator, by serialized name.
pub const REFERENCES: &[(&str, Reference)] = &[
    ("add", scalar::reference::add),
    ("aten._log_softmax.default", softmax::reference::log_softmax),
    ("aten._softmax.default", softmax::reference::softmax),
    ("aten._to_copy.default", copy::reference::same_sizes),
    ("aten.abs.default", unary::reference::abs),
    ("aten.add.Tensor", binary::reference::add),
    ("aten.addmm.default", matmul::reference::addmm),
    ("aten.alias_copy.default", copy::reference::same_sizes),
    ("aten.bitwise_and.Tensor", logical::reference::and),
    ("aten.bitwise_not.default", logical::reference::not),
    ("aten.bitwise_or.Tensor", logical::reference::or),
    ("aten.bitwise_xor.Tensor", logical::reference::xor),
    ("aten.bmm.default", matmul::reference::matmul),
    ("aten.clamp.default", unary::reference::clamp),
    ("aten.clone.default", copy::reference::same_sizes),
    ("aten.cos.default", unary::reference::cos),
    ("aten.div.Tensor", binary::reference::div),
    ("aten.div.Tensor_mode", binary::reference::div_mode),
    ("aten.embedding.default", gather::reference::embedding),
    ("aten.eq.Scalar", compare::reference::eq),
    ("aten.eq.Tensor", compare::reference::eq),
    ("aten.exp.default", unary::reference::exp),
    ("aten.expand_copy.default", expand::reference::expand),
    ("aten.full.default", fill::reference::full),
    ("aten.full_like.default", fill::reference::full_like),
    ("aten.ge.Scalar", compare::reference::ge),
    ("aten.ge.Tensor", compare::reference::ge),
    ("aten.gelu.default", unary::reference::gelu),
    ("aten.gt.Scalar", compare::reference::gt),
    ("aten.gt.Tensor", compare::reference::gt),
    ("aten.hardswish.default", unary::reference::hardswish),
    ("aten.hardtanh.default", unary::reference::clamp),
    ("aten.index.Tensor", gather::reference::index),
    ("aten.le.Scalar", compare::reference::le),
    ("aten.le.Tensor", compare::reference::le),
    ("aten.leaky_relu.default", unary::reference::leaky_relu),
    ("aten.linear.default", linear::reference::float),
    ("aten.logical_and.default", logical::reference::and),
    ("aten.logical_not.default", logical::reference::not),
    ("aten.logical_or.default", logical::reference::or),
    ("aten.logical_xor.default", logical::reference::xor),
    ("aten.lt.Scalar", compare::reference::lt),
    ("aten.lt.Tensor", compare::reference::lt),
    ("aten.maximum.default", binary::reference::maximum),
    ("aten.minimum.default", binary::reference::minimum),
    ("aten.mm.default", matmul::reference::matmul),
    ("aten.mul.Tensor", binary::reference::mul),
    ("aten.ne.Scalar", compare::reference::ne),
    ("aten.ne.Tensor", compare::reference::ne),
    ("aten.neg.default", unary::reference::neg),
    ("aten.ones.default", fill::reference::ones),
    ("aten.ones_like.default", fill::reference::ones_like),
    ("aten.permute.default", permute::reference::permute),
    ("aten.permute_copy.default", permute::reference::permute),
    ("aten.pow.Tensor_Scalar", unary::reference::pow),
    ("aten.relu.default", unary::reference::relu),
    ("aten.round.default", unary::reference::round),
    ("aten.rsqrt.default", unary::reference::rsqrt),
    ("aten.scalar_tensor.default", fill::reference::scalar_tensor),
    ("aten.select_copy.int", strided::reference::select),
    ("aten.sigmoid.default", unary::reference::sigmoid),
    ("aten.sin.default", unary::reference::sin),
    ("aten.slice_copy.Tensor", strided::reference::slice),
    ("aten.sqrt.default", unary::reference::sqrt),
    ("aten.squeeze_copy.dim", copy::reference::squeeze),
    ("aten.squeeze_copy.dims", copy::reference::squeeze),
    ("aten.sub.Tensor", binary::reference::sub),
    ("aten.t_copy.default", permute::reference::transpose),
    ("aten.tanh.default", unary::reference::tanh),
    ("aten.unsqueeze_copy.default", copy::reference::unsqueeze),
    ("aten.view_copy.default", copy::reference::view),
    ("aten.where.self", select_where::reference::choose),
    ("aten.zeros.default", fill::reference::zeros),
    ("aten.zeros_like.default", fill::reference::zeros_like),
    ("custom_sdpa.default", sdpa::reference::custom),
    ("dim_order_ops._clone_dim_order.default", copy::reference::same_sizes),
    ("dim_order_ops._to_dim_order_copy.default", copy::reference::same_sizes),
    ("et_vk.apply_rotary_emb.default", rope::reference::pairs),
    ("et_vk.apply_rotary_emb_hf.default", rope::reference::halves),
    ("et_vk.embedding_q4gsw.default", embedding_q4::reference::embedding_q4),
    ("et_vk.linear_dq8ca_q4gsw.default", linear::reference::dynamic_q8_q4),
    ("et_vk.linear_q4gsw.default", linear::reference::q4),
    ("et_vk.prepack.default", copy::reference::same_sizes),
    ("et_vk.rms_norm.default", rms_norm::reference::rms_norm),
    ("et_vk.sdpa.default", sdpa::reference::plain),
    ("et_vk.select_as_symint.default", scalar::reference::select),
    ("floordiv", scalar::reference::floor_div),
    ("llama.custom_sdpa.default", sdpa::reference::custom),
    ("mul", scalar::reference::mul),
    ("sdpa_with_kv_cache.default", sdpa::reference::with_kv_cache),
    ("sub", scalar::reference::sub),
    ("sym_size.int", scalar::reference::size),
    ("torchao.choose_qparams_affine.default", qparams::reference::choose),
    ("update_cache.default", sdpa::reference::update_cache),
];

/// The reference of the operator that a serialized name means.
pub fn find(name: &str) -> Option<Reference> {
    REFERENCES.iter().find(|(op, _)| *op == name).map(|&(_, reference)| reference)
}

/// One node under evaluation: its arguments, and a place for its results.
pub struct Eval<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Sizes and integers computed so far.
    pub live: &'a mut Live,
    /// Elements of every tensor computed so far.
    pub arrays: &'a mut HashMap<ValueId, Array>,
    /// Position in [`Graph::nodes`].
    pub index: usize,
}

impl Eval<'_> {
    /// Access to arguments that are not tensors.
    pub fn cx(&self) -> NodeCx<'_> {
        NodeCx { graph: self.graph, live: self.live, index: self.index }
    }

    /// Elements of the tensor at argument `index`.
    pub fn array(&self, index: usize) -> Result<&Array, OpError> {
        let id = self.cx().tensor(index)?.id;
        self.arrays.get(&id).ok_or_else(|| invalid!("%{} has no elements yet", id.0))
    }

    /// Elements of the tensor at argument `index`, or none.
    pub fn array_opt(&self, index: usize) -> Result<Option<&Array>, OpError> {
        match self.cx().value(index) {
            Value::None => Ok(None),
            _ => self.array(index).map(Some),
        }
    }

    /// Members of the list at argument `index`.
    pub fn arrays(&self, index: usize) -> Result<Vec<Option<&Array>>, OpError> {
        let members = self.cx().tensors(index)?;
        Ok(members.into_iter().map(|m| m.and_then(|t| self.arrays.get(&t.id))).collect())
    }

    /// Sets output `index`, rounded to its declared element type. Outputs that the graph leaves out are dropped.
    pub fn set(&mut self, index: usize, dims: &[u32], values: Vec<f64>) {
        let Some(&id) = self.graph.nodes[self.index].outs.get(index) else { return };
        self.store(id, dims, values);
    }

    /// Overwrites the tensor at argument `index` in place.
    pub fn set_arg(&mut self, index: usize, values: Vec<f64>) -> Result<(), OpError> {
        let arg = self.cx().tensor(index)?;
        self.store(arg.id, &arg.dims, values);
        Ok(())
    }

    fn store(&mut self, id: ValueId, dims: &[u32], values: Vec<f64>) {
        let Some(tensor) = self.graph.tensor(id) else { return };
        let array = Array::new(tensor.dtype, dims, values);
        self.live.dims[id.index()] = array.dims.clone();
        self.arrays.insert(id, array);
    }

    /// Sets every output to an integer.
    pub fn set_int(&mut self, value: i64) {
        for out in &self.graph.nodes[self.index].outs {
            self.live.ints[out.index()] = value;
        }
    }
}

/// Evaluates a graph node by node; `arrays` holds inputs and constants before, and every tensor after.
///
/// `live` gives the sizes of inputs and the integers that are passed in; all others are overwritten.
pub fn evaluate(graph: &Graph, live: &mut Live, arrays: &mut HashMap<ValueId, Array>) -> Result<(), OpError> {
    for (index, node) in graph.nodes.iter().enumerate() {
        let reference = find(&node.op).ok_or_else(|| crate::unsupported!("{} has no reference", node.op))?;
        reference(&mut Eval { graph, live, arrays, index })?;
    }
    Ok(())
}
