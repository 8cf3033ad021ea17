#!/usr/bin/env python3
"""Training throughput of `polyveil-train run` beside a plain PyTorch loop of the same model, alternately in one run.

    python3 scripts/bench_pytorch.py TRAINER CONFIG DATA [--steps 16] [--rounds 2] [--threads 2] [--precision float32|bf16]

TRAINER: polyveil-train; CONFIG: a Power-Softmax config with the bilinear feed-forward (models/configs/tiny-power.json); DATA: a folder of
`polyveil-train prepare`. The loop is ordinary eager PyTorch: the same shape, batch, penalties and optimiser (Muon for
matrices, Adam for the rest, one tensor after another), cross entropy over whole logits, autograd for everything; with --precision bf16
its forward pass runs under autocast and the trainer with its own bfloat16 products. Both sides count
whole steps, drawing the batch included. Needs PyTorch, of the same BLAS as the trainer for a fair comparison.
"""
import argparse
import json
import math
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch import nn

DEFAULTS = {"n_layers": 4, "d_model": 128, "n_heads": 4, "d_ff": 256, "vocab_size": 4096, "context": 128, "power": 4,
            "attention_eps": 1e-3, "norm_eps": 1e-5, "shift_start": 2}


def log_hinge(x, centre, hinge):
    excess = torch.relu((torch.log(x + 1e-12) - centre).abs() - math.log(hinge["window"]))
    return hinge["weight"] * excess.square().mean() + hinge["peak_weight"] * excess.amax().square()


def size_hinge(x, hinge):
    excess = torch.relu(x.abs() - hinge["window"])
    return hinge["weight"] * excess.square().mean() + hinge["peak_weight"] * excess.amax().square()


def ngram_rows(inputs, n, rows):
    """Rows of a table for the n tokens up to each position from n - 1 on (src/model/ngram.h); int64 wraps as it should."""
    h = torch.full_like(inputs[:, n - 1:], n)
    for k in range(n):
        h = (h ^ inputs[:, k:inputs.shape[1] - n + 1 + k]) * (0x9E3779B97F4A7C15 - 2**64)
        h = h ^ ((h >> 32) & 0xFFFFFFFF)
    return ((h & 0xFFFFFFFF) * rows) >> 32


