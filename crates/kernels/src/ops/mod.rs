//! The operators, one folder each.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::op::OpDef;

pub mod binary;
pub mod copy;
pub mod embedding_q4;
pub mod gather;
pub mod linear;
pub mod qparams;
pub mod rms_norm;
pub mod rope;
pub mod scalar;
pub mod sdpa;
pub mod strided;
pub mod unary;

/// Every operator.
pub const OPS: &[&OpDef] = &[
    &binary::ADD,
    &binary::MUL,
    &binary::SUB,
    &copy::CLONE,
    &copy::SQUEEZE,
    &copy::UNSQUEEZE,
    &copy::VIEW,
    &embedding_q4::EMBEDDING_Q4,
    &gather::EMBEDDING,
    &gather::INDEX,
    &linear::DYNAMIC_Q8_Q4,
    &linear::FLOAT,
    &linear::Q4,
    &qparams::CHOOSE_QPARAMS,
    &rms_norm::RMS_NORM,
    &rope::HALVES,
    &rope::PAIRS,
    &scalar::ADD,
    &scalar::FLOOR_DIV,
    &scalar::MUL,
    &scalar::SELECT,
    &scalar::SIZE,
    &scalar::SUB,
    &sdpa::CUSTOM_SDPA,
    &sdpa::SDPA,
    &sdpa::SDPA_WITH_KV_CACHE,
    &sdpa::UPDATE_CACHE,
    &strided::SELECT,
    &strided::SLICE,
    &unary::SIGMOID,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static OpDef>> =
    LazyLock::new(|| OPS.iter().flat_map(|op| op.names.iter().map(move |&name| (name, *op))).collect());

/// The operator that a serialized name means.
pub fn find(name: &str) -> Option<&'static OpDef> {
    BY_NAME.get(name).copied()
}
