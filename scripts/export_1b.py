"""The parts of scripts/export-1b: checkpoint FOLDER; goldens and export FOLDER SETTING...

Goldens come from the exporter's own quantised module, just before it is exported.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import torch

PARAMS = {"dim": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "hidden_dim": 8192,
          "norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": True}
DIM, HIDDEN, VOCABULARY = PARAMS["dim"], PARAMS["hidden_dim"], PARAMS["vocab_size"]
KEYS = PARAMS["n_kv_heads"] * DIM // PARAMS["n_heads"]

REPEATED = 32
"""Rows of a weight before they repeat."""


def checkpoint(folder: Path) -> None:
    """Writes weights in Meta's format."""
    generator = torch.Generator().manual_seed(7)

    def weight(rows: int, columns: int, factors: int = 1) -> torch.Tensor:
        """Rows that repeat, each time by one of so many factors: then fewer rows of logits are equal."""
        block = torch.randn(REPEATED, columns, generator=generator) / columns**0.5
        repeats = rows // REPEATED
        factor = 0.75 + 0.5 * torch.rand(factors, generator=generator).repeat(-(-repeats // factors))[:repeats]
        return (factor[:, None, None] * block).reshape(rows, columns).contiguous()

    weights = {"tok_embeddings.weight": weight(VOCABULARY, DIM, 64) * DIM**0.5,
               "output.weight": weight(VOCABULARY, DIM, 64), "norm.weight": torch.ones(DIM)}
    for layer in range(PARAMS["n_layers"]):
        for name, rows, columns in [("attention.wq", DIM, DIM), ("attention.wk", KEYS, DIM), ("attention.wv", KEYS, DIM),
                                    ("attention.wo", DIM, DIM), ("feed_forward.w1", HIDDEN, DIM),
                                    ("feed_forward.w2", DIM, HIDDEN), ("feed_forward.w3", HIDDEN, DIM)]:
            weights[f"layers.{layer}.{name}.weight"] = weight(rows, columns)
        weights[f"layers.{layer}.attention_norm.weight"] = torch.ones(DIM)
        weights[f"layers.{layer}.ffn_norm.weight"] = torch.ones(DIM)
    torch.save(weights, folder / "weights.pth")
    (folder / "params.json").write_text(json.dumps(PARAMS))


@torch.no_grad()
def goldens(model: torch.nn.Module, folder: Path) -> None:
    """A prompt of seven tokens and two single ones."""
    generator, position = torch.Generator().manual_seed(3), 0
    for step, length in enumerate((7, 1, 1)):
        tokens = torch.randint(0, VOCABULARY, (1, length), generator=generator)
        at = torch.tensor([position])
        logits = model(tokens, {"input_pos": at})
        for name, tensor in [("in_0", tokens), ("in_1", at), ("out_0", logits.float())]:
            np.save(folder / f"step{step}_{name}.npy", tensor.numpy())
        position += length


def main() -> None:
    part, folder = sys.argv[1], Path(sys.argv[2])
    if part == "checkpoint":
        checkpoint(folder)
        return
    if part == "goldens":
        from executorch.extension.llm.export.builder import LLMEdgeManager

        def stop(manager, *_, **__):
            goldens(manager.model, folder)
            os._exit(0)  # the exporter would go on; running the model has changed its caches

        LLMEdgeManager.export = stop
    sys.argv = ["export_llm", *sys.argv[3:]]
    runpy.run_module("executorch.extension.llm.export.export_llm", run_name="__main__")


if __name__ == "__main__":
    main()
