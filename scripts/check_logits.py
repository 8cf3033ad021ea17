#!/usr/bin/env python3
"""Compares `polyveil import --logits` with transformers on a whole checkpoint (a folder or a GGUF file).

Environment as in make_hub_vectors.py. python scripts/check_logits.py PROGRAM CHECKPOINT [--tokens 256]
Prints the largest difference, of the logits and relative to their largest size, and positions with equal argmax.
"""
import argparse
import os
import subprocess
import tempfile

import gguf
import numpy as np
import torch
import transformers as tf


def load(path):
    if path.endswith(".gguf"):
        folder, name = os.path.split(path)
        model = tf.AutoModelForCausalLM.from_pretrained(folder or ".", gguf_file=name, torch_dtype=torch.float32)
        # transformers 4.46 leaves the head random where the file ties it to the embedding.
        if all(tensor.name != "output.weight" for tensor in gguf.GGUFReader(path).tensors):
            model.lm_head.weight = model.get_input_embeddings().weight
        return model
    config = tf.AutoConfig.from_pretrained(path)
    return getattr(tf, config.architectures[0]).from_pretrained(path, torch_dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", type=int, default=256)
    arguments = parser.parse_args()
    model = load(arguments.checkpoint).eval()
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, arguments.tokens).tolist()
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]))
    expected = (out.logits if hasattr(out, "logits") else out.last_hidden_state)[0].numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "logits")
        subprocess.run([arguments.program, "import", arguments.checkpoint, "--ids", ",".join(map(str, ids)), "--logits", path],
                       check=True, stdout=subprocess.DEVNULL)
        ours = np.fromfile(path, dtype=np.float32).reshape(expected.shape)
    error = np.abs(ours - expected).max()
    same = int((ours.argmax(-1) == expected.argmax(-1)).sum())
    print(f"{arguments.checkpoint}: {len(ids)} tokens, largest difference {error:.3g} (outputs up to {np.abs(expected).max():.3g}), "
          f"argmax equal at {same} of {len(ids)}")


if __name__ == "__main__":
    main()
