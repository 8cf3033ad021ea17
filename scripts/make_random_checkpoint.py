#!/usr/bin/env python3
"""Writes a checkpoint with random weights in a known shape: config.json, sharded float16 safetensors with their
index, and a byte-level tokenizer.json. For measurements of models whose files are not at hand: its text means nothing.

  scripts/make_random_checkpoint.py FOLDER --shape pythia-1.4b     2.8 GB

Weights are +-[1, 2) times a power of two, so that they are made at the speed of the random bits."""
import argparse
import json
import math
import pathlib
import random
import struct

# GPT-NeoX: layers, width, heads, feed-forward, vocabulary, context, rotary share.
SHAPES = {
    "pythia-1.4b": (24, 2048, 16, 8192, 50304, 2048, 0.25),
    "pythia-410m": (24, 1024, 16, 4096, 50304, 2048, 0.25),
    "pythia-70m": (6, 512, 8, 2048, 50304, 2048, 0.25),
    "toy": (2, 24, 3, 64, 320, 64, 0.25),  # a width that is no power of two
}
# BERT with a classifier of two labels: layers, width, heads, feed-forward, vocabulary, context.
ENCODERS = {
    "minilm-l6": (6, 384, 12, 1536, 30522, 512),
    "bert-base": (12, 768, 12, 3072, 30522, 512),
    "toy-bert": (2, 24, 3, 50, 320, 40),
}
ONE = 0x3C00  # 1.0 in float16
BLOCK = 1 << 22  # bytes made at once


