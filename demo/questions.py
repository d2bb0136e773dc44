"""The question format, its tokens, and the split into training and held-out pairs.

A line of the language is `123+456=579<|end_of_text|>`: two numbers from 0 to 999 without leading zeros,
their sum in natural digit order, and the end token. One character is one token.
"""

import hashlib
import json
import pathlib
import random

HERE = pathlib.Path(__file__).parent
TOKENS = ["<unk>", "<|begin_of_text|>", "<|end_of_text|>"] + list("0123456789+=") + ["<pad>"]
UNK, BOS, EOS, PAD = 0, 1, 2, 15
ID = {text: number for number, text in enumerate(TOKENS)}


def encode(text):
    return [ID[c] for c in text]


def operands(prompt):
    """The two numbers of a prompt such as `123+456=`."""
    return tuple(int(number) for number in prompt.rstrip("=").split("+"))


def held_out(a, b):
    """One pair in fifty never reaches training, whichever of the two numbers comes first."""
    low, high = min(a, b), max(a, b)
    return int.from_bytes(hashlib.sha256(f"{low}+{high}".encode()).digest()[:4], "big") % 50 == 0


def make_questions(count=200, seed=0):
    """Held-out questions: nine in ten of two three-digit numbers, the others of any size."""
    rng = random.Random(seed)
    questions = {}
    while len(questions) < count:
        least = 100 if len(questions) < count * 9 // 10 else 0
        a, b = rng.randint(least, 999), rng.randint(least, 999)
        if held_out(a, b):
            questions[f"{a}+{b}="] = str(a + b)
    return [{"prompt": p, "answer": s} for p, s in questions.items()]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(q) for q in make_questions())
    (HERE / "questions.json").write_text(f"[\n{lines}\n]\n")
