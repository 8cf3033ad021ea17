#!/usr/bin/env python3
"""Polyveil beside CKKS libraries from PyPI, in one run on one machine: compare.py [--threads 2] [--json FILE].

Installs nothing: bench/peers/run.sh makes the environment. Each library runs the same operations on 32,768 slots
at the levels that its parameters leave, in a process of its own, so that none holds the other's memory. Ratios
are of medians; a bootstrap's also of seconds per level that it gives back. A peer without bootstraps or with
fewer slots has no number there, and the table says why.
"""
import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

SLOTS = 32768


def values(seed, complex_too=False):
    random = np.random.default_rng(seed)
    x = random.uniform(-0.9, 0.9, SLOTS)
    return x + 1j * random.uniform(-0.9, 0.9, SLOTS) if complex_too else x


def timed(fn, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = fn()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def bits(found, expected):
    return float(-np.log2(np.abs(np.asarray(found) - expected).max()))


def row(seconds, found, expected, **more):
    return {"seconds": seconds, "bits": bits(found, expected), **more}


def run_polyveil(threads, repeats):
    import polyveil
    context = polyveil.Context("full16", threads=threads)
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
    a, b = values(1), values(2)
    x, y = secret.encrypt(a.astype(complex)), secret.encrypt(b.astype(complex))
    evaluator.mul(x, y), evaluator.bootstrap(x)  # tables
    rows = {}
    for name, fn, expected in (("multiply", lambda: evaluator.mul(x, y), a * b),
                               ("rotate", lambda: evaluator.rotate(x, 1), np.roll(a, -1)),
                               ("add", lambda: evaluator.add(x, y), a + b)):
        seconds, result = timed(fn, repeats)
        rows[name] = row(seconds, secret.decrypt(result), expected, level=x.level)
    low = evaluator.drop_to(x, context.bootstrap_level)
    seconds, result = timed(lambda: evaluator.bootstrap(low), max(3, repeats // 4))
    levels = context.fresh_level - context.bootstrap_level
    rows["bootstrap"] = row(seconds, secret.decrypt(result), a, levels=levels)
    return {"version": polyveil.__version__, "parameters": repr(context), "rows": rows}


def run_desilofhe(threads, repeats):
    import desilofhe
    engine = desilofhe.Engine(mode="parallel", thread_count=threads, bootstrap=True)
    secret = engine.create_secret_key()
    relinearization = engine.create_relinearization_key(secret)
    conjugation = engine.create_conjugation_key(secret)
    rotation = engine.create_fixed_rotation_key(secret, -1)
    a, b = values(1), values(2)
    level = engine.max_level
    x, y = engine.encrypt(a, secret), engine.encrypt(b, secret)
    rows = {}
    for name, fn, expected in (("multiply", lambda: engine.multiply(x, y, relinearization), a * b),
                               ("rotate", lambda: engine.rotate(x, rotation), np.roll(a, -1)),
                               ("add", lambda: engine.add(x, y), a + b)):
        fn()
        seconds, result = timed(fn, repeats)
        rows[name] = row(seconds, np.real(engine.decrypt(result, secret)), expected, level=x.level)
    keys = engine.create_bootstrap_key(secret)
    low = engine.encrypt(a, secret, 0)
    engine.bootstrap(low, relinearization, conjugation, keys)
    seconds, result = timed(lambda: engine.bootstrap(low, relinearization, conjugation, keys),
                            max(3, repeats // 4))
    rows["bootstrap"] = row(seconds, np.real(engine.decrypt(result, secret)), a, levels=result.level)
    return {"version": desilofhe.__version__,
            "parameters": f"Engine(mode='parallel', bootstrap=True): {engine.slot_count} slots, "
                          f"max_level {level}", "rows": rows}


def run_tenseal(threads, repeats):
    """Its rings end at N = 2^15: half of the slots, no bootstrap."""
    import tenseal
    degree, chain = 32768, [60] + [40] * 18 + [60]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=degree,
                              coeff_mod_bit_sizes=chain, n_threads=threads)
    context.global_scale = 2**40
    context.generate_galois_keys()
    a, b = values(1)[:degree // 2], values(2)[:degree // 2]
    x, y = tenseal.ckks_vector(context, a), tenseal.ckks_vector(context, b)
    rows = {}
    for name, fn, expected in (("multiply", lambda: x * y, a * b), ("add", lambda: x + y, a + b)):
        fn()
        seconds, result = timed(fn, repeats)
        rows[name] = row(seconds * 2, result.decrypt(), expected, level=len(chain) - 2,
                         note="twice the time, for twice the slots")
    return {"version": tenseal.__version__,
            "parameters": f"N = 2^15, chain of {len(chain)} primes, {sum(chain)} bits", "rows": rows}


PEERS = {"polyveil": run_polyveil, "desilofhe": run_desilofhe, "tenseal": run_tenseal}


def measure(name, threads, repeats):
    """In a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--threads", str(threads), "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def show(results):
    for name, result in results.items():
        if "failed" in result:
            print(f"{name}: not measured: {result['failed']}")
            continue
        print(f"{name} {result['version']}: {result['parameters']}; peak {result['peak_gb']:.1f} GB")
    ours = results["polyveil"]["rows"]
    print(f"\n{'operation':<12}{'library':<12}{'ms':>10}{'bits':>7}{'level':>7}{'ratio':>8}{'a level':>9}")
    for operation in ("add", "multiply", "rotate", "bootstrap"):
        for name, result in results.items():
            r = result.get("rows", {}).get(operation)
            if r is None:
                continue
            level = r.get("level", r.get("levels"))
            each = ""
            if operation == "bootstrap":
                each = f"{r['seconds'] / r['levels'] / (ours[operation]['seconds'] / ours[operation]['levels']):.1f}"
            print(f"{operation:<12}{name:<12}{r['seconds'] * 1e3:>10.2f}{r['bits']:>7.1f}{level:>7}"
                  f"{r['seconds'] / ours[operation]['seconds']:>8.1f}{each:>9}  {r.get('note', '')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", choices=PEERS)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.only:
        result = PEERS[arguments.only](arguments.threads, arguments.repeats)
        result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result))
        return
    results = {name: measure(name, arguments.threads, arguments.repeats) for name in PEERS}
    show(results)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump(results, out, indent=1)


main()
