//! Weights in one buffer: each launch sees its own, and nothing reaches past the end of one into the next.

mod common;

use common::open;
use etwgpu_engine::{Buffer, Gpu, Prepared, Timing, Trace};
use etwgpu_record::{
    Access, Binding, BufferDesc, BufferId, Dispatch, OutputCopy, Recording, Shader, WeightKey, WeightLayout,
};

/// Bytes of each weight: the second begins where alignment, not the first one's end, says.
const SIZES: [u64; 3] = [40, 272, 16];

/// Sums of two weights' words, `bound` bytes of each; the third weight is an output by itself.
fn sums(bound: [u64; 2]) -> Recording {
    let source = "
        @group(0) @binding(1) var<storage, read> a: array<u32>;
        @group(0) @binding(2) var<storage, read> b: array<u32>;
        @group(0) @binding(3) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(1) fn main() {
            for (var i = 0u; i < arrayLength(&a); i++) { out[0] += a[i]; }
            for (var i = 0u; i < arrayLength(&b); i++) { out[1] += b[i]; }
            out[2] = arrayLength(&a) + 1000u * arrayLength(&b);
        }";
    let mut recording = Recording::default();
    let weight = |(constant, size)| {
        let key = WeightKey { constant, layout: WeightLayout::Raw };
        BufferDesc::Weight { key, size }
    };
    let weights: Vec<BufferId> =
        (0..).zip(SIZES).map(|weight_of| recording.add_buffer(weight(weight_of))).collect();
    let out = recording.add_buffer(BufferDesc::Temp { size: 16 });
    let bind = |buffer, size, access| Binding { buffer, offset: 0, size, touched: size, access };
    recording.dispatches.push(Dispatch {
        shader: Shader { label: "sums", source: source.into() },
        bindings: vec![
            bind(weights[0], bound[0], Access::Read),
            bind(weights[1], bound[1], Access::Read),
            bind(out, 16, Access::ReadWrite),
        ],
        grid: [1, 1, 1],
        ..Dispatch::default()
    });
    recording.outputs.push(OutputCopy { output: 0, buffer: out, size: 12 });
    recording.outputs.push(OutputCopy { output: 1, buffer: weights[2], size: 16 });
    recording
}

/// Weights whose words are one, two and three.
fn weights(gpu: &Gpu) -> Vec<Buffer> {
    let weights = gpu.create_together("weights", &SIZES).unwrap();
    // The last one first, so that an upload which went too far would show.
    for (weight, word) in weights.iter().zip([1u32, 2, 3]).rev() {
        let words = vec![word; weight.size() as usize / 4];
        gpu.upload(weight, &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    weights
}

fn prepare(gpu: &Gpu, weights: &[Buffer], bound: [u64; 2]) -> Result<Prepared, etwgpu_engine::EngineError> {
    Prepared::new(gpu, &sums(bound), &|desc| match desc {
        BufferDesc::Weight { key, .. } => weights.get(key.constant as usize).cloned(),
        _ => None,
    })
}

#[test]
fn launches_and_outputs_see_their_part() {
    let gpu = open();
    let mut prepared = prepare(&gpu, &weights(&gpu), [SIZES[0], SIZES[1]]).unwrap();
    let mut outputs: Vec<Vec<u32>> = Vec::new();
    let mut sink = |_: usize, bytes: &[u8]| {
        outputs.push(bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect());
        Ok(())
    };
    prepared.run(&gpu, &[], &mut sink, &mut Trace::new(Timing::Off, false)).unwrap();
    let expected: [Vec<u32>; 2] = [vec![10, 2 * 68, 10 + 68_000], vec![3; 4]];
    assert_eq!(outputs, expected);
    let second = prepared.read(&gpu, BufferId(1), 1000).unwrap();
    assert_eq!(second, [2, 0, 0, 0].repeat(68), "and no more of it");
}

#[test]
fn what_reaches_past_a_part_is_refused() {
    let gpu = open();
    let weights = weights(&gpu);
    let error = gpu.upload(&weights[0], &[7; 44]).unwrap_err().to_string();
    assert!(error.contains("44 bytes") && error.contains("40"), "{error}");
    let error = prepare(&gpu, &weights, [40, 288]).err().unwrap().to_string();
    assert!(error.contains("sums") && error.contains("288") && error.contains("272"), "{error}");
}
