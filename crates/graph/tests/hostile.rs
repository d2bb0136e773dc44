//! Graphs that no exporter writes: each rule refuses with its own error, and damaged bytes never panic.

mod common;

use common::{REAL, Stored, V, floats};
use etwgpu_graph::{Blob, ConstantSource, DecodeError, Dims, Graph, Value, ValueId, decode, dump, parse};
use etwgpu_graph::{ConstantId, DType};
use etwgpu_schema::RootError;

fn values(values: Vec<V>) -> Result<Graph, DecodeError> {
    Stored { values, ..Stored::default() }.decode()
}

#[test]
fn every_kind_of_value_decodes() {
    let graph = values(vec![
        V::Nothing,
        V::Null,
        V::Int(-3),
        V::Double(0.5),
        V::Bool(true),
        V::Str("mode"),
        V::Sym,
        V::Ints(vec![1, -1]),
        V::Doubles(vec![0.25]),
        V::Bools(vec![true, false]),
        V::List(vec![2, 6, 2]),
        floats(&[]),
    ])
    .unwrap();
    let Value::Tensor(scalar) = &graph.values[11] else { panic!() };
    assert!(scalar.dims.is_empty() && scalar.constant.is_none());
    let expected = [
        Value::None,
        Value::None,
        Value::Int(-3),
        Value::Double(0.5),
        Value::Bool(true),
        Value::String("mode".into()),
        Value::SymInt,
        Value::IntList(vec![1, -1]),
        Value::DoubleList(vec![0.25]),
        Value::BoolList(vec![true, false]),
        Value::List(vec![ValueId(2), ValueId(6), ValueId(2)]),
    ];
    assert_eq!(graph.values[..11], expected);
}

#[test]
fn flatbuffer_must_verify() {
    let decode = |flatbuffer: &[u8]| decode(&Blob { flatbuffer, constants: &[] });
    let mut bytes = Stored::default().flatbuffer();
    assert_eq!(decode(&bytes), Ok(Graph::default()));
    let found = Some(*b"VK01");
    bytes[7] = b'1';
    let error = DecodeError::Flatbuffer(RootError::Identifier { found, expected: "VK00" });
    assert_eq!(decode(&bytes), Err(error));
    let error = DecodeError::Flatbuffer(RootError::Identifier { found: None, expected: "VK00" });
    assert_eq!(decode(&bytes[..7]), Err(error));
    bytes[7] = b'0';
    bytes[0] = 0xf0;
    assert!(matches!(decode(&bytes), Err(DecodeError::Flatbuffer(RootError::Invalid(_)))));
}

