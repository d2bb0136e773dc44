"""Answers the held-out questions with the eager 4-bit model and writes goldens.json.

The model comes from the exporter's own loader with the settings of export.yaml, so its quantised weights
are the ones in adder.pte. Generation is greedy, prompt at once and then token by token through the KV cache,
until the end token, which is the last of `greedy_tokens`.
"""

import json
import os

import torch
from executorch.examples.models.llama.export_llama_lib import get_llama_model
from executorch.extension.llm.export.config.llm_config import LlmConfig
from omegaconf import OmegaConf

from questions import EOS, HERE, TOKENS, encode


def load_model():
    os.chdir(HERE)
    config = OmegaConf.merge(OmegaConf.structured(LlmConfig), OmegaConf.load("export.yaml"))
    return get_llama_model(OmegaConf.to_object(config))[0]


@torch.no_grad()
def generate(model, prompt, most=8):
    """Greedy tokens and, over all of them, the smallest lead of the best logit over the second."""
    tokens, position, made, lead = prompt, 0, [], float("inf")
    while len(made) < most and EOS not in made:
        logits = model(torch.tensor([tokens]), {"input_pos": torch.tensor([position])}).flatten()
        best = logits.topk(2).values
        lead = min(lead, (best[0] - best[1]).item())
        position += len(tokens)
        tokens = [int(logits.argmax())]
        made += tokens
    return made, lead


def main():
    torch.set_num_threads(1)
    model = load_model()
    questions = json.loads((HERE / "questions.json").read_text())
    goldens, leads = [], []
    for question in questions:
        prompt = encode(question["prompt"])
        made, lead = generate(model, prompt)
        leads.append(lead)
        answer = "".join(TOKENS[t] for t in made if t != EOS)
        goldens.append(
            {"prompt": question["prompt"], "prompt_tokens": prompt, "greedy_tokens": made, "answer": answer}
        )
    lines = ",\n".join(json.dumps(g) for g in goldens)
    (HERE / "goldens.json").write_text(f"[\n{lines}\n]\n")
    right = sum(g["answer"] == q["answer"] and g["greedy_tokens"][-1] == EOS for g, q in zip(goldens, questions))
    print(f"{right} of {len(questions)} right; the smallest lead of a chosen token is {min(leads):.3f}")


if __name__ == "__main__":
    main()
