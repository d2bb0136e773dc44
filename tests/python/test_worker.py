"""The thread that encodes commands ahead: there while methods run, gone with the last, and in nobody's way at the end."""

import os
import sys

import pytest

from conftest import DEMO

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="needs /proc, and a second core")

LOAD = """
import os, sys, threading
import torch, executorch_wgpu
from executorch.runtime import Runtime, Verification

def load():
    program = Runtime.get().load_program(sys.argv[1], verification=Verification.Minimal)
    return program, program.load_method("forward")

def run(method, steps=8):
    return [method.execute([torch.tensor([[5]]), torch.tensor([i])])[0].clone() for i in range(steps)]

def workers():
    names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    return names.count("etwgpu-encode")
"""


def check(process, expected: str) -> None:
    assert (process.returncode, process.stdout.split()) == (0, expected.split()), process.stderr
    assert "panicked" not in process.stderr


def test_the_process_ends_while_a_method_is_loaded(python):
    code = LOAD + "sys.modules['kept'] = load(); run(sys.modules['kept'][1]); print(workers())"
    check(python(code, DEMO), "1")


def test_methods_share_a_worker_that_goes_with_the_last(python):
    code = LOAD + """
for _ in range(10):
    kept = [load(), load()]
    first, second = (run(method) for _, method in kept)
    counts = [workers()]
    del kept[0]
    counts.append(workers())
    del kept
    counts.append(workers())
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert counts == [1, 1, 0], counts
print("ok")
"""
    check(python(code, DEMO), "ok")


def test_methods_run_on_threads_of_their_own(python):
    code = LOAD + """
def work(out):
    for _ in range(3):
        program, method = load()
        out.append(run(method))
        del method, program

outs = [[] for _ in range(3)]
threads = [threading.Thread(target=work, args=[out]) for out in outs]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
expected = outs[0][0]
assert all(torch.equal(a, b) for out in outs for steps in out for a, b in zip(steps, expected))
print(sum(len(out) for out in outs), workers())
"""
    # ExecuTorch's Python module lends its log to one thread at a time and does not notice a second one.
    check(python(code, DEMO, ETWGPU_LOG="off"), "9 0")


def test_a_fork_has_no_worker_and_drops_a_method_without_waiting_for_it(python):
    code = LOAD + """
import gc
kept = load()
run(kept[1])
child = os.fork()
if child == 0:
    del kept
    gc.collect()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
run(kept[1])
"""
    check(python(code, DEMO), "7")
