//! Decoding of delegates that the exporter wrote.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Stored, V, floats, real};
use etwgpu_graph::{ConstantSource, DType, Graph, Value, ValueId, dump};

fn ids(ids: &[u32]) -> Vec<ValueId> {
    ids.iter().copied().map(ValueId).collect()
}

/// Operator names and how often each is called.
fn ops(graph: &Graph) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.nodes {
        *counts.entry(node.op.as_str()).or_default() += 1;
    }
    counts
}

fn sym_ints(graph: &Graph) -> Vec<usize> {
    let values = graph.values.iter().enumerate();
    values.filter(|(_, value)| **value == Value::SymInt).map(|(id, _)| id).collect()
}

#[test]
fn quantized_linear() {
    let graph = real("q4gsw_4w_m3");
    assert_eq!(ops(&graph), [("et_vk.linear_q4gsw.default", 1)].into());
    assert_eq!((&graph.inputs, &graph.outputs), (&ids(&[2]), &ids(&[5])));
    let node = &graph.nodes[0];
    assert_eq!((&node.args, &node.outs, &node.handles), (&ids(&[2, 0, 1, 3, 4]), &ids(&[5]), &vec![0]));
    assert_eq!((graph.value(ValueId(3)), graph.value(ValueId(4))), (&Value::Int(32), &Value::None));

    let weights = graph.tensor(ValueId(0)).unwrap();
    assert_eq!((weights.dtype, weights.dims.as_slice()), (DType::U8, &[64, 64][..]));
    let ConstantSource::Named(key) = &graph.constants[weights.constant.unwrap().index()].source else {
        panic!()
    };
    assert_eq!(key.len(), 64, "keys are SHA-256 in hexadecimal");
    assert_eq!(graph.tensor(ValueId(2)).unwrap().constant, None);
}

#[test]
fn several_outputs_come_from_a_list() {
    let graph = real("q4gsw_8da4w_m3");
    let node = &graph.nodes[0];
    assert_eq!((node.op.as_str(), &node.outs), ("torchao.choose_qparams_affine.default", &ids(&[13, 14])));
    let list = graph.values.iter().position(|value| *value == Value::List(ids(&[13, 14]))).unwrap();
    assert!(!node.args.contains(&ValueId(list as u32)));
    assert_eq!(graph.nodes[1].args[1..3], ids(&[13, 14]), "consumers name the members");
    assert_eq!(graph.tensor(ValueId(14)).unwrap().dtype, DType::I8);
    assert!(graph.values.contains(&Value::String("ASYMMETRIC".into())));
}

#[test]
fn caches_held_by_the_delegate_are_constants() {
    let graph = real("sdpa_dyns_d32_tiny");
    assert_eq!((&graph.inputs, &graph.outputs), (&ids(&[2, 3, 4, 5]), &ids(&[12])));
    let attention = &graph.nodes[1];
    assert_eq!(attention.op, "sdpa_with_kv_cache.default");
    assert_eq!(attention.args, ids(&[2, 3, 4, 0, 1, 7, 8, 9, 6, 10, 11]));
    for cache in &attention.args[3..5] {
        let tensor = graph.tensor(*cache).unwrap();
        assert_eq!(tensor.dims.as_slice(), &[1, 256, 2, 32]);
        assert!(tensor.constant.is_some() && !graph.inputs.contains(cache) && !graph.outputs.contains(cache));
    }
    assert_eq!(graph.constants[0], graph.constants[1], "equal initial bytes are stored once");
    assert_eq!(sym_ints(&graph), [7]);
    assert_eq!(
        (&graph.nodes[0].outs, graph.nodes[0].op.as_str()),
        (&ids(&[7]), "et_vk.select_as_symint.default")
    );
}

#[test]
fn caches_passed_in_are_outputs_too() {
    let graph = real("sdpa_dynpos_d32_tiny");
    assert_eq!((&graph.inputs, &graph.outputs), (&ids(&[0, 1, 2, 3, 4, 5]), &ids(&[12, 3, 4])));
    assert!(graph.constants.is_empty());
    assert_eq!(sym_ints(&graph), [7]);
}

