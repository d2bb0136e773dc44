"""The model in demo/: its answers through our delegate, ExecuTorch's LLM runner and the `etwgpu` command."""

import json
import re
import subprocess
import sys

from conftest import DEMO, ROOT, TOKENIZER

GREEDY = """
import json, sys, torch, executorch_wgpu
from executorch.runtime import Runtime, Verification
END = 2
answers = []
program = Runtime.get().load_program(sys.argv[1], verification=Verification.Minimal)
method = program.load_method("forward")
for golden in json.load(open(sys.argv[2])):
    tokens, position, made = golden["prompt_tokens"], 0, []
    while END not in made and len(made) < 8:
        logits = method.execute([torch.tensor([tokens]), torch.tensor([position])])[0]
        position += len(tokens)
        tokens = [int(logits.flatten().argmax())]
        made += tokens
    answers.append(made)
print("@" + json.dumps(answers))
"""


def etwgpu(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "etwgpu", *map(str, arguments)], capture_output=True, text=True)


def test_greedy_tokens_equal_eager_and_answers_are_right(python):
    goldens = json.loads((ROOT / "demo" / "goldens.json").read_text())
    assert len(goldens) >= 200
    result = python(GREEDY, DEMO, ROOT / "demo" / "goldens.json")
    line = next((line for line in result.stdout.splitlines() if line.startswith("@")), None)
    assert line, result.stderr
    made = json.loads(line[1:])
    assert made == [golden["greedy_tokens"] for golden in goldens]
    right = sum(sum_of(golden["prompt"]) == golden["answer"] for golden in goldens)
    assert right >= 0.95 * len(goldens)


def sum_of(prompt: str) -> str:
    a, b = re.fullmatch(r"(\d+)\+(\d+)=", prompt).groups()
    return str(int(a) + int(b))


def test_generate_streams_text_and_speeds():
    result = etwgpu("generate", DEMO, "--tokenizer", TOKENIZER, "--prompt", "123+456=", "--prompt", "555+555=")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "123+456=579" and lines[2] == "555+555=1110"
    for figure in (r"load [\d.]+ s", r"first token [\d.]+ s", r"prefill [\d.]+ tokens/s", r"decode [\d.]+ tokens/s"):
        assert re.search(figure, lines[1]), lines[1]


def test_generate_explains_what_is_missing(tmp_path):
    result = etwgpu("generate", tmp_path / "none.pte", "--tokenizer", TOKENIZER, "--prompt", "1")
    assert result.returncode == 1 and "there is no file" in result.stderr
    (tmp_path / "broken.pte").write_bytes(DEMO.read_bytes()[:1000])
    result = etwgpu("generate", tmp_path / "broken.pte", "--tokenizer", TOKENIZER, "--prompt", "1")
    assert result.returncode == 1 and "etwgpu generate:" in result.stderr


def test_run_describes_and_saves_outputs(tmp_path):
    result = etwgpu("run", DEMO, "--input", "1x3:int64:5", "--input", "1:int64:0", "--repeat", 2, "--save", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ran in") == 2 and "output 0: [1, 16] float32" in result.stdout
    assert (tmp_path / "out_0.npy").exists()


def test_run_explains_a_bad_input():
    result = etwgpu("run", DEMO, "--input", "1x3:int46")
    assert result.returncode == 1 and "int46 is no element type" in result.stderr


def test_planner_commands():
    assert "etwgpu run" in etwgpu("--help").stdout and etwgpu("nonsense").returncode == 1
    info = etwgpu("info")
    assert info.returncode == 0 and info.stdout.strip(), info.stderr
    for stage in ("parse", "decode", "passes", "lower"):
        dump = etwgpu("dump", DEMO, "--stop-after", stage)
        assert dump.returncode == 0 and dump.stdout.strip(), dump.stderr
    explain = etwgpu("explain", DEMO)
    assert explain.returncode == 0 and explain.stdout.strip(), explain.stderr
