//! What an operator sees while it is lowered, and what it records into.

use etwgpu_graph::{Value, ValueId};
use etwgpu_record::{
    Access, Binding, BufferDesc, Caps, Dispatch, LiveParam, Recording, Shader, WeightLayout,
};

use super::Planner;
use crate::args::{NodeCx, OpError, TensorArg};
use crate::buffers::{Buffers, padded};
use crate::route::{Considered, Refusal, Route};
use crate::storage::Kind;

/// What an operator records into.
pub struct Lower<'a> {
    /// The node and its live arguments.
    pub cx: NodeCx<'a>,
    pub(super) planner: &'a Planner<'a>,
    pub(super) recording: &'a mut Recording,
    pub(super) buffers: &'a mut Buffers,
    pub(super) considered: Vec<Considered>,
    pub(super) follows_integers: bool,
    /// The route that is being recorded.
    pub(super) route: Option<&'static str>,
    /// Whether launches stand for the node at `cx` alone, not for all of its group.
    pub(super) alone: bool,
}

/// A launch under construction.
pub struct Launch {
    /// What runs.
    pub shader: Shader,
    /// Storage bindings 1, 2, ….
    pub bindings: Vec<Binding>,
    /// The uniform `Params`, word by word.
    pub params: Vec<u32>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Arithmetic operations.
    pub ops: u64,
}

