//! The operators, one folder each.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::op::OpDef;

pub mod binary;
pub mod cast;
pub mod compare;
pub mod copy;
pub mod embedding_q4;
pub mod expand;
pub mod fill;
pub mod gather;
pub mod linear;
pub mod logical;
pub mod matmul;
pub mod permute;
pub mod qparams;
pub mod rms_norm;
pub mod rope;
pub mod scalar;
pub mod sdpa;
pub mod select_where;
pub mod softmax;
pub mod strided;
pub mod unary;

/// Every operator.
pub const OPS: &[&OpDef] = &[
    &binary::ADD,
    &binary::DIV,
    &binary::DIV_MODE,
    &binary::MAXIMUM,
    &binary::MINIMUM,
    &binary::MUL,
    &binary::SUB,
    &cast::TO_COPY,
    &compare::EQ,
    &compare::GE,
    &compare::GT,
    &compare::LE,
    &compare::LT,
    &compare::NE,
    &copy::CLONE,
    &copy::SQUEEZE,
    &copy::UNSQUEEZE,
    &copy::VIEW,
    &embedding_q4::EMBEDDING_Q4,
    &expand::EXPAND,
    &fill::FULL,
    &fill::FULL_LIKE,
    &fill::ONES,
    &fill::ONES_LIKE,
    &fill::SCALAR_TENSOR,
    &fill::ZEROS,
    &fill::ZEROS_LIKE,
    &gather::EMBEDDING,
    &gather::INDEX,
    &linear::DYNAMIC_Q8_Q4,
    &linear::FLOAT,
    &linear::Q4,
    &logical::AND,
    &logical::NOT,
    &logical::OR,
    &logical::XOR,
    &matmul::ADDMM,
    &matmul::BMM,
    &matmul::MM,
    &permute::PERMUTE,
    &permute::TRANSPOSE,
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
    &select_where::WHERE,
    &softmax::LOG_SOFTMAX,
    &softmax::SOFTMAX,
    &strided::SELECT,
    &strided::SLICE,
    &unary::ABS,
    &unary::CLAMP,
    &unary::COS,
    &unary::EXP,
    &unary::GELU,
    &unary::HARDSWISH,
    &unary::LEAKY_RELU,
    &unary::NEG,
    &unary::POW,
    &unary::RELU,
    &unary::ROUND,
    &unary::RSQRT,
    &unary::SIGMOID,
    &unary::SIN,
    &unary::SQRT,
    &unary::TANH,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static OpDef>> =
    LazyLock::new(|| OPS.iter().flat_map(|op| op.names.iter().map(move |&name| (name, *op))).collect());

/// The operator that a serialized name means.
pub fn find(name: &str) -> Option<&'static OpDef> {
    BY_NAME.get(name).copied()
}
