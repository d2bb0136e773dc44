//! How close is close enough.

use etwgpu_graph::DType;
use etwgpu_kernels::reference::Array;

/// An element is right when its absolute or its relative error is within these.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Largest absolute error.
    pub abs: f64,
    /// Largest relative error.
    pub rel: f64,
}

impl Tolerance {
    /// What kernels must keep for an element type; integers are exact.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::F16 => Self { abs: 2e-3, rel: 1e-2 },
            DType::F32 | DType::F64 => Self { abs: 1e-4, rel: 1e-3 },
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => Self { abs: 0.0, rel: 0.0 },
        }
    }

    fn accepts(self, got: f64, want: f64) -> bool {
        if want.is_nan() {
            return got.is_nan();
        }
        let error = (got - want).abs();
        got == want || error <= self.abs || error <= self.rel * want.abs()
    }
}

/// Compares element by element, within the tolerance of the element type.
pub fn compare(got: &Array, want: &Array) -> Result<(), String> {
    compare_within(Tolerance::of(want.dtype), got, want)
}

/// Largest relative Frobenius error where operands or results in between are rounded to `f16`.
const ROUNDED: f64 = 1e-3;

/// Largest error of one element there, relative to the root mean square.
const ROUNDED_ELEMENT: f64 = 1e-2;

/// Compares as a whole, for kernels that round to `f16` what the reference does not, or at other places.
pub fn compare_rounded(got: &Array, want: &Array) -> Result<(), String> {
    if compare_within(Tolerance::of(DType::F16), got, want).is_ok() {
        return Ok(());
    }
    let error = frobenius(got, want);
    let rms = norm(want.values.iter().copied()) / (want.values.len() as f64).sqrt();
    let abs = ROUNDED_ELEMENT * rms;
    let each = compare_within(Tolerance { abs, rel: ROUNDED_ELEMENT }, got, want);
    match each {
        Ok(()) if error <= ROUNDED => Ok(()),
        Ok(()) => Err(format!("relative Frobenius error {error:.1e}")),
        Err(text) => Err(format!("{text}; relative Frobenius error {error:.1e}, root mean square {rms:.3}")),
    }
}

/// Compares element by element, and else as a whole: the largest relative Frobenius error.
pub fn compare_whole(largest: f64, got: &Array, want: &Array) -> Result<(), String> {
    let each = compare(got, want);
    let error = frobenius(got, want);
    if each.is_ok() || (got.dims == want.dims && got.dtype == want.dtype && error <= largest) {
        return Ok(());
    }
    each.map_err(|text| format!("{text}; relative Frobenius error {error:.1e}"))
}

fn frobenius(got: &Array, want: &Array) -> f64 {
    norm(got.values.iter().zip(&want.values).map(|(g, w)| g - w)) / norm(want.values.iter().copied())
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Compares element by element; the error names the first wrong element and how many there are.
pub fn compare_within(tolerance: Tolerance, got: &Array, want: &Array) -> Result<(), String> {
    if got.dims != want.dims || got.dtype != want.dtype {
        let sizes = |a: &Array| format!("{:?} {:?}", a.dtype, &a.dims[..]);
        return Err(format!("got {}, want {}", sizes(got), sizes(want)));
    }
    let pairs = got.values.iter().zip(&want.values);
    let wrong: Vec<usize> =
        pairs.enumerate().filter(|(_, (g, w))| !tolerance.accepts(**g, **w)).map(|(i, _)| i).collect();
    let Some(&first) = wrong.first() else { return Ok(()) };
    Err(format!(
        "{} of {} elements of {:?} are wrong, element {first} is {} and should be {}",
        wrong.len(),
        want.values.len(),
        &want.dims[..],
        got.values[first],
        want.values[first]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dtype: DType, values: &[f64]) -> Array {
        Array::new(dtype, &[values.len() as u32], values.to_vec())
    }

    #[test]
    fn either_error_suffices_and_integers_are_exact() {
        let ok = |dtype, got, want| compare(&array(dtype, &[got]), &array(dtype, &[want])).is_ok();
        assert!(ok(DType::F32, 1000.5, 1000.0) && !ok(DType::F32, 1001.5, 1000.0));
        assert!(ok(DType::F32, 9e-5, 0.0) && !ok(DType::F32, 2e-4, 0.0));
        assert!(ok(DType::F16, 1.009, 1.0) && !ok(DType::F16, 1.02, 1.0));
        assert!(!ok(DType::I32, 1001.0, 1000.0));
        assert!(!ok(DType::F32, f64::NAN, 0.0) && ok(DType::F32, f64::NAN, f64::NAN));
        assert!(ok(DType::F32, f64::INFINITY, f64::INFINITY) && !ok(DType::F32, f64::INFINITY, 1.0));
    }

    #[test]
    fn rounding_may_move_every_element_a_little_but_none_far() {
        let want: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let moved = |by: f64| want.iter().map(|w| w + by).collect::<Vec<_>>();
        let ok = |got: &[f64]| compare_rounded(&array(DType::F32, got), &array(DType::F32, &want)).is_ok();
        assert!(ok(&moved(5e-3)) && !ok(&moved(2e-2)));
        let mut far = want.clone();
        far[10] = 0.1;
        assert!(!ok(&far));
        far[10] = f64::NAN;
        assert!(!ok(&far));
    }

    #[test]
    fn sizes_must_agree() {
        let column = Array::new(DType::F32, &[2, 1], vec![0.0; 2]);
        assert!(compare(&array(DType::F32, &[0.0; 2]), &column).is_err());
    }
}