class Block(nn.Module):
    def __init__(self, shape, penalties):
        super().__init__()
        self.shape, self.penalties = shape, penalties
        d, f, heads = shape["d_model"], shape["d_ff"], shape["n_heads"]
        out = 0.3 / math.sqrt(2.0 * shape["n_layers"])
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.wqkv = nn.Parameter(torch.randn(3 * d, d) * 0.7 / math.sqrt(d))
        self.wo = nn.Parameter(torch.randn(d, d) * out / math.sqrt(d))
        self.w12 = nn.Parameter(torch.randn(2 * f, d) * 0.7 / math.sqrt(d))
        self.wdown = nn.Parameter(torch.randn(d, f) * out / math.sqrt(f))
        self.shift = nn.Parameter(torch.full((heads,), float(shape["shift_start"])))
        self.log_kappa = nn.Parameter(torch.full((heads,), shape["power"] * math.log(shape["shift_start"])))
        self.centre1, self.centre2 = nn.Parameter(torch.tensor(-4.5)), nn.Parameter(torch.tensor(-4.5))

    def forward(self, x, mask, keys):
        shape, penalties = self.shape, self.penalties
        batch, n, d = x.shape
        heads, eps = shape["n_heads"], shape["norm_eps"]
        variance = x.square().mean(-1, keepdim=True)
        penalty = log_hinge(variance, self.centre1, penalties["variance"])
        qkv = (x * self.norm1 * torch.rsqrt(variance + eps)) @ self.wqkv.t()
        q, k, v = (part.view(batch, n, heads, d // heads).transpose(1, 2) for part in qkv.chunk(3, -1))
        scores = q @ k.transpose(2, 3) / math.sqrt(d // heads) + self.shift.view(1, -1, 1, 1)
        powers = scores.square().square() if shape["power"] == 4 else scores.pow(shape["power"])
        powers = powers * mask / (self.log_kappa.exp().view(1, -1, 1, 1) * keys)
        divisor = powers.sum(-1, keepdim=True)
        penalty = penalty + log_hinge(divisor, 0.0, penalties["divisor"])
        weights = powers / (shape["attention_eps"] + divisor)
        x = x + (weights @ v).transpose(1, 2).reshape(batch, n, d) @ self.wo.t()
        penalty = penalty + size_hinge(x, penalties["residual"])
        variance = x.square().mean(-1, keepdim=True)
        penalty = penalty + log_hinge(variance, self.centre2, penalties["variance"])
        one, two = ((x * self.norm2) @ self.w12.t()).chunk(2, -1)
        x = x + (one * two) @ self.wdown.t() / (variance + eps)
        return x, penalty + size_hinge(x, penalties["residual"])


class Model(nn.Module):
    def __init__(self, shape, penalties):
        super().__init__()
        d, n = shape["d_model"], shape["context"]
        self.penalties, self.eps = penalties, shape["norm_eps"]
        self.embed = nn.Parameter(torch.randn(shape["vocab_size"], d) * 0.08)
        self.pos = nn.Parameter(torch.randn(n, d) * 0.02)
        self.final_norm = nn.Parameter(torch.ones(d))
        self.ngrams = nn.ParameterList(nn.Parameter(torch.zeros(rows, d)) for rows in shape.get("ngram_rows", []))
        self.blocks = nn.ModuleList(Block(shape, penalties) for _ in range(shape["n_layers"]))
        self.register_buffer("mask", torch.ones(n, n).tril())
        self.register_buffer("keys", torch.arange(1, n + 1).view(1, 1, -1, 1).float())

    def forward(self, inputs, targets):
        x = nn.functional.embedding(inputs, self.embed) + self.pos
        for n, table in enumerate(self.ngrams, 2):
            entries = nn.functional.embedding(ngram_rows(inputs, n, table.shape[0]), table)
            x = x + nn.functional.pad(entries, (0, 0, n - 1, 0))
        penalty = size_hinge(x, self.penalties["residual"])
        for block in self.blocks:
            x, part = block(x, self.mask, self.keys)
            penalty = penalty + part
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.final_norm
        logits = x @ self.embed.t()
        return nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1)), penalty


class Optimiser:
    """Muon for the blocks' matrices (parts of a joined one apart), Adam for everything else."""

    def __init__(self, model, options):
        self.options, self.steps = options, 0
        self.slots = []
        for name, value in model.named_parameters():
            parts = {"wqkv": 3, "w12": 2, "wo": 1, "wdown": 1}.get(name.split(".")[-1], 0)
            self.slots.append((value, parts, torch.zeros_like(value), torch.zeros_like(value)))
        self.parameters = [slot[0] for slot in self.slots]

    @staticmethod
    def orthogonalise(gradient):
        tall = gradient.shape[0] > gradient.shape[1]
        x = gradient.t() if tall else gradient
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            a = x @ x.t()
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.t() if tall else x

    @torch.no_grad()
    def step(self, factor):
        self.steps += 1
        o = self.options
        nn.utils.clip_grad_norm_(self.parameters, o["grad_clip"])
        for value, parts, first, second in self.slots:
            if parts:
                rate = o["muon_lr"] * factor
                first.mul_(0.95).add_(value.grad)
                direction = value.grad + 0.95 * first
                value.mul_(1 - rate * o["weight_decay"])
                for target, part in zip(value.chunk(parts, 0), direction.chunk(parts, 0)):
                    target.add_(self.orthogonalise(part), alpha=-rate * math.sqrt(max(1.0, part.shape[0] / part.shape[1])))
            else:
                rate = o["adam_lr"] * factor
                first.mul_(0.9).add_(value.grad, alpha=0.1)
                second.mul_(0.98).addcmul_(value.grad, value.grad, value=0.02)
                root = (second / (1 - 0.98 ** self.steps)).sqrt().add_(1e-8)
                value.addcdiv_(first, root, value=-rate / (1 - 0.9 ** self.steps))
            value.grad = None


def run_torch(config, shape, data, steps, precision):
    """Tokens a second, and the last loss."""
    torch.manual_seed(config["seed"])
    model = Model(shape, config["range"])
    optimiser = Optimiser(model, config["optimizer"])
    stream = np.concatenate([np.fromfile(os.path.join(data, name), dtype=np.int32) for name in sorted(os.listdir(data))
                             if name.startswith("train.") and name.endswith(".bin")])
    batch, n = config["batch"], shape["context"]
    random = np.random.default_rng(config["seed"])
    begin = time.perf_counter()
    for step in range(steps):
        starts = random.integers(0, len(stream) - n, batch)
        targets = torch.from_numpy(np.stack([stream[at:at + n] for at in starts]).astype(np.int64))
        inputs = torch.roll(targets, 1, 1)
        inputs[:, 0] = 256
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss, penalty = model(inputs, targets)
        (loss + penalty).backward()
        optimiser.step(min(1.0, (step + 1) / config["optimizer"]["warmup"]))
        value = loss.item()
    return steps * batch * n / (time.perf_counter() - begin), value


def run_ours(trainer, config, data, steps, threads, precision):
    """Tokens a second, the machine's matrix product in GFLOP/s, and the last loss."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**config, "threads": threads, "precision": precision, "log_every": 1, "checkpoint_every": 0}, file)
        subprocess.run([trainer, "run", "--config", path, "--data", data, "--out", folder, "--stop-after", str(steps)], check=True,
                       stdout=subprocess.DEVNULL)
        with open(os.path.join(folder, config["name"], "summary.json"), encoding="utf-8") as file:
            summary = json.load(file)
        with open(os.path.join(folder, config["name"], "curve.jsonl"), encoding="utf-8") as file:
            curve = [json.loads(line) for line in file]
    return summary["tokens_per_second"], summary["gemm_flops_per_second"], summary["gemm_fraction"], curve[-1]["nats"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer")
    parser.add_argument("config")
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with open(arguments.config, encoding="utf-8") as file:
        config = json.load(file)
    shape = {**DEFAULTS, **config.get("shape", {})}
    best_ours = best_torch = 0.0
    steps, precision = arguments.steps, arguments.precision
    for _ in range(arguments.rounds):
        ours, rate, share, nats = run_ours(arguments.trainer, config, arguments.data, steps, arguments.threads, precision)
        plain, loss = run_torch(config, shape, arguments.data, steps, precision)
        best_ours, best_torch = max(best_ours, ours), max(best_torch, plain)
        flops = share * rate / ours
        print(f"polyveil-train {ours:8.0f} tokens/s ({100 * share:.0f}% of {1e-9 * rate:.0f} GFLOP/s, last loss {nats:.3f})   "
              f"PyTorch {torch.__version__} {plain:8.0f} tokens/s ({100 * plain * flops / rate:.0f}%, last loss {loss:.3f})   "
              f"ratio {ours / plain:.2f}", flush=True)
    print(f"best: {best_ours:.0f} against {best_torch:.0f} tokens/s, {arguments.threads} threads, {precision}, "
          f"ratio {best_ours / best_torch:.2f}")


main()
