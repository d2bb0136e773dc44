//! Constant bytes: lent to whoever uploads them, one constant at a time, so that no second copy of the
//! weights lives in memory.

use crate::ir::{ConstantId, ConstantSource, Graph};

/// Where named constants come from: the program's own named data, or files beside it.
pub trait WeightSource {
    /// Lends the bytes under `key` to `sink`, which is called once, and takes them back when it returns.
    /// False, without a call, when there is nothing under `key`.
    fn with_named(&mut self, key: &str, sink: &mut dyn FnMut(&[u8])) -> bool;
}

/// Why the bytes of a constant cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstantError {
    /// The source has nothing under this key.
    #[error("no constant is stored under key {key}")]
    Missing {
        /// The key.
        key: String,
    },
    /// The source has fewer bytes than the tensor.
    #[error("constant under key {key} has {have} bytes, its tensor needs {need}")]
    Short {
        /// The key.
        key: String,
        /// Bytes of the tensor.
        need: u64,
        /// Bytes in the source.
        have: usize,
    },
    /// An inline constant leaves its section.
    #[error("inline constant needs {need} bytes at {offset}, the section has {have}")]
    Range {
        /// Where it starts in the section.
        offset: u64,
        /// Bytes of the tensor.
        need: u64,
        /// Bytes in the section.
        have: usize,
    },
    /// The graph has no such constant.
    #[error("constant {constant} is not among the {count} constants")]
    Unknown {
        /// Position asked for.
        constant: u32,
        /// Constants in the graph.
        count: usize,
    },
}

/// Lends the `need` bytes of a tensor's constant to `sink` and hands on what that returns.
///
/// `section` is the constant section of the blob that `graph` was decoded from. Named constants may be longer
/// than their tensor, the rest is cut off; for an empty tensor the source is not asked.
pub fn with_constant<R>(
    graph: &Graph,
    section: &[u8],
    constant: ConstantId,
    need: u64,
    source: &mut dyn WeightSource,
    sink: impl FnOnce(&[u8]) -> R,
) -> Result<R, ConstantError> {
    let Some(entry) = graph.constants.get(constant.index()) else {
        return Err(ConstantError::Unknown { constant: constant.0, count: graph.constants.len() });
    };
    match &entry.source {
        ConstantSource::Inline { offset } => {
            let rest = usize::try_from(*offset).ok().and_then(|start| section.get(start..));
            let bytes = rest.and_then(|rest| first(rest, need));
            bytes.map(sink).ok_or(ConstantError::Range { offset: *offset, need, have: section.len() })
        }
        ConstantSource::Named(_) if need == 0 => Ok(sink(&[])),
        ConstantSource::Named(key) => {
            let mut sink = Some(sink);
            let mut result = Err(ConstantError::Missing { key: key.clone() });
            let _found = source.with_named(key, &mut |bytes| {
                result = match (first(bytes, need), sink.take()) {
                    (Some(bytes), Some(sink)) => Ok(sink(bytes)),
                    _ => Err(ConstantError::Short { key: key.clone(), need, have: bytes.len() }),
                };
            });
            result
        }
    }
}

fn first(bytes: &[u8], need: u64) -> Option<&[u8]> {
    usize::try_from(need).ok().and_then(|n| bytes.get(..n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Constant;

    /// One key, and how often it was asked for.
    struct One(&'static str, &'static [u8], usize);

    impl WeightSource for One {
        fn with_named(&mut self, key: &str, sink: &mut dyn FnMut(&[u8])) -> bool {
            self.2 += 1;
            let found = key == self.0;
            if found {
                sink(self.1);
            }
            found
        }
    }

    fn read(source: ConstantSource, need: u64, one: &mut One) -> Result<Vec<u8>, ConstantError> {
        let graph = Graph { constants: vec![Constant { source, stored: None }], ..Graph::default() };
        with_constant(&graph, &[1, 2, 3, 4], ConstantId(0), need, one, <[u8]>::to_vec)
    }

    #[test]
    fn inline_bytes_come_from_the_section() {
        let one = &mut One("k", &[], 0);
        let at = |offset| ConstantSource::Inline { offset };
        assert_eq!(read(at(1), 2, one), Ok(vec![2, 3]));
        assert_eq!(read(at(4), 0, one), Ok(vec![]));
        assert_eq!(read(at(2), 3, one), Err(ConstantError::Range { offset: 2, need: 3, have: 4 }));
        assert_eq!(read(at(5), 0, one), Err(ConstantError::Range { offset: 5, need: 0, have: 4 }));
        assert!(read(at(u64::MAX - 1), u64::MAX, one).is_err());
        assert_eq!(one.2, 0);
    }

    #[test]
    fn named_bytes_come_from_the_source() {
        let one = &mut One("k", &[9, 8, 7], 0);
        let named = |key: &str| ConstantSource::Named(key.into());
        assert_eq!(read(named("k"), 3, one), Ok(vec![9, 8, 7]));
        assert_eq!(read(named("k"), 2, one), Ok(vec![9, 8]), "longer constants are cut to the tensor");
        assert_eq!(read(named("k"), 4, one), Err(ConstantError::Short { key: "k".into(), need: 4, have: 3 }));
        assert_eq!(read(named("x"), 1, one), Err(ConstantError::Missing { key: "x".into() }));
        assert_eq!(one.2, 4);
        assert_eq!(read(named("x"), 0, one), Ok(vec![]), "an empty tensor asks nobody");
        assert_eq!(one.2, 4);
    }

    #[test]
    fn unknown_constants_are_refused() {
        let result = with_constant(&Graph::default(), &[], ConstantId(3), 0, &mut One("k", &[], 0), |_| ());
        assert_eq!(result, Err(ConstantError::Unknown { constant: 3, count: 0 }));
    }
}
