//! Integer arithmetic of the host.

use crate::args::OpError;
use crate::invalid;
use crate::reference::Eval;

/// Live size of a dimension.
pub fn size(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let sizes = eval.array(0)?.sizes();
    let dim = eval.cx().int(1)?;
    let value = sizes[dim.rem_euclid(sizes.len() as i64) as usize];
    eval.set_int(value as i64);
    Ok(())
}

/// Element `[0, …, index, …, 0]` with `index` in one dimension.
pub fn select(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let (dim, index) = (eval.cx().int(1)?, eval.cx().int(2)?);
    let x = eval.array(0)?;
    let sizes = x.sizes();
    let value = if sizes.is_empty() {
        x.values[0]
    } else {
        let dim = dim.rem_euclid(sizes.len() as i64) as usize;
        let inner: usize = sizes[dim + 1..].iter().product();
        x.values[index.rem_euclid(sizes[dim] as i64) as usize * inner]
    };
    eval.set_int(value as i64);
    Ok(())
}

fn combine(eval: &mut Eval<'_>, f: fn(i64, i64) -> Option<i64>) -> Result<(), OpError> {
    let (a, b) = (eval.cx().int(0)?, eval.cx().int(1)?);
    let value = f(a, b).ok_or_else(|| invalid!("{a} and {b} have no result"))?;
    eval.set_int(value);
    Ok(())
}

/// `a + b`.
pub fn add(eval: &mut Eval<'_>) -> Result<(), OpError> {
    combine(eval, |a, b| Some(a + b))
}

/// `a - b`.
pub fn sub(eval: &mut Eval<'_>) -> Result<(), OpError> {
    combine(eval, |a, b| Some(a - b))
}

/// `a * b`.
pub fn mul(eval: &mut Eval<'_>) -> Result<(), OpError> {
    combine(eval, |a, b| Some(a * b))
}

/// `a / b`, rounded toward minus infinity.
pub fn floor_div(eval: &mut Eval<'_>) -> Result<(), OpError> {
    combine(eval, |a, b| (b != 0).then(|| (a as f64 / b as f64).floor() as i64))
}
