//! Test cases of every operator: small graphs with their data.
//!
//! Each operator folder has a `cases.rs` with a table of sizes, types and edge values. A new operator gets a function
//! there and a line in [`all`].

mod build;

use std::collections::HashMap;

use etwgpu_graph::{DType, Graph, Tensor, Value, ValueId};

use crate::fuse;
use crate::live::{Dirty, Journal, Live, LiveError, propagate};
use crate::ops::{
    binary, cast, compare, copy, embedding_q4, expand, fill, gather, linear, logical, matmul, permute,
    qparams, rms_norm, rope, scalar, sdpa, select_where, softmax, strided, unary,
};
use crate::reference::Array;
pub use build::{Arg, Builder, Random};

/// Every case of every operator.
pub fn all() -> Vec<Case> {
    let tables: &[fn() -> Vec<Case>] = &[
        binary::cases::all,
        cast::cases::all,
        compare::cases::all,
        copy::cases::all,
        embedding_q4::cases::all,
        expand::cases::all,
        fill::cases::all,
        gather::cases::all,
        linear::cases::all,
        logical::cases::all,
        matmul::cases::all,
        permute::cases::all,
        qparams::cases::all,
        rms_norm::cases::all,
        rope::cases::all,
        scalar::cases::all,
        sdpa::cases::all,
        select_where::cases::all,
        softmax::cases::all,
        strided::cases::all,
        unary::cases::all,
        fuse::cases::all,
    ];
    tables.iter().flat_map(|table| table()).collect()
}

/// Routes of every family of operators that has a choice, and the fusions.
pub fn routes() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("fuse", fuse::names()),
        ("linear", linear::ROUTES.iter().map(|r| r.name).collect()),
        ("matmul", matmul::ROUTES.iter().map(|r| r.name).collect()),
        ("sdpa", sdpa::ROUTES.iter().map(|r| r.name).collect()),
    ]
}

/// A graph with the data of one run.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about; unique.
    pub name: String,
    /// The graph, tensors at their bounds.
    pub graph: Graph,
    /// Host inputs at their live sizes.
    pub inputs: HashMap<ValueId, Array>,
    /// Integers that the host passes.
    pub ints: HashMap<ValueId, i64>,
    /// Initial elements by constant.
    pub constants: Vec<Array>,
}

impl Case {
    /// Sizes and integers before anything is computed: inputs at their live sizes, all else at its bound.
    pub fn given(&self) -> Live {
        let mut live = Live::at_bound(&self.graph);
        for (id, array) in &self.inputs {
            live.dims[id.index()] = array.dims.clone();
            if array.dtype == DType::I32 {
                live.host.insert(*id, array.values.iter().map(|&v| v as i64).collect());
            }
        }
        for (id, &value) in &self.ints {
            live.ints[id.index()] = value;
        }
        live
    }

    /// Live sizes and integers of the run.
    pub fn live(&self) -> Result<Live, LiveError> {
        let mut live = self.given();
        propagate(&self.graph, &mut live, &Dirty::all(&self.graph), &mut Journal::default())?;
        Ok(live)
    }

    /// Elements that are there before the run: inputs and constants.
    pub fn arrays(&self) -> HashMap<ValueId, Array> {
        let mut arrays = self.inputs.clone();
        for (value, id) in self.graph.values.iter().zip((0..).map(ValueId)) {
            if let Value::Tensor(Tensor { dtype, dims, constant: Some(constant) }) = value {
                let values = self.constants[constant.index()].values.clone();
                arrays.insert(id, Array::new(*dtype, dims, values));
            }
        }
        arrays
    }
}
