//! Elementwise functions of one float tensor.

#[cfg(feature = "reference")]
pub mod cases;
#[cfg(feature = "reference")]
pub mod reference;

use etwgpu_graph::{Dims, Value};

use crate::args::{NodeCx, OpError};
use crate::lower::{Launch, Lower};
use crate::op::OpDef;
use crate::ops::embedding_q4::float_is_half;
use crate::template::Template;
use crate::unsupported;

/// A function without numbers of its own: operator name, kernel label, flag in the shader.
macro_rules! function {
    ($(#[$doc:meta])* $id:ident, $name:literal, $label:literal, $flag:literal) => {
        $(#[$doc])*
        pub const $id: OpDef = OpDef::kernel(&[$name], shape, |lower| record(lower, $label, $flag, [0.0, 0.0]));
    };
}

function!(
    /// `|x|`.
    ABS, "aten.abs.default", "abs", "ABS");
function!(
    /// `cos(x)`.
    COS, "aten.cos.default", "cos", "COS");
function!(
    /// `exp(x)`.
    EXP, "aten.exp.default", "exp", "EXP");
function!(
    /// `x * clamp(x + 3, 0, 6) / 6`.
    HARDSWISH, "aten.hardswish.default", "hardswish", "HARDSWISH");
function!(
    /// `-x`.
    NEG, "aten.neg.default", "neg", "NEG");
function!(
    /// `max(x, 0)`.
    RELU, "aten.relu.default", "relu", "RELU");
function!(
    /// Nearest integer, halves to even.
    ROUND, "aten.round.default", "round", "ROUND");
function!(
    /// `1 / sqrt(x)`.
    RSQRT, "aten.rsqrt.default", "rsqrt", "RSQRT");
function!(
    /// `1 / (1 + exp(-x))`.
    SIGMOID, "aten.sigmoid.default", "sigmoid", "SIGMOID");
function!(
    /// `sin(x)`.
    SIN, "aten.sin.default", "sin", "SIN");
function!(
    /// `sqrt(x)`.
    SQRT, "aten.sqrt.default", "sqrt", "SQRT");
function!(
    /// `tanh(x)`.
    TANH, "aten.tanh.default", "tanh", "TANH");

/// `x` between two bounds, either of which may be absent.
pub const CLAMP: OpDef = OpDef::kernel(&["aten.clamp.default", "aten.hardtanh.default"], shape, |lower| {
    let low = lower.cx.float_opt(1)?.unwrap_or(f64::NEG_INFINITY);
    let high = lower.cx.float_opt(2)?.unwrap_or(f64::INFINITY);
    record(lower, "clamp", "CLAMP", [low, high])
});

/// `x * Φ(x)`, exactly or with `tanh` in place of the error function.
pub const GELU: OpDef = OpDef::kernel(&["aten.gelu.default"], shape, |lower| {
    let exact = matches!(lower.cx.value(1), Value::None) || lower.cx.text(1)? == "none";
    record(lower, "gelu", if exact { "GELU" } else { "GELU_TANH" }, [0.0, 0.0])
});

/// `x` where positive, else `slope * x`.
pub const LEAKY_RELU: OpDef = OpDef::kernel(&["aten.leaky_relu.default"], shape, |lower| {
    let slope = lower.cx.float_opt(1)?.unwrap_or(0.01);
    record(lower, "leaky_relu", "LEAKY_RELU", [slope, 0.0])
});

/// `x` to the power of a number.
pub const POW: OpDef = OpDef::kernel(&["aten.pow.Tensor_Scalar"], shape, |lower| {
    let exponent = lower.cx.float(1)?;
    record(lower, "pow", "POW", [exponent, 0.0])
});

fn shape(cx: &NodeCx<'_>) -> Result<Vec<Dims>, OpError> {
    Ok(vec![cx.tensor(0)?.dims])
}

fn record(
    lower: &mut Lower<'_>,
    label: &'static str,
    function: &'static str,
    numbers: [f64; 2],
) -> Result<(), OpError> {
    const WG: u32 = 256;
    let (x, out) = (lower.cx.tensor(0)?, lower.cx.out(0)?);
    if x.dtype != out.dtype {
        return Err(unsupported!("{:?} into {:?}", x.dtype, out.dtype));
    }
    let items = out.numel().div_ceil(4);
    let bindings = vec![lower.read(&x), lower.write(&out)];
    let grid = lower.grid(items.div_ceil(WG.into()));
    let params = vec![items as u32, (numbers[0] as f32).to_bits(), (numbers[1] as f32).to_bits()];
    let shader = Template::new(label, include_str!("unary.wgsl"))
        .set("WG", WG)
        .flag(function, true)
        .flag("F16", float_is_half(out.dtype)?)
        .shader();
    lower.launch(Launch { shader, bindings, params, grid, ops: out.numel() })
}
