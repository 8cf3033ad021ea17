#!/usr/bin/env python3
"""What the Python binding adds to every operation: binding_overhead.py [--parameters full16] [--repeats 100].

A call's whole time less its time inside the library (arguments, results, the interpreter's lock, the choice
of an evaluator by an operator), call by call, so that a busy machine changes both. Fails above --most percent.
"""
import argparse
import statistics
import sys
import time

import numpy as np

import polyveil

inside = polyveil._polyveil._library_seconds


def measure(fn, repeats):
    """Medians of seconds inside the library and outside of it."""
    fn()
    pairs = []
    for _ in range(repeats):
        before, start = inside(), time.perf_counter()
        result = fn()
        whole, library = time.perf_counter() - start, inside() - before
        pairs.append((library, whole - library))
        del result
    return [statistics.median(column) for column in zip(*pairs)]


def operations(context, bootstrapping):
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=bootstrapping))
    values = np.random.default_rng(1).uniform(-0.9, 0.9, context.slots) + 0j
    real = values.real.copy()
    x, y = secret.encrypt(values), secret.encrypt(values)
    encoded = x.to_bytes()
    polynomial = polyveil.Polynomial([0.5, 0.25, 0, 0.125])
    found = {
        "encrypt": lambda: secret.encrypt(values),
        "encrypt real": lambda: secret.encrypt(real),
        "decrypt": lambda: secret.decrypt(x),
        "to_bytes": x.to_bytes,
        "from_bytes": lambda: polyveil.Ciphertext.from_bytes(context, encoded),
        "x + y": lambda: x + y,
        "x * y": lambda: x * y,
        "x + array": lambda: x + values,
        "x * array": lambda: x * values,
        "x - real": lambda: x - real,
        "x * real": lambda: x * real,
        "x + 1": lambda: x + 1,
        "x * 0.5": lambda: x * 0.5,
        "x << 1": lambda: x << 1,
        "add(x, y)": lambda: evaluator.add(x, y),
        "mul(x, y)": lambda: evaluator.mul(x, y),
        "rotate(x, 1)": lambda: evaluator.rotate(x, 1),
        "evaluate": lambda: evaluator.evaluate(polynomial, x),
    }
    if bootstrapping:
        low = evaluator.drop_to(x, context.bootstrap_level)
        found["bootstrap"] = low.bootstrap
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", default="full16")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--most", type=float, default=1, help="percent that an operation may add")
    parser.add_argument("--no-bootstrap", action="store_true", help="0.7 GB instead of 6")
    a = parser.parse_args()
    context = polyveil.Context(a.parameters, threads=a.threads,
                               allow_insecure=a.parameters.startswith("test"))
    print(context)
    print(f"{'operation':<14}{'library, ms':>12}{'binding, us':>13}{'%':>8}")
    worst = 0
    for name, fn in operations(context, not a.no_bootstrap).items():
        library, binding = measure(fn, min(a.repeats, 5) if name == "bootstrap" else a.repeats)
        worst = max(worst, 100 * binding / library)
        print(f"{name:<14}{library * 1e3:>12.3f}{binding * 1e6:>13.1f}{100 * binding / library:>8.3f}")
    if worst > a.most:
        sys.exit(f"an operation adds {worst:.2f}% > {a.most}%")


main()
