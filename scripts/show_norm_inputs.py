#!/usr/bin/env python3
"""Mean squares that the norms of a Llama model divide by: at the prefix, and behind it.

show_norm_inputs.py MODEL TEXT --tokenizer tokenizer.json [--prefix 1,198] [--rows 12] [--context 256]
MODEL: a *.gguf file or a folder for transformers; TEXT: a text file. Needs torch, transformers, gguf.
"""
import argparse
import pathlib

import tokenizers
import torch
import transformers


def load(path):
    path = pathlib.Path(path)
    if path.suffix != ".gguf":
        return transformers.AutoModel.from_pretrained(path)
    return transformers.AutoModel.from_pretrained(path.parent, gguf_file=path.name, torch_dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--context", type=int, default=256)
    arguments = parser.parse_args()
    model = load(arguments.model).eval()
    tokenizer = tokenizers.Tokenizer.from_file(arguments.tokenizer)
    prefix = [int(token) for token in arguments.prefix.split(",") if token]
    length = arguments.context - len(prefix)
    text = pathlib.Path(arguments.text).read_text()[: 8 * length * arguments.rows]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    first, rest = [], []
    for row in range(min(arguments.rows, len(ids) // length)):
        tokens = torch.tensor([prefix + ids[row * length:(row + 1) * length]])
        with torch.no_grad():
            out = model(input_ids=tokens, output_hidden_states=True)
        squares = torch.stack([(h[0] ** 2).mean(-1) for h in out.hidden_states[:-1]])
        behind = max(1, len(prefix))
        first.append(squares[:, :behind].amax(1))
        rest.append(squares[:, behind:])
    first, rest = torch.stack(first, 1), torch.cat(rest, 1)
    print(f"{rest.shape[1]} tokens")
    for layer in range(rest.shape[0]):
        low, middle, high = rest[layer].min(), rest[layer].median(), rest[layer].max()
        print(f"layer {layer:2}  {'prefix' if prefix else 'first'} {first[layer].max():10.4g}  "
              f"behind {low:9.4g} {middle:9.4g} {high:9.4g}  ratio {high / low:9.4g}")


main()
