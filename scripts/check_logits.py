#!/usr/bin/env python3
"""Compares `polyveil import --logits` with transformers: a whole checkpoint, or small models of random shapes.

Environment as in make_released_vectors.py. python scripts/check_logits.py PROGRAM CHECKPOINT [--tokens 256]
Prints the largest difference, of the logits and relative to their largest size, and positions with equal argmax.
python scripts/check_logits.py PROGRAM --random 300 [--seed 1]
Every family, every field that is read, under the names of several savers; ends with 1 if one differs or is refused.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

TOLERANCE = 2e-5  # of the largest output: float32 against float32


def load(path):
    if path.endswith(".gguf"):
        import gguf
        folder, name = os.path.split(path)
        model = tf.AutoModelForCausalLM.from_pretrained(folder or ".", gguf_file=name, torch_dtype=torch.float32)
        # transformers 4.46 leaves the head random where the file ties it to the embedding.
        if all(tensor.name != "output.weight" for tensor in gguf.GGUFReader(path).tensors):
            model.lm_head.weight = model.get_input_embeddings().weight
        return model
    config = tf.AutoConfig.from_pretrained(path)
    return getattr(tf, config.architectures[0]).from_pretrained(path, torch_dtype=torch.float32)


def run_program(program, path, ids):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits")
        result = subprocess.run([program, "import", path, "--ids", ",".join(map(str, ids)), "--logits", out], capture_output=True)
        if result.returncode != 0:
            return None, result.stderr.decode(errors="replace").strip()
        return np.fromfile(out, dtype=np.float32), ""


def expected_outputs(model, ids):
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state)[0].numpy()


def check_checkpoint(arguments):
    model = load(arguments.checkpoint).eval()
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, arguments.tokens).tolist()
    expected = expected_outputs(model, ids)
    ours, message = run_program(arguments.program, arguments.checkpoint, ids)
    if ours is None:
        sys.exit(message)
    ours = ours.reshape(expected.shape)
    error = np.abs(ours - expected).max()
    same = int((ours.argmax(-1) == expected.argmax(-1)).sum())
    print(f"{arguments.checkpoint}: {len(ids)} tokens, largest difference {error:.3g} (outputs up to {np.abs(expected).max():.3g}), "
          f"argmax equal at {same} of {expected.argmax(-1).size}")


def random_rope(r):
    return r.choice([None, None, dict(rope_type="linear", factor=r.uniform(1, 8)),
                     dict(rope_type="llama3", factor=r.uniform(1, 8), low_freq_factor=1.0, high_freq_factor=r.uniform(2, 5),
                          original_max_position_embeddings=r.randint(4, 32))])


def random_config(r):
    """A family, a configuration of random sizes and flags, and the class with its head."""
    family = r.choice(["gpt2", "gpt_neox", "llama", "qwen2", "mistral", "opt", "bert", "roberta", "distilbert"])
    heads, layers = r.choice([1, 2, 4, 6]), r.randint(1, 3)
    d_head, ff, vocab, context = 2 * r.randint(1, 6), r.randint(1, 40), r.randint(8, 60), r.randint(12, 40)
    width = heads * d_head
    eps, tied = 10 ** r.uniform(-9, -3), r.random() < 0.5
    smooth = r.choice(["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "relu"])
    common = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ff, vocab_size=vocab,
                  max_position_embeddings=context)
    kv = r.choice([n for n in (1, 2, 3, 6, heads) if heads % n == 0])
    gated = dict(common, num_key_value_heads=kv, rms_norm_eps=eps, rope_theta=10 ** r.uniform(1, 6), rope_scaling=random_rope(r),
                 hidden_act=r.choice(["silu", "gelu", "relu"]), tie_word_embeddings=tied)
    encoder = dict(common, hidden_act=smooth, layer_norm_eps=eps, num_labels=r.randint(2, 4))
    if family == "gpt2":
        config = tf.GPT2Config(n_embd=width, n_layer=layers, n_head=heads, n_inner=r.choice([None, ff]), vocab_size=vocab,
                               n_positions=context, activation_function=smooth, layer_norm_epsilon=eps, tie_word_embeddings=tied)
    elif family == "gpt_neox":
        config = tf.GPTNeoXConfig(**common, hidden_act=smooth, layer_norm_eps=eps, rotary_pct=2 * r.randint(1, d_head // 2) / d_head,
                                  rotary_emb_base=10 ** r.uniform(1, 5), use_parallel_residual=r.random() < 0.5,
                                  attention_bias=r.random() < 0.7, tie_word_embeddings=tied)
    elif family == "llama":
        config = tf.LlamaConfig(**gated, attention_bias=r.random() < 0.5, mlp_bias=r.random() < 0.5,
                                head_dim=r.choice([d_head, 2 * r.randint(1, 6)]))
    elif family == "qwen2":
        config = tf.Qwen2Config(**gated)
    elif family == "mistral":
        gated.pop("rope_scaling")  # MistralConfig of 4.46 has none
        config = tf.MistralConfig(**gated, head_dim=r.choice([d_head, 2 * r.randint(1, 6)]),
                                  sliding_window=r.choice([None, 12, 4096]))
    elif family == "opt":
        config = tf.OPTConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=ff, vocab_size=vocab,
                              max_position_embeddings=context, word_embed_proj_dim=width, activation_function=smooth,
                              tie_word_embeddings=tied)
    elif family == "distilbert":
        config = tf.DistilBertConfig(dim=width, n_layers=layers, n_heads=heads, hidden_dim=ff, vocab_size=vocab,
                                     max_position_embeddings=context, activation=r.choice(["gelu", "relu"]),
                                     sinusoidal_pos_embds=r.random() < 0.5, num_labels=r.randint(2, 4))
    elif family == "bert":
        config = tf.BertConfig(**encoder, type_vocab_size=r.randint(1, 3))
    else:
        config = tf.RobertaConfig(**encoder, type_vocab_size=1, pad_token_id=r.randint(0, 3))
    name = {"gpt2": "GPT2", "gpt_neox": "GPTNeoX", "opt": "OPT", "distilbert": "DistilBert"}.get(family, family.capitalize())
    ends = ["ForSequenceClassification", "Model"] if family in ("bert", "roberta", "distilbert") else \
        [{"gpt2": "LMHeadModel"}.get(family, "ForCausalLM")] * 3 + ["Model"]
    return config, getattr(tf, name + r.choice(ends))


def random_weights(model, r):
    generator = torch.Generator().manual_seed(r.getrandbits(30))
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.rand(value.shape, generator=generator) - 0.5
            value.copy_(1 + 0.2 * noise if value.dim() == 1 and name.endswith("weight") else noise)


def rename(path, model, r):
    """What other savers make of the names: no prefix, one of distributed training, a tied head kept."""
    tensors = load_file(path)
    prefix = r.choice(["", "module.", "_orig_mod."])
    base = model.base_model_prefix + "."
    if model.config.model_type == "opt" and r.random() < 0.3:
        tensors = {k.removeprefix("model."): v for k, v in tensors.items()}
    elif model.config.model_type != "opt" and r.random() < 0.3:
        tensors = {k.removeprefix(base): v for k, v in tensors.items()}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    names = [k for k in tensors if k.endswith(("wte.weight", "embed_in.weight", "embed_tokens.weight"))]
    if head is not None and model.config.tie_word_embeddings and names and r.random() < 0.5:
        key = "embed_out.weight" if model.config.model_type == "gpt_neox" else "lm_head.weight"
        tensors[key] = tensors[names[0]].clone()
        if r.random() < 0.5:
            del tensors[names[0]]
    save_file({prefix + k: v.contiguous() for k, v in tensors.items()}, path)


def check_random(arguments):
    r = random.Random(arguments.seed)
    worst, failed, families = 0.0, 0, {}
    for index in range(arguments.random):
        config, kind = random_config(r)
        config._attn_implementation = "eager"
        model = kind(config).eval()
        random_weights(model, r)
        window = getattr(config, "sliding_window", None) or 4096
        context = getattr(config, "max_position_embeddings", 0) or config.n_positions
        offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        ids = [r.randrange(config.vocab_size) for _ in range(r.randint(1, min(window, context - offset)))]
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            rename(folder + "/model.safetensors", model, r)
            ours, message = run_program(arguments.program, folder, ids)
        expected = expected_outputs(model, ids).reshape(-1)
        error = np.inf if ours is None or ours.shape != expected.shape else np.abs(ours - expected).max() / max(1, np.abs(expected).max())
        families[kind.__name__] = families.get(kind.__name__, 0) + 1
        worst = max(worst, error)
        if not error <= TOLERANCE:
            failed += 1
            print(f"{index}: {kind.__name__}, {len(ids)} tokens: difference {error:.3g} {message}\n{config.to_json_string()}")
    print(", ".join(f"{name} {count}" for name, count in sorted(families.items())))
    print(f"{arguments.random} models of seed {arguments.seed}: {failed} differ, largest difference {worst:.3g} of the largest output")
    sys.exit(failed > 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.random:
        check_random(arguments)
    else:
        check_checkpoint(arguments)


if __name__ == "__main__":
    main()
