//! NumPy's `.npy` files, as far as goldens use them: little-endian, C order.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// ExecuTorch `ScalarType`.
    pub scalar_type: i8,
    /// Sizes, outermost first.
    pub sizes: Vec<i32>,
    /// Elements.
    pub bytes: Vec<u8>,
}

/// NumPy's type codes, ExecuTorch's, and bytes an element.
const TYPES: &[(&str, i8, usize)] = &[
    ("|u1", 0, 1),
    ("|i1", 1, 1),
    ("<i2", 2, 2),
    ("<i4", 3, 4),
    ("<i8", 4, 8),
    ("<f2", 5, 2),
    ("<f4", 6, 4),
    ("<f8", 7, 8),
    ("|b1", 11, 1),
];

/// Bytes of an element of an ExecuTorch `ScalarType`.
pub fn element_size(scalar_type: i8) -> Option<usize> {
    TYPES.iter().find(|t| t.1 == scalar_type).map(|t| t.2)
}

impl Array {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read(path)?).with_context(|| path.display().to_string())
    }

    fn parse(file: &[u8]) -> Result<Self> {
        if file.get(..6) != Some(b"\x93NUMPY") {
            bail!("no .npy file");
        }
        let (start, length) = match file.get(6..12) {
            Some(&[1, _, a, b, ..]) => (10, u16::from_le_bytes([a, b]) as usize),
            Some(&[_, _, a, b, c, d]) => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => bail!("short file"),
        };
        let header = std::str::from_utf8(file.get(start..start + length).context("short header")?)?;
        let descr = between(header, "'descr': '", "'")?;
        let &(_, scalar_type, element) =
            TYPES.iter().find(|t| t.0 == descr).with_context(|| format!("element type {descr}"))?;
        let shape = between(header, "'shape': (", ")")?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse);
        let sizes = sizes.collect::<Result<Vec<i32>, _>>()?;
        let bytes = sizes.iter().map(|&s| s as usize).product::<usize>() * element;
        let data = file.get(start + length..start + length + bytes).context("short data")?;
        Ok(Self { scalar_type, sizes, bytes: data.to_vec() })
    }

    /// Elements as doubles.
    pub fn values(&self) -> Vec<f64> {
        let element = element_size(self.scalar_type).unwrap_or(1);
        self.bytes.chunks_exact(element).map(|b| value(self.scalar_type, b)).collect()
    }
}

fn value(scalar_type: i8, b: &[u8]) -> f64 {
    match (scalar_type, b) {
        (1, &[a]) => f64::from(a as i8),
        (3, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (4, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
        (5, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f64(),
        (6, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (7, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        (2, &[a, b]) => f64::from(i16::from_le_bytes([a, b])),
        (_, b) => b.first().map_or(0.0, |&a| f64::from(a)),
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Result<&'a str> {
    let from = text.find(start).context("header field missing")? + start.len();
    let to = text[from..].find(end).context("header field not closed")?;
    Ok(&text[from..from + to])
}
