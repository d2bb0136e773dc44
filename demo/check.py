"""Checks that adder.pte is one VulkanBackend delegate with nothing left on the CPU, and at most 2 MB."""

from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import DelegateCall

from questions import HERE

data = (HERE / "adder.pte").read_bytes()
program = deserialize_pte_binary(data).program
plans = {plan.name: plan for plan in program.execution_plan}
forward = plans["forward"]
assert [d.id for d in forward.delegates] == ["VulkanBackend"], forward.delegates
instructions = [i.instr_args for chain in forward.chains for i in chain.instructions]
assert len(instructions) == 1 and isinstance(instructions[0], DelegateCall), instructions
assert not forward.operators, forward.operators
assert len(data) <= 2_000_000
for name, plan in plans.items():
    if name != "forward":
        print(name, [plan.values[i].val for i in plan.outputs])
for kind, indices in (("input", forward.inputs), ("output", forward.outputs)):
    for i in indices:
        value = forward.values[i].val
        print(kind, value.scalar_type.name, list(value.sizes), value.shape_dynamism.name)
print(f"adder.pte: {len(data)} bytes, one VulkanBackend delegate, no CPU operator")