def halves(count, deviation, rng):
    """Yields count float16 values of this standard deviation as bytes."""
    exponent = round(math.log2(deviation / math.sqrt(7 / 3)))  # of uniform values in [1, 2)
    size = min(BLOCK, 2 * count)
    keep = int.from_bytes(struct.pack("<H", 0x83FF) * (size // 2), "little")
    scale = int.from_bytes(struct.pack("<H", (exponent + 15) << 10) * (size // 2), "little")
    for begin in range(0, 2 * count, size):
        block = (rng.getrandbits(8 * size) & keep | scale).to_bytes(size, "little")
        yield block[: 2 * count - begin]


def tensors(layers, width, heads, hidden, vocabulary):
    """(name, shape, standard deviation; 0 for ones), in the order of the files."""
    inner = 1 / math.sqrt(width)
    thin = 1 / math.sqrt(2 * layers)  # what writes to the residual
    yield "gpt_neox.embed_in.weight", [vocabulary, width], 0.5
    for i in range(layers):
        at = f"gpt_neox.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield at + norm + ".weight", [width], 0
            yield at + norm + ".bias", [width], 0.02
        for name, rows, columns, deviation in (
                ("attention.query_key_value", 3 * width, width, inner),
                ("attention.dense", width, width, inner * thin),
                ("mlp.dense_h_to_4h", hidden, width, inner),
                ("mlp.dense_4h_to_h", width, hidden, thin / math.sqrt(hidden))):
            yield f"{at}{name}.weight", [rows, columns], deviation
            yield f"{at}{name}.bias", [rows], 0.02
    yield "gpt_neox.final_layer_norm.weight", [width], 0
    yield "gpt_neox.final_layer_norm.bias", [width], 0.02
    yield "embed_out.weight", [vocabulary, width], inner


def encoder_tensors(layers, width, heads, hidden, vocabulary, context):
    """The same of BERT."""
    inner = 1 / math.sqrt(width)
    dense = lambda name, rows, columns, deviation: (
        (f"{name}.weight", [rows, columns], deviation), (f"{name}.bias", [rows], 0.02))
    norm = lambda name: ((f"{name}.weight", [width], 0), (f"{name}.bias", [width], 0.02))
    for name, rows in (("word", vocabulary), ("position", context), ("token_type", 2)):
        yield f"bert.embeddings.{name}_embeddings.weight", [rows, width], 0.5
    yield from norm("bert.embeddings.LayerNorm")
    for i in range(layers):
        at = f"bert.encoder.layer.{i}."
        for name in ("query", "key", "value"):
            yield from dense(f"{at}attention.self.{name}", width, width, inner)
        yield from dense(at + "attention.output.dense", width, width, inner)
        yield from norm(at + "attention.output.LayerNorm")
        yield from dense(at + "intermediate.dense", hidden, width, inner)
        yield from dense(at + "output.dense", width, hidden, 1 / math.sqrt(hidden))
        yield from norm(at + "output.LayerNorm")
    yield from dense("bert.pooler.dense", width, width, inner)
    yield from dense("classifier", 2, width, inner)


def shards(entries, limit):
    """Groups of consecutive tensors of at most limit bytes, or of one tensor."""
    group, size = [], 0
    for entry in entries:
        bytes_ = 2 * math.prod(entry[1])
        if group and size + bytes_ > limit:
            yield group
            group, size = [], 0
        group.append(entry)
        size += bytes_
    yield group


def write_shard(path, group, rng):
    header, at = {}, 0
    for name, shape, _ in group:
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation in group:
            count = math.prod(shape)
            if deviation == 0:
                out.write(struct.pack("<H", ONE) * count)
            else:
                out.writelines(halves(count, deviation, rng))
    return at


def write_weights(folder, entries, limit, rng):
    groups = list(shards(entries, limit))
    weight_map, total = {}, 0
    for i, group in enumerate(groups):
        name = f"model-{i + 1:05}-of-{len(groups):05}.safetensors"
        total += write_shard(folder / name, group, rng)
        weight_map.update({entry[0]: name for entry in group})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return total


def config(layers, width, heads, hidden, vocabulary, context, rotary):
    return {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "torch_dtype": "float16",
        "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "vocab_size": vocabulary, "max_position_embeddings": context,
        "rotary_pct": rotary, "rotary_emb_base": 10000, "use_parallel_residual": True,
        "hidden_act": "gelu", "layer_norm_eps": 1e-5, "tie_word_embeddings": False,
        "bos_token_id": 0, "eos_token_id": 0}


def encoder_config(layers, width, heads, hidden, vocabulary, context):
    return {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "torch_dtype": "float16",
        "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "vocab_size": vocabulary, "max_position_embeddings": context,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    stand_in = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [stand_in[b] for b in range(256)]


def around(end):
    """Puts the end of text before and behind every text, as BERT's tokens stand."""
    special, text = {"SpecialToken": {"id": end, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [special, text, special], "pair": [special, text, special],
            "special_tokens": {end: {"id": end, "ids": [0], "tokens": [end]}}}


def tokenizer(vocabulary, encoder=False):
    """The end of text, the bytes, pairs of letters as far as the vocabulary goes, and unused tokens behind them."""
    end = "<|endoftext|>"
    alphabet = byte_alphabet()
    words = [end, *alphabet]
    letters = [alphabet[b] for b in b" etaoinshrdlucmfwygpbvkxqjz"]
    pairs = [(a, b) for a in letters for b in letters[1:]][: max(0, vocabulary - len(words))]
    words += [a + b for a, b in pairs]
    words += [f"<unused{i}>" for i in range(vocabulary - len(words))]
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": end, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None, "pre_tokenizer": split, "post_processor": around(end) if encoder else None,
        "decoder": split,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {word: i for i, word in enumerate(words)}, "merges": [f"{a} {b}" for a, b in pairs]}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shape", choices=[*SHAPES, *ENCODERS], default="pythia-1.4b")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-bytes", type=int, default=1_000_000_000)
    arguments = parser.parse_args()
    encoder = arguments.shape in ENCODERS
    shape = ENCODERS[arguments.shape] if encoder else SHAPES[arguments.shape]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    total = write_weights(arguments.folder, encoder_tensors(*shape) if encoder else tensors(*shape[:5]),
                          arguments.shard_bytes, random.Random(arguments.seed))
    (arguments.folder / "config.json").write_text(
        json.dumps(encoder_config(*shape) if encoder else config(*shape), indent=1))
    (arguments.folder / "tokenizer.json").write_text(json.dumps(tokenizer(shape[4], encoder)))
    print(f"{arguments.folder}: {arguments.shape}, {total / 2e6:.1f} million parameters")


main()