#[test]
fn language_model() {
    let graph = real("tiny_4w_dyn");
    let expected = [
        ("add", 1),
        ("aten.add.Tensor", 4),
        ("aten.mul.Tensor", 4),
        ("aten.select_copy.int", 1),
        ("aten.sigmoid.default", 2),
        ("aten.slice_copy.Tensor", 2),
        ("aten.view_copy.default", 16),
        ("et_vk.apply_rotary_emb.default", 2),
        ("et_vk.embedding_q4gsw.default", 1),
        ("et_vk.linear_q4gsw.default", 15),
        ("et_vk.prepack.default", 2),
        ("et_vk.rms_norm.default", 5),
        ("et_vk.select_as_symint.default", 2),
        ("sdpa_with_kv_cache.default", 2),
        ("sym_size.int", 1),
    ];
    assert_eq!(ops(&graph), expected.into());
    assert_eq!((graph.values.len(), graph.constants.len()), (154, 43));
    assert_eq!((&graph.inputs, &graph.outputs), (&ids(&[45, 46]), &ids(&[153])));
    assert_eq!(sym_ints(&graph), [48, 54, 55, 77]);
    assert_eq!(graph.tensor(ValueId(45)).unwrap().dtype, DType::I32, "token ids arrive narrowed");
    let handles: Vec<u32> = graph.nodes.iter().flat_map(|node| node.handles.iter().copied()).collect();
    assert_eq!(handles, Vec::from_iter(0..60));
    let view = graph.nodes.iter().find(|node| node.op == "aten.view_copy.default").unwrap();
    let Value::List(sizes) = graph.value(view.args[1]) else { panic!() };
    assert_eq!(graph.value(sizes[1]), &Value::SymInt, "shapes mix numbers and symbolic integers");
}

#[test]
fn text_form() {
    let expected = "\
inputs (%2:f32[1,128,4,32], %3:f32[1,128,2,32], %4:f32[1,128,2,32], %5:i32[1])
outputs (%12:f32[1,128,4,32])
%0 f32[1,256,2,32] constant de2f2560
%1 f32[1,256,2,32] constant de2f2560
%2 f32[1,128,4,32]
%3 f32[1,128,2,32]
%4 f32[1,128,2,32]
%5 i32[1]
%7 sym
%12 f32[1,128,4,32]
#0 et_vk.select_as_symint.default(%5:i32[1], 0, 0) -> (%7:sym) handles [0]
#1 sdpa_with_kv_cache.default(%2:f32[1,128,4,32], %3:f32[1,128,2,32], %4:f32[1,128,2,32], \
%0:f32[1,256,2,32]@de2f2560, %1:f32[1,256,2,32]@de2f2560, %7:sym, 1, none, 0, true, none) \
-> (%12:f32[1,128,4,32]) handles [1]
";
    assert_eq!(dump(&real("sdpa_dyns_d32_tiny")), expected);
}

#[test]
fn text_form_of_lists() {
    let text = dump(&real("tiny_4w_dyn"));
    let line = "#10 aten.view_copy.default(%61:f32[1,127,128], [1, %48:sym, 4, 32]) -> (%64:f32[1,127,4,32]) handles [10]";
    assert!(text.lines().any(|found| found == line), "{text}");
    let text = dump(&real("q4gsw_8da4w_m3"));
    let args =
        r#""ASYMMETRIC", [1, 128], none, -128, 127, none, none, none, false) -> (%13:f32[3], %14:i8[3])"#;
    assert!(text.contains(args), "{text}");
}

#[test]
fn text_form_declares_what_only_a_list_names() {
    let values = vec![floats(&[2]), V::List(vec![0, 0]), V::Str("x"), floats(&[4]), floats(&[9])];
    let stored = Stored { values, chain: vec![(Some("cat"), vec![1, 2, 3])], ..Stored::default() };
    let expected = r#"inputs ()
outputs ()
%0 f32[2]
%3 f32[4]
#0 cat([%0:f32[2], %0:f32[2]], "x") -> (%3:f32[4]) handles [10]
"#;
    assert_eq!(dump(&stored.decode().unwrap()), expected);
}

#[test]
fn data_types() {
    let expected =
        [DType::Bool, DType::U8, DType::I8, DType::I32, DType::F16, DType::F32, DType::F64, DType::I64];
    let values = (0..8).map(|code| V::Tensor(code, vec![1], -1)).collect();
    let graph = Stored { values, ..Stored::default() }.decode().unwrap();
    assert_eq!(Vec::from_iter((0..8).map(|id| graph.tensor(ValueId(id)).unwrap().dtype)), expected);
}

#[test]
fn lists_need_no_eight_byte_boundary() {
    let number = 0x1122_3344_5566_7788i64;
    let lists = |padding: &'static str| {
        vec![
            V::Str(padding),
            V::Ints(vec![number]),
            V::Doubles(vec![f64::from_bits(number as u64)]),
            V::Ints(vec![]),
        ]
    };
    let mut boundaries = BTreeSet::new();
    for padding in ["", "12345678"] {
        let stored = Stored { values: lists(padding), ..Stored::default() };
        let bytes = stored.flatbuffer();
        let at = (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == number.to_le_bytes());
        boundaries.extend(at.map(|at| at % 8));
        let expected = [
            Value::IntList(vec![number]),
            Value::DoubleList(vec![f64::from_bits(number as u64)]),
            Value::IntList(vec![]),
        ];
        assert_eq!(stored.decode().unwrap().values[1..], expected);
    }
    assert!(boundaries.contains(&4), "some list lies where a number of eight bytes may not: {boundaries:?}");
}
