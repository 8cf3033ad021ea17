#!/usr/bin/env python3
"""Polyveil beside CKKS libraries from PyPI, in one run on one machine: compare.py [--threads 2] [--json FILE].

Installs nothing: bench/peers/run.sh makes the environment. Each library runs the same operations in a process
of its own, so that none holds the other's memory: the peers at the highest level of their parameters, Polyveil
at the level of each peer, on 32,768 slots. Ratios are of medians; a bootstrap's also of seconds per level that
it gives back. A peer without bootstraps or with fewer slots has no number there, and the table says why.
"""
import argparse
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

SLOTS = 32768
TENSEAL_LEVELS = 12  # as many as full16 has between bootstraps


def values(seed):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, SLOTS)


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


def operations(rows, operate, repeats, level, decrypt, note=""):
    """Times each operation and says what its result has for precision."""
    for name, (fn, expected) in operate.items():
        fn()
        seconds, result = timed(fn, repeats)
        rows[f"{name} at {level}"] = row(seconds, decrypt(result), expected, level=level, note=note)


def run_polyveil(threads, repeats, levels):
    import polyveil
    context = polyveil.Context("full16", threads=threads)
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
    a, b = values(1), values(2)
    rows = {}
    for level in sorted({min(level, context.fresh_level) for level in levels}):
        x, y = (secret.encrypt(v.astype(complex), level) for v in (a, b))
        operations(rows, {"add": (lambda: evaluator.add(x, y), a + b),
                          "multiply": (lambda: evaluator.mul(x, y), a * b),
                          "rotate": (lambda: evaluator.rotate(x, 1), np.roll(a, -1))},
                   repeats, level, secret.decrypt)
    low = secret.encrypt(a.astype(complex), context.bootstrap_level)
    evaluator.bootstrap(low)  # its tables
    seconds, result = timed(lambda: evaluator.bootstrap(low), max(5, repeats // 4))
    rows["bootstrap"] = row(seconds, secret.decrypt(result), a,
                            level=context.fresh_level - context.bootstrap_level)
    return {"parameters": repr(context), "rows": rows}


def run_desilofhe(threads, repeats, _):
    import desilofhe
    engine = desilofhe.Engine(mode="parallel", thread_count=threads, bootstrap=True)
    secret = engine.create_secret_key()
    relinearization = engine.create_relinearization_key(secret)
    conjugation = engine.create_conjugation_key(secret)
    rotation = engine.create_fixed_rotation_key(secret, -1)
    a, b = values(1), values(2)
    x, y = engine.encrypt(a, secret), engine.encrypt(b, secret)

    def decrypt(ciphertext):
        return np.real(engine.decrypt(ciphertext, secret))

    rows = {}
    operations(rows, {"add": (lambda: engine.add(x, y), a + b),
                      "multiply": (lambda: engine.multiply(x, y, relinearization), a * b),
                      "rotate": (lambda: engine.rotate(x, rotation), np.roll(a, -1))},
               repeats, x.level, decrypt)
    keys = engine.create_bootstrap_key(secret)
    low, other = engine.encrypt(a, secret, 0), engine.encrypt(b, secret, 0)
    engine.bootstrap(low, relinearization, conjugation, keys)
    seconds, result = timed(lambda: engine.bootstrap(low, relinearization, conjugation, keys),
                            max(5, repeats // 4))
    rows["bootstrap"] = row(seconds, decrypt(result), a, level=result.level)
    seconds, both = timed(lambda: engine.merge_bootstrap(low, other, relinearization, conjugation, keys), 3)
    rows["bootstrap, two merged"] = row(seconds / 2, decrypt(both[0]), a, level=both[0].level,
                                        note="two real vectors as one complex one: half of its time")
    return {"parameters": f"Engine(mode='parallel', thread_count={threads}, bootstrap=True): "
                          f"{engine.slot_count} slots, max_level {engine.max_level}", "rows": rows}


def run_tenseal(threads, repeats, _):
    """Its rings end at N = 2^15: half of the slots, no bootstrap; it rotates by no public call."""
    import tenseal
    degree, chain = 32768, [60] + [40] * TENSEAL_LEVELS + [60]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=degree,
                              coeff_mod_bit_sizes=chain, n_threads=threads)
    context.global_scale = 2**40
    a, b = values(1)[:degree // 2], values(2)[:degree // 2]
    x, y = tenseal.ckks_vector(context, a), tenseal.ckks_vector(context, b)
    rows, level = {}, len(chain) - 2
    operations(rows, {"add": (lambda: x + y, a + b), "multiply": (lambda: x * y, a * b)}, repeats, level,
               lambda result: result.decrypt(), "twice its time, for twice the slots")
    for each in rows.values():
        each["seconds"] *= 2
    return {"parameters": f"N = 2^15, chain of {len(chain)} primes, {sum(chain)} bits", "rows": rows}


PEERS = {"desilofhe": run_desilofhe, "tenseal": run_tenseal, "polyveil": run_polyveil}


def measure(name, arguments, levels):
    """In a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--threads", str(arguments.threads),
               "--repeats", str(arguments.repeats), "--levels", ",".join(map(str, levels))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def ratio_row(operation, name, theirs, ours):
    """A line of the table; ours: the same operation at their level, or at our highest below it."""
    line = (f"| {operation} | {name} | {theirs['level']} | {theirs['seconds'] * 1e3:.2f} | {theirs['bits']:.1f} | "
            f"{ours['level']} | {ours['seconds'] * 1e3:.2f} | {ours['bits']:.1f} | "
            f"{theirs['seconds'] / ours['seconds']:.1f} | ")
    if operation.startswith("bootstrap"):
        line += f"{theirs['seconds'] / theirs['level'] / (ours['seconds'] / ours['level']):.1f}"
    return line + f" | {theirs.get('note', '')} |"


def show(results):
    for name, result in results.items():
        print(f"* {name} {result['version']}: {result['parameters']}; peak {result['peak_gb']:.1f} GB"
              if "failed" not in result else f"* {name}: not measured: {result['failed']}")
    ours = results["polyveil"]["rows"]
    highest = max(each["level"] for name, each in ours.items() if name.startswith("add"))
    print("\n| operation | peer | its level | ms | bits | our level | ms | bits | ratio | per level | note |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        for operation, theirs in result.get("rows", {}).items() if name != "polyveil" else ():
            what = operation.split(" at ")[0]
            mine = ours["bootstrap" if what.startswith("bootstrap") else
                        f"{what} at {min(theirs['level'], highest)}"]
            print(ratio_row(what, name, theirs, mine))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", choices=PEERS)
    parser.add_argument("--levels", default="")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.only:
        levels = [int(level) for level in arguments.levels.split(",") if level]
        result = PEERS[arguments.only](arguments.threads, arguments.repeats, levels)
        result["version"] = importlib.metadata.version(arguments.only)
        result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result))
        return
    results, levels = {}, set()
    for name in PEERS:  # ours last, at their levels
        results[name] = measure(name, arguments, levels)
        levels |= {each["level"] for each in results[name].get("rows", {}).values()}
    show(results)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump(results, out, indent=1)


main()
