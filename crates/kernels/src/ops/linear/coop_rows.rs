//! Activations as cooperative matrices take them: rows of `f16`, normalised and quantised before where the launch is to
//! do that. Rounded once, they are read by every tile of output channels at half their size.

use etwgpu_graph::DType;
use etwgpu_record::{Access, Binding, Caps};

use super::joint::{Joint, Quantise};
use super::operands::{Builder, scalars};
use crate::args::OpError;
use crate::lower::{Launch, Lower};
use crate::ops::rms_norm;
use crate::route::{Refusal, require};
use crate::template::Template;

/// Most vectors of four channels of an invocation.
const MAX_ITEMS: u32 = 32;

/// Activations of the products, and the scale of each row where they are quantised.
pub(super) struct Rows {
    pub(super) rows: Binding,
    pub(super) scale: Option<(Binding, DType)>,
}

impl Rows {
    /// Binds the scales for what follows the products.
    pub(super) fn bind_scale(&self, builder: &mut Builder<'_, '_>) {
        if let Some((scale, dtype)) = &self.scale {
            builder.with(|t| t.flag("ROW_SCALE", true));
            builder.bind("x_scale", scalars(*dtype), *scale);
        }
    }
}

fn workgroup(k: u32, caps: &Caps) -> u32 {
    rms_norm::workgroup(k / 8, caps)
}

pub(super) fn fits(joint: &Joint, caps: &Caps) -> Result<(), Refusal> {
    let rounds = matches!(joint.quantise, Quantise::Here) && joint.x.dtype != DType::F32;
    require(!rounds, "quantisation parameters are rounded to f16")?;
    fits_channels(joint.k, caps)
}

/// Whether a workgroup can hold a row.
pub(super) fn fits_channels(k: u32, caps: &Caps) -> Result<(), Refusal> {
    require(k / 4 <= MAX_ITEMS * workgroup(k, caps), "K is too long for one workgroup")
}

/// Records what comes before the products.
pub(super) fn record(lower: &mut Lower<'_>, joint: &Joint) -> Result<Rows, OpError> {
    let is_plain = joint.norm.is_none() && matches!(joint.quantise, Quantise::No);
    if is_plain && joint.x.dtype == DType::F16 {
        return Ok(Rows { rows: lower.read(&joint.x), scale: None });
    }
    let wg = workgroup(joint.k, lower.caps());
    let template = Template::new("coop_rows", include_str!("coop_rows.wgsl"))
        .set("WG", wg)
        .set("K", joint.k)
        .set("ITEMS", (joint.k / 4).div_ceil(wg))
        .flag("F16", joint.x.dtype == DType::F16)
        .flag("SUBGROUPS", lower.caps().subgroups.is_some());
    let rounded = lower.scratch(joint.m * u64::from(joint.k) * 2);
    let mut builder = Builder::new(lower, template);
    builder.read("x", "array<elem4>", &joint.x);
    builder.bind("rounded", "array<vec4<f16>>", rounded);
    joint.bind_norm(&mut builder);
    let scale = bind_quantise(joint, &mut builder);
    let Builder { lower, template, bindings } = builder;
    let eps = joint.norm.as_ref().map_or(0.0, |n| n.eps);
    let (shader, params, grid) =
        (template.shader(), vec![joint.m as u32, eps.to_bits()], lower.grid(joint.m));
    let ops = joint.m * u64::from(joint.k) * 4;
    lower.launch(Launch { shader, bindings, params, grid, ops })?;
    let read = |binding: Binding| Binding { access: Access::Read, ..binding };
    Ok(Rows { rows: read(rounded), scale: scale.map(|(binding, dtype)| (read(binding), dtype)) })
}

/// Binds the parameters of quantised activations; returns where the scales are.
fn bind_quantise(joint: &Joint, builder: &mut Builder<'_, '_>) -> Option<(Binding, DType)> {
    match &joint.quantise {
        Quantise::No => None,
        Quantise::Given(given) => {
            builder.with(|t| t.flag("DYNAMIC_Q8", true));
            joint.bind_quantised(builder);
            Some((builder.lower.read(&given.scale), given.scale.dtype))
        }
        Quantise::Here => {
            builder.with(|t| t.flag("DYNAMIC_Q8", true).flag("QUANTISE_HERE", true));
            let scale = builder.lower.scratch(joint.m * 4);
            builder.bind("row_scale", scalars(DType::F32), scale);
            Some((scale, DType::F32))
        }
    }
}
