//! Elementwise functions of one tensor.

use crate::args::OpError;
use crate::reference::Eval;

/// Applies `f` to every element.
pub fn map(eval: &mut Eval<'_>, f: impl Fn(f64) -> f64) -> Result<(), OpError> {
    let x = eval.array(0)?.clone();
    eval.set(0, &x.dims, x.values.into_iter().map(f).collect());
    Ok(())
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| 1.0 / (1.0 + (-x).exp()))
}

/// `|x|`.
pub fn abs(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::abs)
}

/// `cos(x)`.
pub fn cos(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::cos)
}

/// `exp(x)`.
pub fn exp(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::exp)
}

/// `x * clamp(x + 3, 0, 6) / 6`.
pub fn hardswish(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0)
}

/// `-x`.
pub fn neg(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| -x)
}

/// `max(x, 0)`.
pub fn relu(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| x.max(0.0))
}

/// Nearest integer, halves to even.
pub fn round(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::round_ties_even)
}

/// `1 / sqrt(x)`.
pub fn rsqrt(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, |x| 1.0 / x.sqrt())
}

/// `sin(x)`.
pub fn sin(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::sin)
}

/// `sqrt(x)`.
pub fn sqrt(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::sqrt)
}

/// `tanh(x)`.
pub fn tanh(eval: &mut Eval<'_>) -> Result<(), OpError> {
    map(eval, f64::tanh)
}

/// `x` between two bounds, either of which may be absent.
pub fn clamp(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let low = eval.cx().float_opt(1)?.unwrap_or(f64::NEG_INFINITY);
    let high = eval.cx().float_opt(2)?.unwrap_or(f64::INFINITY);
    map(eval, |x| x.max(low).min(high))
}

/// `x` where positive, else `slope * x`.
pub fn leaky_relu(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let slope = eval.cx().float_opt(1)?.unwrap_or(0.01);
    map(eval, |x| if x > 0.0 { x } else { slope * x })
}

/// `x` to the power of a number.
pub fn pow(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let exponent = eval.cx().float(1)?;
    map(eval, |x| x.powf(exponent))
}

/// The error function: its power series, and a continued fraction where that converges slowly.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 3.0 {
        let fraction = (1..60).rev().fold(a, |f, i| a + f64::from(i) / 2.0 / f);
        return x.signum() * (1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt());
    }
    let (mut term, mut sum) = (x, x);
    for i in 1..80 {
        let i = f64::from(i);
        term *= -x * x / i;
        sum += term / (2.0 * i + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// `x * Φ(x)`, exactly or with `tanh` in place of the error function.
pub fn gelu(eval: &mut Eval<'_>) -> Result<(), OpError> {
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    match eval.cx().text(1) {
        Ok("tanh") => map(eval, |x| 0.5 * x * (1.0 + inner(x).tanh())),
        _ => map(eval, exact),
    }
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, want) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813), (-1.0, -0.842_700_792_950), (3.5, 0.999_999_256_902)]
        {
            assert!((erf(x) - want).abs() < 1e-11, "erf({x}) = {}", erf(x));
        }
    }
}
