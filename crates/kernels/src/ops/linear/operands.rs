//! Templates whose bindings grow with them, so that names and buffers cannot drift apart.

use etwgpu_graph::DType;
use etwgpu_record::{Access, Binding};

use crate::args::TensorArg;
use crate::lower::Lower;
use crate::template::Template;

/// A template whose bindings grow with it.
pub(super) struct Builder<'a, 'b> {
    pub(super) lower: &'a mut Lower<'b>,
    pub(super) template: Template,
    pub(super) bindings: Vec<Binding>,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub(super) fn new(lower: &'a mut Lower<'b>, template: Template) -> Self {
        Self { lower, template, bindings: Vec::new() }
    }

    pub(super) fn bind(&mut self, name: &'static str, ty: &'static str, binding: Binding) {
        let template = std::mem::replace(&mut self.template, Template::new("", ""));
        self.template = template.storage(name, binding.access, ty);
        self.bindings.push(binding);
    }

    pub(super) fn read(&mut self, name: &'static str, ty: &'static str, tensor: &TensorArg) {
        let binding = self.lower.read(tensor);
        self.bind(name, ty, binding);
    }

    pub(super) fn write(&mut self, name: &'static str, ty: &'static str, tensor: &TensorArg) {
        let binding = self.lower.write(tensor);
        self.bind(name, ty, binding);
    }

    /// Like `read` and `write` of a tensor of which the launch touches only so many rows.
    pub(super) fn rows(
        &mut self,
        name: &'static str,
        ty: &'static str,
        tensor: &TensorArg,
        access: Access,
        rows: u64,
    ) {
        let row = tensor.bytes() / tensor.rows().max(1);
        let binding = match access {
            Access::Read => self.lower.read(tensor),
            Access::ReadWrite => self.lower.write(tensor),
        };
        self.bind(name, ty, binding.touching(rows * row));
    }

    pub(super) fn with(&mut self, change: impl FnOnce(Template) -> Template) {
        let template = std::mem::replace(&mut self.template, Template::new("", ""));
        self.template = change(template);
    }
}

/// WGSL array type of a float tensor's elements.
pub(super) fn scalars(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "array<f16>" } else { "array<f32>" }
}

/// The same in vectors of four.
pub(super) fn quads(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "array<vec4<f16>>" } else { "array<vec4<f32>>" }
}
