//! Functions of truth values.

use crate::args::OpError;
use crate::ops::binary::reference::broadcast2;
use crate::ops::unary::reference::map;
use crate::reference::Eval;

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Whether an element is zero.
pub fn not(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| truth(x == 0.0))
}

/// `a and b`.
pub fn and(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, |a, b| truth(a != 0.0 && b != 0.0))
}

/// `a or b`.
pub fn or(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, |a, b| truth(a != 0.0 || b != 0.0))
}

/// Either `a` or `b`.
pub fn xor(eval: &mut Eval<'_>) -> Result<(), OpError> {
    broadcast2(eval, |a, b| truth((a != 0.0) != (b != 0.0)))
}
