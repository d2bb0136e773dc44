//! The problems that are measured: heads, lengths, element types, and graphs of them.

use std::str::FromStr;

use clap::ValueEnum;
use etwgpu_graph::{Constant, ConstantId, ConstantSource, DType, Graph, Node, Tensor, Value};
use half::f16;

/// Heads of an attention, written `32/8/64`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) width: u32,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Vec<u32> = text.split('/').filter_map(|part| part.parse().ok()).collect();
        match numbers[..] {
            [heads, kv_heads, width] if heads > 0 && kv_heads > 0 && width > 0 => {
                Ok(Self { heads, kv_heads, width })
            }
            _ => Err(format!("`{text}` is not query heads/key-value heads/channels, such as 32/8/64")),
        }
    }
}

/// Element type of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Cache {
    F32,
    F16,
}

/// One problem, and how often it is chained.
#[derive(Clone, Copy)]
pub(super) struct Problem {
    pub(super) shape: Shape,
    pub(super) cache: Cache,
    pub(super) seq: u32,
    /// Keys, the last `seq` of which stand at the queries' positions.
    pub(super) context: u32,
    /// Attentions of a chain.
    pub(super) layers: u32,
    /// Pairs of caches; attentions take turns at them.
    pub(super) pairs: u32,
    /// Whether no attention waits for another: all have the same queries.
    pub(super) apart: bool,
}

impl Problem {
    pub(super) fn dtype(&self) -> DType {
        if self.cache == Cache::F16 { DType::F16 } else { DType::F32 }
    }

    /// Bytes of one cache; an attention has two.
    pub(super) fn cache_bytes(&self) -> u64 {
        let Shape { kv_heads, width, .. } = self.shape;
        u64::from(self.context) * u64::from(kv_heads) * u64::from(width) * self.dtype().size()
    }

    /// Bytes that one attention must move at least: both caches, queries and results.
    pub(super) fn bytes(&self) -> u64 {
        2 * self.cache_bytes() + 2 * self.row_bytes()
    }

    /// Bytes of the queries, and of the results.
    pub(super) fn row_bytes(&self) -> u64 {
        let Shape { heads, width, .. } = self.shape;
        4 * u64::from(self.seq) * u64::from(heads) * u64::from(width)
    }

    /// Operations of one attention that the causal mask leaves.
    pub(super) fn ops(&self) -> u64 {
        let (seq, context) = (u64::from(self.seq), u64::from(self.context));
        let pairs = seq * context - seq * (seq - 1) / 2;
        4 * u64::from(self.shape.heads) * u64::from(self.shape.width) * pairs
    }

    pub(super) fn graph(&self) -> Graph {
        let Shape { heads, kv_heads, width } = self.shape;
        let mut graph = Graph::default();
        let tensor = |graph: &mut Graph, dtype, dims: [u32; 4], constant| {
            graph.add_value(Value::Tensor(Tensor { dtype, dims: dims.into_iter().collect(), constant }))
        };
        let rows = [1, self.seq, heads, width];
        let mut q = tensor(&mut graph, DType::F32, rows, None);
        graph.inputs.push(q);
        let position = graph.add_value(Value::Int((self.context - self.seq).into()));
        let (none, causal) = (graph.add_value(Value::None), graph.add_value(Value::Bool(true)));
        let dropout = graph.add_value(Value::Double(0.0));
        let mut cache = |_| {
            let id = ConstantId(graph.constants.len() as u32);
            let source = ConstantSource::Named(format!("cache {}", id.0));
            graph.constants.push(Constant { source, stored: None });
            tensor(&mut graph, self.dtype(), [1, self.context, kv_heads, width], Some(id))
        };
        let pairs: Vec<_> = (0..self.pairs).map(|_| [(); 2].map(&mut cache)).collect();
        let mut last = q;
        for [keys, values] in pairs.into_iter().cycle().take(self.layers as usize) {
            let out = tensor(&mut graph, DType::F32, rows, None);
            let args = vec![q, keys, values, position, none, dropout, causal, none];
            graph.nodes.push(Node {
                op: "custom_sdpa.default".into(),
                handles: Vec::new(),
                args,
                outs: vec![out],
            });
            last = out;
            if !self.apart {
                q = out;
            }
        }
        graph.outputs.push(last);
        graph
    }

    pub(super) fn name(&self) -> String {
        let Shape { heads, kv_heads, width } = self.shape;
        let cache = format!("{:?}", self.cache).to_lowercase();
        let what = if self.seq == 1 {
            format!("decode at context {}", self.context)
        } else {
            format!("prefill of {}", self.seq)
        };
        let megabytes = 2.0 * self.cache_bytes() as f64 / 1e6;
        let order = if self.apart { " apart" } else { "" };
        let Self { layers, pairs, .. } = self;
        format!(
            "{heads}/{kv_heads}/{width} {cache}, {what}, {layers} over {pairs} x {megabytes:.1} MB{order}"
        )
    }
}

/// Elements between -1 and 1, as they lie in memory.
pub(super) fn noise(dtype: DType, count: u64) -> Vec<u8> {
    // A block of noise over and over: making all of it would take longer than the measurement.
    let mut state = 1u32;
    let mut element = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let block: Vec<u8> = match dtype {
        DType::F16 => (0..65_521).flat_map(|_| f16::from_f32(element()).to_le_bytes()).collect(),
        _ => (0..65_521).flat_map(|_| element().to_le_bytes()).collect(),
    };
    let size = (count * dtype.size()) as usize;
    let mut bytes = block.repeat(size.div_ceil(block.len()));
    bytes.truncate(size);
    bytes
}
