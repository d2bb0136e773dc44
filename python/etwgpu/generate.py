"""`etwgpu generate`: text through ExecuTorch's LLM runner, shown as it comes, with the figures people compare."""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import executorch_wgpu


@contextlib.contextmanager
def quiet_runner(verbose: bool):
    """Keeps what the runner itself writes out of sight: it prints every token and its log beside our callback.

    Yields a stream to the real standard output and a function that returns what was hidden.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    hidden = tempfile.TemporaryFile()
    shown = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    try:
        os.dup2(hidden.fileno(), 1)
        if not verbose:
            os.dup2(hidden.fileno(), 2)
        yield shown, lambda: read_all(hidden)
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
        shown.close()
        hidden.close()


def read_all(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class LoadingBar:
    """A bar on the terminal that follows the weights on their way to the GPU, until the first token."""

    def __init__(self, total: int, terminal: bool):
        self.total = max(total, 1)
        self.stream = os.fdopen(os.dup(2), "w") if terminal else None
        self.drawn = False
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.draw, daemon=True)
        self.thread.start()

    def draw(self) -> None:
        start, before = time.monotonic(), executorch_wgpu.loaded_bytes()
        while not self.done.wait(0.1):
            if self.stream is None or time.monotonic() - start < 0.3:
                continue
            part = min((executorch_wgpu.loaded_bytes() - before) / self.total, 1.0)
            filled = int(part * 30)
            bar = "#" * filled + "-" * (30 - filled)
            self.stream.write(f"\rloading [{bar}] {part:4.0%} {time.monotonic() - start:5.1f} s")
            self.stream.flush()
            self.drawn = True

    def close(self) -> None:
        if not self.done.is_set():
            self.done.set()
            self.thread.join()
            if self.drawn:
                self.stream.write("\r" + " " * 60 + "\r")
            if self.stream is not None:
                self.stream.close()


def special_tokens(tokenizer: str) -> set[str]:
    """Texts of a Hugging Face tokenizer's control tokens, which are no part of an answer."""
    try:
        added = json.loads(Path(tokenizer).read_text(encoding="utf-8")).get("added_tokens", [])
    except (OSError, ValueError, AttributeError):
        return set()
    return {token["content"] for token in added if token.get("special")}


class Answer:
    """Collects one answer while it is generated."""

    def __init__(self, prompt: str, shown, bar: LoadingBar, hide: set[str]):
        self.prompt, self.shown, self.bar, self.hide = prompt, shown, bar, hide
        self.times: list[float] = []
        self.load_s = self.first_token_s = self.prefill_s = 0.0
        self.prompt_tokens = 0

    def on_token(self, text: str) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) == 1:
            self.bar.close()
            self.shown.write(self.prompt)
        if text not in self.hide:
            self.shown.write(text)
            self.shown.flush()

    def on_stats(self, stats) -> None:
        self.load_s = (stats.model_load_end_ms - stats.model_load_start_ms) / 1e3
        self.first_token_s = (stats.first_token_ms - stats.inference_start_ms) / 1e3
        self.prefill_s = (stats.prompt_eval_end_ms - stats.inference_start_ms) / 1e3
        self.prompt_tokens = stats.num_prompt_tokens

    def figures(self) -> str:
        """Load and prefill by the runner's clock, decoding by the arrival of the tokens: the clock counts milliseconds."""
        steps = len(self.times) - 1
        decode = f"{steps / (self.times[-1] - self.times[0]):.1f}" if steps > 0 else "-"
        return (f"[load {self.load_s:.2f} s, first token {self.first_token_s:.3f} s, "
                f"prefill {self.prompt_tokens / max(self.prefill_s, 1e-3):.1f} tokens/s ({self.prompt_tokens} tokens), "
                f"decode {decode} tokens/s ({len(self.times)} tokens)]")


def generate(options) -> int:
    for path in (options.model, options.tokenizer, options.data):
        if path and not Path(path).is_file():
            print(f"etwgpu generate: there is no file {path}", file=sys.stderr)
            return 1
    bar = LoadingBar(os.path.getsize(options.model), sys.stderr.isatty() and not options.verbose)
    problem = None
    with quiet_runner(options.verbose) as (shown, hidden):
        try:
            ask_all(options, shown, bar)
        except (RuntimeError, ValueError) as error:
            problem = f"{hidden()}\netwgpu generate: {error}; the log above says more"
        finally:
            bar.close()
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def ask_all(options, shown, bar: LoadingBar) -> None:
    """Answers each prompt on its own."""
    from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner  # logs while it is imported

    runner = TextLLMRunner(options.model, options.tokenizer, options.data)
    config = GenerationConfig(echo=False, max_new_tokens=options.max_new_tokens, temperature=options.temperature,
                              num_bos=options.bos)
    hide = special_tokens(options.tokenizer)
    for prompt in options.prompt:
        runner.reset()
        answer = Answer(prompt, shown, bar, hide)
        runner.generate(prompt, config, answer.on_token, answer.on_stats)
        shown.write(f"\n{answer.figures()}\n")
        shown.flush()
