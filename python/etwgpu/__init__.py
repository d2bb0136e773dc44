"""The `etwgpu` command.

`run` and `generate` go through ExecuTorch's runtime; all else is the planner's, a program of its own in Rust. This
package stands apart from executorch_wgpu, because importing that one loads PyTorch and the runtime.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

TOOL_COMMANDS = ("info", "dump", "explain", "knobs", "check", "profile", "memory", "bench")

USAGE = """etwgpu: run ExecuTorch programs on the GPU through wgpu

  etwgpu info                                   the adapter, its features and limits, and what is made of them
  etwgpu dump MODEL.pte --stop-after STAGE      the program as text after parse, decode, passes or lower
  etwgpu explain MODEL.pte [--shape ...]        the route that each step takes, and why not another
  etwgpu knobs                                  every setting and its value
  etwgpu check MODELS_DIR [NAME...]             run models against their goldens, without ExecuTorch
  etwgpu profile MODEL.pte [--shape ...]        where a run's time goes, kernel by kernel; traces, comparisons
  etwgpu memory MODEL.pte                       what it takes of device and host memory
  etwgpu bench llm|load MODEL.pte               measure a decoder, without ExecuTorch
  etwgpu bench linear|sdpa|dispatch             measure linear layers and attention by route, launches that do nothing
  etwgpu run MODEL.pte --input X ...            run once through ExecuTorch's runtime
  etwgpu generate MODEL.pte --tokenizer T --prompt P
                                                generate text through ExecuTorch's LLM runner

Each command tells more with --help. ETWGPU_ADAPTER names the adapter by a part of its name, e.g. llvmpipe."""


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command in TOOL_COMMANDS:
        return run_tool(command, rest)
    if command in ("--version", "version"):
        import executorch_wgpu

        print(f"executorch-wgpu {executorch_wgpu.__version__} for executorch {executorch_wgpu.EXECUTORCH_VERSION}")
        return 0
    if command == "run":
        return run_program(rest)
    if command == "generate":
        return generate_text(rest)
    return fail(f"there is no command `{command}`; see etwgpu --help")


def fail(message: str) -> int:
    print(f"etwgpu: {message}", file=sys.stderr)
    return 1


def run_tool(command: str, rest: list[str]) -> int:
    """Becomes the planner's program."""
    package = importlib.util.find_spec("executorch_wgpu")
    folder = Path(package.submodule_search_locations[0]) if package else Path()
    tool = folder / "bin" / "etwgpu-tool"
    if not tool.exists():
        return fail(f"{tool} is missing: install executorch-wgpu again, without -DETWGPU_BUILD_TOOL=OFF")
    os.execv(tool, [str(tool), command, *rest])


def check_adapter() -> None:
    """Ends the command when there is nothing to run on."""
    import executorch_wgpu

    if not executorch_wgpu.is_available():
        sys.exit(fail("no GPU adapter found. Install a Vulkan driver, or name the software one: "
                      "ETWGPU_ADAPTER=llvmpipe (Debian: apt install mesa-vulkan-drivers). `etwgpu info` lists them."))


def run_program(rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="etwgpu run", description="Runs a program once and describes its outputs.")
    parser.add_argument("model", help="the program, a .pte file")
    parser.add_argument("--input", action="append", default=[], metavar="X",
                        help="one per input: a .npy file, or SHAPE:TYPE[:FILL] such as 1x5:int64:3, 2x8:float32:random or "
                             "scalar:int64:7")
    parser.add_argument("--method", default="forward")
    parser.add_argument("--data", help="external weights, a .ptd file")
    parser.add_argument("--repeat", type=int, default=1, help="times to run; the last run's outputs are shown")
    parser.add_argument("--save", metavar="DIR", help="write the outputs there as out_N.npy")
    options = parser.parse_args(rest)
    check_adapter()
    from .run import run

    return run(options)


def generate_text(rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="etwgpu generate", description="Generates text from a prompt.")
    parser.add_argument("model", help="the language model, a .pte file")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, or a tiktoken or sentencepiece model")
    parser.add_argument("--prompt", action="append", required=True, help="repeat it to ask several one after another")
    parser.add_argument("--data", help="external weights, a .ptd file")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")
    parser.add_argument("--bos", type=int, default=0, metavar="N", help="begin-of-text tokens to put in front")
    parser.add_argument("--verbose", action="store_true", help="show ExecuTorch's own log")
    options = parser.parse_args(rest)
    check_adapter()
    from .generate import generate

    return generate(options)