impl Lower<'_> {
    /// The device.
    pub fn caps(&self) -> &Caps {
        self.planner.caps
    }

    /// What lowering knows besides the live sizes.
    pub(crate) fn planner(&self) -> &Planner<'_> {
        self.planner
    }

    /// Binds a tensor for reading.
    pub fn read(&mut self, arg: &TensorArg) -> Binding {
        self.bind(arg, Access::Read)
    }

    /// Binds a tensor for writing, and possibly reading.
    pub fn write(&mut self, arg: &TensorArg) -> Binding {
        self.bind(arg, Access::ReadWrite)
    }

    fn bind(&mut self, arg: &TensorArg, access: Access) -> Binding {
        let buffer = self.buffers.of_tensor(self.planner, self.cx.live, self.recording, arg);
        Binding { buffer, offset: 0, size: padded(arg.bytes()), touched: arg.bytes(), access }
    }

    /// Lets output 0 be the same memory as a tensor with the same elements, where nothing changes either; else the output
    /// has to be written.
    pub fn shares(&mut self, source: &TensorArg) -> Result<bool, OpError> {
        let out = self.cx.out(0)?;
        let storage = self.planner.storage;
        let may = (out.dtype, out.numel()) == (source.dtype, source.numel())
            && [source.id, out.id].iter().all(|&id| storage.is_lasting_temp(id));
        if may {
            let buffer = self.read(source).buffer;
            self.buffers.values.insert(storage.root(out.id), buffer);
        }
        Ok(may)
    }

    /// Whether a tensor is a read-only constant.
    pub fn is_weight(&self, arg: &TensorArg) -> bool {
        self.planner.storage.kind(arg.id) == Kind::Weight
    }

    /// Binds a constant in another arrangement than the serialized one.
    pub fn weight(&mut self, arg: &TensorArg, layout: WeightLayout) -> Binding {
        let root = self.planner.storage.root(arg.id);
        let buffer = self.buffers.of_weight(self.planner.graph, self.recording, root, layout);
        let access = Access::Read;
        Binding { buffer, offset: 0, size: padded(arg.bytes()), touched: arg.bytes(), access }
    }

    /// A buffer of this node alone.
    pub fn scratch(&mut self, size: u64) -> Binding {
        let buffer = self.recording.add_buffer(BufferDesc::Temp { size: padded(size) });
        Binding { buffer, offset: 0, size: padded(size), touched: size, access: Access::ReadWrite }
    }

    /// Counters of this node: zero at first, and its launches leave them so, for nodes that get them after it.
    pub fn counters(&mut self, count: u64) -> Binding {
        let size = padded(count * 4);
        let buffer = self.recording.add_buffer(BufferDesc::Counters { size });
        Binding { buffer, offset: 0, size, touched: count * 4, access: Access::ReadWrite }
    }

    /// Says that what is recorded depends on the values of symbolic integers, beyond live parameters.
    pub fn follow_integers(&mut self) {
        self.follows_integers = true;
    }

    /// Number at argument `index`, followed where it is a symbolic integer.
    pub fn number(&mut self, index: usize) -> Result<f64, OpError> {
        if matches!(self.cx.value(index), Value::SymInt) {
            self.follow_integers();
        }
        self.cx.float(index)
    }

    /// Adds a launch, after checking it against the device's limits.
    pub fn launch(&mut self, launch: Launch) -> Result<(), OpError> {
        self.launch_live(launch, &[])
    }

    /// Adds a launch some of whose parameter words are symbolic integers: word and value.
    pub fn launch_live(&mut self, launch: Launch, live: &[(u32, Option<ValueId>)]) -> Result<(), OpError> {
        let caps = self.planner.caps;
        if let Some(binding) = launch.bindings.iter().find(|b| b.size > caps.max_binding) {
            return Err(crate::unsupported!(
                "{} binds {} bytes, the device allows {} in one binding",
                launch.shader.label,
                binding.size,
                caps.max_binding
            ));
        }
        if launch.bindings.len() > caps.max_storage_buffers as usize {
            return Err(crate::unsupported!(
                "{} binds {} buffers, the device allows {}",
                launch.shader.label,
                launch.bindings.len(),
                caps.max_storage_buffers
            ));
        }
        if let Some(&groups) = launch.grid.iter().find(|&&g| g > caps.max_grid) {
            return Err(crate::unsupported!(
                "{} needs {groups} workgroups along one dimension, the device allows {}",
                launch.shader.label,
                caps.max_grid
            ));
        }
        if !caps.f16 && launch.shader.enables("f16") {
            return Err(crate::unsupported!(
                "{} needs f16 arithmetic, which the device lacks",
                launch.shader.label
            ));
        }
        let bytes = launch.bindings.iter().map(|b| b.touched).sum();
        let Launch { shader, bindings, params, grid, ops } = launch;
        let live_params =
            live.iter().filter_map(|&(word, value)| Some(LiveParam { word, value: value?.0 })).collect();
        let node = self.cx.index as u32;
        self.recording.dispatches.push(Dispatch {
            shader,
            bindings,
            params,
            live_params,
            // Known once all of the node is lowered.
            is_patched: false,
            grid,
            node,
            sources: if self.alone { self.cx.node().handles.clone() } else { Vec::new() },
            route: self.route,
            bytes,
            ops,
        });
        Ok(())
    }

    /// Folds a count of workgroups into a grid within the device's limits.
    pub fn grid(&self, groups: u64) -> [u32; 3] {
        fold_grid(groups, self.planner.caps.max_grid)
    }

    /// Records what one node of a group does by itself.
    pub(crate) fn for_node(
        &mut self,
        node: usize,
        record: impl FnOnce(&mut Self) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let (cx, alone, route) = (self.cx, self.alone, self.route);
        (self.cx, self.alone, self.route) = (cx.at(node), true, None);
        let recorded = record(self);
        (self.cx, self.alone, self.route) = (cx, alone, route);
        recorded
    }

    /// Notes a way to run a group that was considered, and whether it fits.
    pub(crate) fn consider(&mut self, route: &'static str, fit: Result<(), Refusal>) {
        self.considered.push(Considered { route, refusal: fit.err() });
    }

    /// Takes the first route that fits, preferred ones first; fails with every refusal when none does.
    pub fn choose<P>(&mut self, routes: &[Route<P>], problem: &P) -> Result<(), OpError> {
        let options = self.planner.options;
        let is_preferred = |r: &&Route<P>| options.prefer.iter().any(|name| name == r.name);
        let (first, rest): (Vec<_>, Vec<_>) = routes.iter().partition(is_preferred);
        for route in first.into_iter().chain(rest) {
            let avoided = self.planner.avoids(route.name);
            let fit =
                if avoided { Err("switched off".into()) } else { (route.fits)(problem, self.planner.caps) };
            let refusal = fit.err();
            let taken = refusal.is_none();
            self.considered.push(Considered { route: route.name, refusal });
            if taken {
                let outer = self.route.replace(route.name);
                let recorded = (route.record)(self, problem);
                self.route = outer;
                return recorded;
            }
        }
        let reasons: Vec<String> = self
            .considered
            .iter()
            .map(|c| format!("{}: {}", c.route, c.refusal.as_deref().unwrap_or("taken")))
            .collect();
        Err(crate::unsupported!("no route fits ({})", reasons.join("; ")))
    }
}

/// Folds a count of workgroups into `[x, y, 1]`; shaders read it back with `linear_workgroup`.
///
/// ```
/// use etwgpu_kernels::lower::fold_grid;
/// assert_eq!(fold_grid(1000, 65535), [1000, 1, 1]);
/// assert_eq!(fold_grid(70_000, 65535), [35_000, 2, 1]);
/// ```
pub fn fold_grid(groups: u64, max: u32) -> [u32; 3] {
    let max = u64::from(max);
    if groups <= max {
        return [groups as u32, 1, 1];
    }
    let rows = groups.div_ceil(max);
    [groups.div_ceil(rows) as u32, rows as u32, 1]
}

#[cfg(test)]
mod tests {
    use super::fold_grid;

    #[test]
    fn grids_fold_at_the_limit() {
        assert_eq!(fold_grid(65535, 65535), [65535, 1, 1]);
        for groups in [65536, 65537, 131_071, 10_000_000] {
            let [x, y, _] = fold_grid(groups, 65535);
            assert!(x <= 65535 && y <= 65535 && u64::from(x) * u64::from(y) >= groups);
        }
    }
}
