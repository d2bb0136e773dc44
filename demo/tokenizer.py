"""Writes tokenizer.json and tokenizer_config.json: one character is one token, in Hugging Face's format."""

import json

from questions import BOS, EOS, HERE, PAD, TOKENS, UNK


def added(number):
    return {
        "id": number, "content": TOKENS[number], "single_word": False, "lstrip": False,
        "rstrip": False, "normalized": False, "special": True,
    }


def main():
    # ExecuTorch's C++ tokenizer reads BPE models; one without merges leaves every character alone.
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(number) for number in (UNK, BOS, EOS, PAD)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": TOKENS[UNK],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate(TOKENS)},
            "merges": [],
        },
    }
    config = {"bos_token": TOKENS[BOS], "eos_token": TOKENS[EOS], "unk_token": TOKENS[UNK], "pad_token": TOKENS[PAD]}
    for name, data in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        (HERE / name).write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
