//! Comparisons with a tensor or a number.

use etwgpu_graph::{DType, Value};
use half::f16;

use crate::args::OpError;
use crate::ops::binary::reference::broadcast2;
use crate::ops::unary::reference::map;
use crate::reference::Eval;

/// Compares with argument 1; a number is first rounded to the elements' float type.
fn compare(eval: &mut Eval<'_>, holds: fn(&f64, &f64) -> bool) -> Result<(), OpError> {
    let truth = |x: f64, y: f64| f64::from(u8::from(holds(&x, &y)));
    if matches!(eval.cx().value(1), Value::Tensor(_)) {
        return broadcast2(eval, truth);
    }
    let number = eval.cx().float(1)?;
    let rounded = match eval.array(0)?.dtype {
        DType::F32 => f64::from(number as f32),
        DType::F16 => f16::from_f64(number).to_f64(),
        _ => number,
    };
    map(eval, |x| truth(x, rounded))
}

/// `a == b`.
pub fn eq(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::eq)
}

/// `a != b`.
pub fn ne(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::ne)
}

/// `a < b`.
pub fn lt(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::lt)
}

/// `a <= b`.
pub fn le(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::le)
}

/// `a > b`.
pub fn gt(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::gt)
}

/// `a >= b`.
pub fn ge(eval: &mut Eval<'_>) -> Result<(), OpError> {
    compare(eval, f64::ge)
}