#[test]
fn tensors_are_checked() {
    assert_eq!(values(vec![V::Null, V::Unknown(77)]), Err(DecodeError::Kind { value: 1, kind: 77 }));
    for datatype in [127, 8, -1] {
        let refused = values(vec![V::Tensor(datatype, vec![1], -1)]);
        assert_eq!(refused, Err(DecodeError::DType { value: 0, datatype }));
    }
    assert!(values(vec![floats(&[1; 8])]).is_ok());
    assert_eq!(values(vec![floats(&[1; 9])]), Err(DecodeError::Rank { value: 0, rank: 9 }));
    // 2^62 elements of 4 bytes are one too many; of 2 bytes they still fit.
    let dims = Dims::from_iter([1 << 31, 1 << 31]);
    assert!(values(vec![V::Tensor(4, dims.to_vec(), -1)]).is_ok());
    let refused = DecodeError::TooLarge { value: 0, dtype: DType::F32, dims: dims.clone() };
    assert_eq!(values(vec![floats(&dims)]), Err(refused));
    assert!(matches!(values(vec![floats(&[u32::MAX; 3])]), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn constants_are_checked() {
    let stored = |constant, dims: &[u32], constants: &[_], section| {
        let values = vec![V::Tensor(5, dims.to_vec(), constant)];
        Stored { values, constants: constants.to_vec(), section: vec![0; section], ..Stored::default() }
            .decode()
    };
    let tensor_constant = |graph: Graph| graph.tensor(ValueId(0)).unwrap().constant;
    let named = (u64::MAX, Some("key"));
    let graph = stored(0, &[4], &[named], 0).unwrap();
    assert_eq!(graph.constants[0].source, ConstantSource::Named("key".into()));
    assert_eq!(tensor_constant(graph), Some(ConstantId(0)));
    assert_eq!(tensor_constant(stored(-7, &[4], &[named], 0).unwrap()), None);

    let unknown = |constant, count| Err(DecodeError::ConstantId { value: 0, constant, count });
    assert_eq!(stored(0, &[4], &[], 0), unknown(0, 0));
    assert_eq!(stored(1, &[4], &[named], 0), unknown(1, 1));
    assert_eq!(stored(-1, &[4], &[(u64::MAX, None)], 0), Err(DecodeError::ConstantSource { constant: 0 }));

    let range =
        |offset, need, have| Err(DecodeError::ConstantRange { value: 0, constant: 0, offset, need, have });
    assert!(stored(0, &[4], &[(16, None)], 32).is_ok());
    assert_eq!(stored(0, &[4], &[(16, None)], 31), range(16, 16, 31));
    assert_eq!(stored(0, &[4], &[(u64::MAX - 1, None)], 31), range(u64::MAX - 1, 16, 31));
    assert!(stored(0, &[0], &[(0, None)], 0).is_ok());
    assert_eq!(
        stored(0, &[0], &[(1, None)], 0),
        range(1, 0, 0),
        "also empty tensors must point into the section"
    );
}

#[test]
fn lists_are_checked() {
    let refused = |member| Err(DecodeError::ListMember { list: 1, member, count: 2 });
    for member in [2, -1, i32::MAX, i32::MIN] {
        assert_eq!(values(vec![V::Null, V::List(vec![0, member])]), refused(member));
    }
    for inner in [V::Ints(vec![]), V::Doubles(vec![]), V::Bools(vec![]), V::List(vec![])] {
        let nested = values(vec![V::List(vec![1]), inner]);
        assert_eq!(nested, Err(DecodeError::NestedList { list: 0, member: 1 }));
    }
    assert_eq!(values(vec![V::List(vec![0])]), Err(DecodeError::NestedList { list: 0, member: 0 }));
}

/// A call of `op` with these arguments, over: tensor, none, list of the tensor and a symbolic integer, empty
/// list.
fn call(op: Option<&'static str>, args: &[i32]) -> Result<Graph, DecodeError> {
    let values =
        vec![floats(&[2]), V::Null, V::List(vec![0, 4]), V::List(vec![]), V::Sym, V::List(vec![0, 1])];
    Stored { values, chain: vec![(op, args.to_vec())], ..Stored::default() }.decode()
}

#[test]
fn nodes_are_checked() {
    let node = |args: &[i32]| call(Some("op"), args).map(|graph| graph.nodes[0].clone());
    let in_place = node(&[0, 1, 0]).unwrap();
    assert_eq!((in_place.args, in_place.outs), (vec![ValueId(0), ValueId(1)], vec![ValueId(0)]));
    let several = node(&[1, 2]).unwrap();
    assert_eq!((several.args, several.outs), (vec![ValueId(1)], vec![ValueId(0), ValueId(4)]));
    assert_eq!(several.handles, [10]);

    for name in [None, Some("")] {
        assert_eq!(call(name, &[0]), Err(DecodeError::NoName { node: 0 }));
    }
    let op = || "op".to_owned();
    for args in [&[][..], &[0, 3]] {
        assert_eq!(node(args), Err(DecodeError::NoOutput { node: 0, op: op() }));
    }
    for value in [6, -1, i32::MAX] {
        let refused = DecodeError::Argument { node: 0, op: op(), position: 1, value, count: 6 };
        assert_eq!(node(&[0, value, 0]), Err(refused));
    }
    let refused = |value, kind| Err(DecodeError::Output { node: 0, op: op(), value, kind });
    assert_eq!(node(&[0, 1]), refused(1, "nothing"));
    assert_eq!(node(&[0, 5]), refused(1, "nothing"), "members of an output list are outputs");
}

#[test]
fn boundary_is_checked() {
    let decode = |inputs: &[u32], outputs: &[u32]| {
        let values = vec![
            floats(&[2]),
            V::Int(1),
            V::Sym,
            V::Double(1.0),
            V::Bool(true),
            V::Str("x"),
            V::List(vec![]),
            V::Null,
        ];
        Stored { values, inputs: inputs.to_vec(), outputs: outputs.to_vec(), ..Stored::default() }.decode()
    };
    assert!(decode(&[0, 1, 2], &[2, 0, 0]).is_ok());
    let kinds = [(3, "a double"), (4, "a boolean"), (5, "a string"), (6, "a list"), (7, "nothing")];
    for (value, kind) in kinds {
        let refused = |side, position| Err(DecodeError::BoundaryKind { side, position, value, kind });
        assert_eq!(decode(&[0, value], &[]), refused("input", 1));
        assert_eq!(decode(&[], &[value]), refused("output", 0));
    }
    for value in [8, u32::MAX] {
        let refused = |side, position| Err(DecodeError::BoundaryId { side, position, value, count: 8 });
        assert_eq!(decode(&[0, value], &[]), refused("input", 1));
        assert_eq!(decode(&[], &[value]), refused("output", 0));
    }
}

#[test]
fn messages_name_the_place_and_the_limit() {
    let message = |result: Result<Graph, DecodeError>| result.unwrap_err().to_string();
    let said = message(call(Some("aten.add.Tensor"), &[0, 9, 0]));
    assert_eq!(said, "node 0 (aten.add.Tensor): argument 1 is value 9, not among the 6 values");
    assert_eq!(
        message(values(vec![V::Tensor(127, vec![], -1)])),
        "value 0: data type UNSET (127) is not known"
    );
    assert_eq!(message(values(vec![floats(&[1; 9])])), "value 0: rank 9 exceeds 8");
    assert_eq!(message(values(vec![V::Unknown(77)])), "value 0: kind 77 is not known");
}

/// What decoding promises about every graph that it returns.
fn assert_sound(graph: &Graph) {
    let mut ids: Vec<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    for node in &graph.nodes {
        assert!(!node.op.is_empty() && !node.outs.is_empty());
        ids.extend(node.args.iter().chain(&node.outs));
    }
    for value in &graph.values {
        match value {
            Value::List(members) => ids.extend(members),
            Value::Tensor(tensor) => {
                assert!(tensor.constant.is_none_or(|id| id.index() < graph.constants.len()));
            }
            _ => {}
        }
    }
    assert!(ids.iter().all(|id| id.index() < graph.values.len()));
    assert!(!dump(graph).is_empty());
}

/// A small generator (splitmix64), so that failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// Overwrites one byte, one bit, or an aligned word with a number that tends to hurt.
    fn damage(&mut self, bytes: &mut [u8]) {
        let at = self.below(bytes.len());
        match self.below(3) {
            0 => bytes[at] = self.below(256) as u8,
            1 => bytes[at] ^= 1 << self.below(8),
            _ => {
                let at = at & !3;
                let word = [0, 1, 2, 8, 64, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX][self.below(9)];
                bytes[at..].iter_mut().zip(word.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
}

#[test]
fn truncated_delegates_are_refused() {
    for (name, bytes) in REAL {
        let used = 32 + parse(bytes).unwrap().flatbuffer.len();
        for len in 0..used {
            assert!(parse(&bytes[..len]).is_err(), "{name} cut to {len}");
            // The header lies about the size; the verifier must notice.
            if len > 32 {
                let _ = decode(&Blob { flatbuffer: &bytes[32..len], constants: &[] });
            }
        }
    }
}

#[test]
fn damaged_delegates_never_panic() {
    let mut random = Random(1);
    let (mut decoded, mut refused) = (0, 0);
    for (_, original) in REAL {
        for _ in 0..20_000 {
            let mut bytes = original.to_vec();
            for _ in 0..=random.below(4) {
                random.damage(&mut bytes);
            }
            let Ok(blob) = parse(&bytes) else { continue };
            match decode(&blob) {
                Ok(graph) => {
                    assert_sound(&graph);
                    decoded += 1;
                }
                Err(DecodeError::Flatbuffer(_)) => {}
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(
        decoded > 1000 && refused > 1000,
        "damage reaches all stages: {decoded} decoded, {refused} refused"
    );
}
