"""ETDump and Inspector: phases, GPU times and intermediate values, joined to the operators of the source program."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.devtools import Inspector
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime, Verification

import executorch_wgpu
from executorch_wgpu.devtools import parse_metadata, source_debug_handles
from conftest import DEMO, ROOT

PHASES = ["ETWGPU_PLAN", "ETWGPU_INPUTS", "ETWGPU_ENCODE", "ETWGPU_SUBMIT", "ETWGPU_ENCODE_NEXT", "ETWGPU_WAIT",
          "ETWGPU_OUTPUTS"]


class Gated(torch.nn.Module):
    """Enough different operators to tell apart which event belongs to which."""

    def __init__(self):
        super().__init__()
        self.up, self.gate, self.down = (torch.nn.Linear(*size, bias=False) for size in ((32, 64), (32, 64), (64, 32)))

    def forward(self, x):
        h = torch.sigmoid(self.gate(x)) * self.up(x)
        return torch.tanh(self.down(h)) + x


def traced(model: Path, inputs: list[tuple], folder: Path, values: bool = False, etrecord: Path | None = None,
           timed: bool = True) -> tuple[Inspector, dict]:
    """Runs a program with an event tracer; gives the inspector and the events of its runs by name."""
    executorch_wgpu.set_option("timestamp_query", "1" if timed else "0")
    try:
        program = Runtime.get().load_program(model, verification=Verification.Minimal, enable_etdump=True,
                                             debug_buffer_size=int(1e7) if values else 0)
        method = program.load_method("forward")
    finally:
        executorch_wgpu.set_option("timestamp_query", "0")
    for each in inputs:
        method.execute(list(each))
    etdump, buffer = folder / "run.etdp", folder / "values.bin"
    program.write_etdump_result_to_file(str(etdump), str(buffer))
    inspector = Inspector(etdump_path=str(etdump), debug_buffer_path=str(buffer) if values else None,
                          etrecord=str(etrecord) if etrecord else None,
                          delegate_metadata_parser=parse_metadata)
    return inspector, {event.name: event for block in inspector.event_blocks for event in block.events}


def kernels(events: dict) -> dict:
    """Metadata of the kernels by name."""
    return {name: event.delegate_debug_metadatas for name, event in events.items() if event.delegate_debug_metadatas}


def planned_launches(model: Path, *sizes: str) -> int:
    """Launches of a program's only delegate."""
    tool = Path(executorch_wgpu.library_path()).parents[1] / "bin" / "etwgpu-tool"
    done = subprocess.run([tool, "explain", model, "--json", *sizes], capture_output=True, text=True, check=True)
    [report] = json.loads(done.stdout)["delegates"]
    return report["totals"]["dispatches"]


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A program with its record, the module, and what each of its operators is called."""
    folder = tmp_path_factory.mktemp("gated")
    torch.manual_seed(0)
    module, x = Gated().eval(), torch.randn(8, 32)
    with torch.no_grad(), source_debug_handles():
        exported = torch.export.export(module, (x,))
        edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner()], generate_etrecord=True)
        lowered = edge.to_executorch()
    lowered.save(str(folder / "model.pte"))
    record = lowered.get_etrecord()
    record.update_representative_inputs([(x,)])
    record.save(str(folder / "etrecord.bin"))
    return folder, module, x


def test_every_kernel_of_a_decoder_has_gpu_time(tmp_path):
    run = (torch.tensor([[4, 5, 6]]), torch.tensor([0]))
    inspector, events = traced(DEMO, [run] * 3, tmp_path)
    times = kernels(events)
    # None is lost among events of the same name.
    assert len(times) == planned_launches(DEMO, "--shape", "1x3", "--value", "0"), times
    for name, data in times.items():
        event = events[name]
        assert all(time > 0 for time in event.perf_data.raw) and len(event.perf_data.raw) == 3, name
        assert data["bytes"] > 0 and data["node_ids"] and "@" + "+".join(map(str, data["node_ids"])) in name
    assert any(len(data["node_ids"]) > 3 for data in times.values()), "a fused kernel names all its operators"
    for phase in PHASES:
        assert phase in events or phase == "ETWGPU_ENCODE_NEXT", "a timed run encodes nothing ahead"
    # Milliseconds, as Inspector converts them, on the same clock as ExecuTorch's own events.
    calls, waits = events["DELEGATE_CALL"], events["ETWGPU_WAIT"]
    for call, wait, start, waiting in zip(calls.perf_data.raw, waits.perf_data.raw, calls.start_time, waits.start_time):
        assert start <= waiting and waiting / 1e6 + wait <= start / 1e6 + call
    total = sum(events[name].perf_data.raw[-1] for name in times)
    assert 0.02 * calls.perf_data.raw[-1] < total < calls.perf_data.raw[-1]


def test_without_the_setting_there_are_phases_alone(tmp_path):
    _, events = traced(DEMO, [(torch.tensor([[4]]), torch.tensor([0]))] * 2, tmp_path, timed=False)
    assert not kernels(events)
    assert set(PHASES) <= set(events), events.keys()


def test_kernels_join_the_operators_of_the_source(gated, tmp_path):
    folder, _, x = gated
    inspector, events = traced(folder / "model.pte", [(x,)], tmp_path, etrecord=folder / "etrecord.bin")
    times = kernels(events)
    assert times and all(events[name].delegate_backend_name == "VulkanBackend" for name in times)
    joined = [(data["kernel"], events[name].op_types) for name, data in times.items()]
    # In the program one linear operator stands for two of the source.
    linear = ["aten.permute_copy.default", "aten.mm.default"]
    assert [source for _, source in joined] == [
        linear, ["aten.sigmoid.default"], linear, ["aten.mul.Tensor"], linear, ["aten.tanh.default"], ["aten.add.Tensor"],
    ], joined
    assert [kernel for kernel, _ in joined if not kernel.startswith("linear")] == ["sigmoid", "mul", "tanh", "add"]
    table = inspector.event_blocks[-1].to_dataframe(include_delegate_debug_data=True)
    assert {"kernel", "gb_per_s"} <= set(table.columns)


def test_intermediate_values_are_those_of_the_source(gated, tmp_path):
    folder, module, x = gated
    inspector, events = traced(folder / "model.pte", [(x,)], tmp_path, values=True, etrecord=folder / "etrecord.bin")
    with torch.no_grad():
        hidden = torch.sigmoid(module.gate(x)) * module.up(x)
        expected = [module.gate(x), module.up(x), hidden, module.down(hidden), module(x)]
    logged = [value for event in events.values() if event.is_delegated_op for value in event.debug_data or []]
    for want in expected:
        assert any(got.shape == want.shape and torch.allclose(got, want, atol=1e-4) for got in logged), want.shape
    gaps = inspector.calculate_numeric_gap("MSE")
    assert len(gaps) >= 5 and all(max(gap) < 1e-6 for gap in gaps["gap"]), gaps


def test_values_are_not_read_unless_asked_for(gated, tmp_path):
    folder, _, x = gated
    _, events = traced(folder / "model.pte", [(x,)], tmp_path)
    assert not any(event.debug_data for event in events.values())


def test_the_peers_variable_is_ours_too(python):
    code = "import executorch_wgpu as e; print(e.get_option('timestamp_query'))"
    answers = [python(code, **environment).stdout.strip() for environment in (
        {}, {"WEBGPU_TIMESTAMP_QUERY": "1"}, {"ETWGPU_TIMESTAMP_QUERY": "0", "WEBGPU_TIMESTAMP_QUERY": "1"})]
    assert answers == ["0", "1", "0"]


def test_the_documents_program_runs(tmp_path):
    """The first Python program of docs/profiling.md, in a folder of its own."""
    (tmp_path / "demo").symlink_to(DEMO.parent)
    program = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "profiling.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words = ("embedding_q₄ @3", "ETWGPU_WAIT", "gb_per_s")
    assert all(word in done.stdout for word in words), done.stdout
