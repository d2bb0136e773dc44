"""Trains a small Llama on three-digit addition and writes adder.pth in Meta's checkpoint layout.

The model sees `123+456=579` and an end token and is scored on what follows `=`. In the last part of training every
weight matrix is rounded in the forward pass exactly as the exporter will round it (4-bit symmetric,
groups of 32), so that the 4-bit model answers as well as the float one.
"""

import argparse
import json
import math
import random
import time

import torch
import torch.nn.functional as F
from torch import nn

from questions import BOS, EOS, HERE, PAD, encode, held_out, make_questions, operands

GROUP = 32
LENGTH = 14  # begin token, three digits, +, three digits, =, four digits, end token


def round_to_4_bits(weight):
    """torchao's symmetric int4 scheme: scale = max |w| / 7.5 per group, codes from -8 to 7.

    It multiplies by the reciprocal, and so does this: the largest weight of a group lies at 7.5, where the two differ.
    """
    groups = weight.view(weight.shape[0], -1, GROUP)
    scale = groups.abs().amax(dim=2, keepdim=True) / 7.5
    scale = scale.clamp(min=torch.finfo(torch.float32).smallest_normal)
    rounded = ((groups * (1.0 / scale)).round().clamp(-8, 7) * scale).view_as(weight)
    return weight + (rounded - weight).detach()


class Linear(nn.Linear):
    quantised = False

    def forward(self, x):
        return F.linear(x, round_to_4_bits(self.weight) if self.quantised else self.weight)


class Embedding(nn.Embedding):
    quantised = False

    def forward(self, ids):
        return F.embedding(ids, round_to_4_bits(self.weight) if self.quantised else self.weight)


def rotate(x, cos, sin):
    """RoPE on interleaved pairs, as Meta's checkpoints have it."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.heads, self.kv_heads = p["n_heads"], p["n_kv_heads"]
        self.head_dim = p["dim"] // self.heads
        self.wq = Linear(p["dim"], self.heads * self.head_dim, bias=False)
        self.wk = Linear(p["dim"], self.kv_heads * self.head_dim, bias=False)
        self.wv = Linear(p["dim"], self.kv_heads * self.head_dim, bias=False)
        self.wo = Linear(self.heads * self.head_dim, p["dim"], bias=False)

    def forward(self, x, cos, sin):
        batch, length, dim = x.shape
        split = lambda y: y.view(batch, length, -1, self.head_dim).transpose(1, 2)
        q = rotate(split(self.wq(x)), cos, sin)
        k = rotate(split(self.wk(x)), cos, sin)
        y = F.scaled_dot_product_attention(q, k, split(self.wv(x)), is_causal=True, enable_gqa=True)
        return self.wo(y.transpose(1, 2).reshape(batch, length, dim))


class FeedForward(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.w1 = Linear(p["dim"], p["hidden_dim"], bias=False)
        self.w2 = Linear(p["hidden_dim"], p["dim"], bias=False)
        self.w3 = Linear(p["dim"], p["hidden_dim"], bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.attention_norm = nn.RMSNorm(p["dim"], p["norm_eps"])
        self.attention = Attention(p)
        self.ffn_norm = nn.RMSNorm(p["dim"], p["norm_eps"])
        self.feed_forward = FeedForward(p)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.tok_embeddings = Embedding(p["vocab_size"], p["dim"])
        self.layers = nn.ModuleList(Layer(p) for _ in range(p["n_layers"]))
        self.norm = nn.RMSNorm(p["dim"], p["norm_eps"])
        self.output = Linear(p["dim"], p["vocab_size"], bias=False)
        half = p["dim"] // p["n_heads"] // 2
        frequency = p["rope_theta"] ** (-torch.arange(half) / half)
        angle = torch.outer(torch.arange(128), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                depth = 2 * p["n_layers"] if name.endswith(("wo.weight", "w2.weight")) else 1
                nn.init.normal_(weight, std=(weight.shape[1] * depth) ** -0.5)

    def forward(self, ids):
        x = self.tok_embeddings(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output(self.norm(x))

    def quantise(self, on):
        for module in self.modules():
            if isinstance(module, (Linear, Embedding)):
                module.quantised = on


def sample_pair(rng):
    """A training pair: half with a digit count drawn for each operand, the others uniform, 0 to 999."""
    while True:
        if rng.random() < 0.5:
            a, b = (rng.randrange(10 ** rng.randint(1, 3)) for _ in range(2))
        else:
            a, b = rng.randrange(1000), rng.randrange(1000)
        if not held_out(a, b):
            return a, b


def make_batch(pairs):
    """Token rows and their targets: -100 (ignored) everywhere but for the answer and its end token."""
    rows, targets = [], []
    for a, b in pairs:
        prompt, answer = [BOS] + encode(f"{a}+{b}="), encode(str(a + b)) + [EOS]
        fill = LENGTH - len(prompt) - len(answer)
        rows.append(prompt + answer + [PAD] * fill)
        targets.append([-100] * (len(prompt) - 1) + answer + [-100] * (fill + 1))
    return torch.tensor(rows), torch.tensor(targets)


@torch.no_grad()
def accuracy(model, pairs, skip):
    """The share of pairs answered right: every token of the answer and the end token is the model's first choice.

    That is what greedy generation needs too, because up to its first mistake it reads the same tokens.
    """
    right = 0
    for first in range(0, len(pairs), 1000):
        ids, targets = make_batch(pairs[first : first + 1000])
        guesses = model(ids[:, skip:]).argmax(-1)
        targets = targets[:, skip:]
        right += ((guesses == targets) | (targets == -100)).all(dim=1).sum().item()
    return right / len(pairs)


def report(model, pairs):
    model.quantise(False)
    plain = accuracy(model, pairs, 1)
    model.quantise(True)
    rounded, after_begin = accuracy(model, pairs, 1), accuracy(model, pairs, 0)
    return f"fp32 {plain:.4f}, 4-bit {rounded:.4f}, 4-bit after a begin token {after_begin:.4f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--float-steps", type=int, default=3500, help="steps before 4-bit rounding sets in")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", default=HERE / "adder.pth")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = random.Random(1)
    model = Llama(json.loads((HERE / "params.json").read_text()))
    questions = [operands(question["prompt"]) for question in make_questions()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    start = time.time()
    for step in range(args.steps):
        warm = min(1, (step + 1) / 100)
        rate = args.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / args.steps)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate
        model.quantise(step >= args.float_steps)
        ids, targets = make_batch([sample_pair(rng) for _ in range(args.batch)])
        skip = step % 2  # every other batch goes without the begin token, so that prompts work with and without it
        loss = F.cross_entropy(model(ids[:, skip:]).flatten(0, 1), targets[:, skip:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 99:
            note = report(model, questions) if step % 500 == 499 else ""
            print(f"step {step + 1} loss {loss.item():.4f} {time.time() - start:.0f} s {note}", flush=True)
    held = [(a, b) for a in range(1000) for b in range(1000) if held_out(a, b)]
    print(f"all {len(held)} held-out pairs: {report(model, held)}")
    torch.save(model.state_dict(), args.out)


if __name__ == "__main__":
    main()
