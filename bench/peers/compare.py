#!/usr/bin/env python3
"""Polyveil beside CKKS libraries from PyPI, in one run on one machine: compare.py [--threads 2] [--json FILE].

Installs nothing: bench/peers/run.sh makes the environment. Each library runs the same operations in a process
of its own, so that none holds the other's memory: Polyveil at every level, the peers at the highest one of
their parameters, on 32,768 slots. Ratios are of medians; a bootstrap's also of seconds per level that it gives
back. Every row is printed when it is measured, and no library takes longer than --limit. A peer without
bootstraps or with fewer slots has no number there, and the table says why.
"""
import argparse
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import threading
import time

import numpy as np

SLOTS = 32768
TENSEAL_LEVELS = 12  # as many as full16 has between bootstraps
OPERATION_SECONDS = 10  # after so many, five repetitions suffice,
SLOW_SECONDS = 60  # and after so many, one


def values(seed):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, SLOTS)


def timed(fn, repeats):
    seconds, began = [], time.perf_counter()
    while len(seconds) < repeats:
        start = time.perf_counter()
        result = fn()
        seconds.append(time.perf_counter() - start)
        spent = time.perf_counter() - began
        if spent > SLOW_SECONDS or (len(seconds) >= 5 and spent > OPERATION_SECONDS):
            break
    return statistics.median(seconds), result


def bits(found, expected):
    return float(-np.log2(np.abs(np.asarray(found) - expected).max()))


def tell(**what):
    """A line for the parent process."""
    print(json.dumps(what), flush=True)


def ready(parameters, began):
    tell(parameters=f"{parameters}; keys in {time.perf_counter() - began:.0f} s")


def measure(operation, fn, repeats, decrypt, expected, level, note="", share=1.0):
    """Times fn; `share` of its time counts."""
    fn()
    seconds, result = timed(fn, repeats)
    tell(operation=operation, seconds=seconds * share, bits=bits(decrypt(result), expected), level=level, note=note)


def run_polyveil(arguments):
    import polyveil
    began = time.perf_counter()
    context = polyveil.Context("full16", threads=arguments.threads)
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
    ready(context, began)
    a, b = values(1), values(2)
    for level in range(1, context.fresh_level + 1):
        x, y = secret.encrypt(a, level), secret.encrypt(b, level)
        for name, fn, expected in (("add", lambda: evaluator.add(x, y), a + b),
                                   ("multiply", lambda: evaluator.mul(x, y), a * b),
                                   ("rotate", lambda: evaluator.rotate(x, 1), np.roll(a, -1))):
            measure(name, fn, arguments.repeats, secret.decrypt, expected, level)
    low = secret.encrypt(a, context.bootstrap_level)
    measure("bootstrap", lambda: evaluator.bootstrap(low), 5, secret.decrypt, a,
            context.fresh_level - context.bootstrap_level)


def run_desilofhe(arguments):
    import desilofhe
    began = time.perf_counter()
    engine = desilofhe.Engine(mode="parallel", thread_count=arguments.threads, bootstrap=True)
    secret = engine.create_secret_key()
    relinearization = engine.create_relinearization_key(secret)
    conjugation = engine.create_conjugation_key(secret)
    rotation = engine.create_fixed_rotation_key(secret, -1)
    a, b = values(1), values(2)
    x, y = engine.encrypt(a, secret), engine.encrypt(b, secret)
    ready(f"Engine(mode='parallel', thread_count={arguments.threads}, bootstrap=True): "
          f"{engine.slot_count} slots, max_level {engine.max_level}", began)

    def decrypt(ciphertext):
        return np.real(engine.decrypt(ciphertext, secret))

    for name, fn, expected in (("add", lambda: engine.add(x, y), a + b),
                               ("multiply", lambda: engine.multiply(x, y, relinearization), a * b),
                               ("rotate", lambda: engine.rotate(x, rotation), np.roll(a, 1))):
        measure(name, fn, arguments.repeats, decrypt, expected, x.level)
    keys = bootstrap_keys(engine, secret, relinearization, conjugation, arguments.key)
    bootstraps(engine, secret, decrypt, keys, arguments.key)


def bootstrap_keys(engine, secret, relinearization, conjugation, size):
    if size == "small":
        roll = engine.create_roll_key(secret)
        return relinearization, conjugation, roll, engine.create_small_bootstrap_key(secret)
    return relinearization, conjugation, engine.create_bootstrap_key(secret, size)


def bootstraps(engine, secret, decrypt, keys, key):
    a, b = values(1), values(2)
    low, other = engine.encrypt(a, secret, 0), engine.encrypt(b, secret, 0)
    gained = engine.bootstrap(low, *keys).level
    for operation, fn, note, share in (
            ("bootstrap", lambda: engine.bootstrap(low, *keys), "", 1.0),
            ("bootstrap, two merged", lambda: engine.merge_bootstrap(low, other, *keys)[0],
             "; two real vectors as one complex one: half of its time", 0.5)):
        measure(operation, fn, 3, decrypt, a, gained, f"{key} key{note}", share)


def run_tenseal(arguments):
    """Its rings end at N = 2^15: half of the slots, no bootstrap; it rotates by no public call."""
    import tenseal
    began = time.perf_counter()
    degree, chain = 32768, [60] + [40] * TENSEAL_LEVELS + [60]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=degree,
                              coeff_mod_bit_sizes=chain, n_threads=arguments.threads)
    context.global_scale = 2**40
    a, b = values(1)[:degree // 2], values(2)[:degree // 2]
    x, y = tenseal.ckks_vector(context, a), tenseal.ckks_vector(context, b)
    ready(f"N = 2^15, chain of {len(chain)} primes, {sum(chain)} bits", began)
    for name, fn, expected in (("add", lambda: x + y, a + b), ("multiply", lambda: x * y, a * b)):
        measure(name, fn, arguments.repeats, lambda result: result.decrypt(), expected, TENSEAL_LEVELS,
                "twice its time, for twice the slots", 2.0)


LIBRARIES = {"polyveil": run_polyveil, "desilofhe": run_desilofhe, "tenseal": run_tenseal}


def first_without_memory():
    """When memory ends, this process does, and no other."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def heard(name, arguments):
    """What the library tells from a process of its own, line by line; ends with its peak memory, or why not."""
    command = [sys.executable, __file__, "--only", name, "--threads", str(arguments.threads),
               "--repeats", str(arguments.repeats), "--key", arguments.key]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=first_without_memory)
    timer = threading.Timer(arguments.limit, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            yield json.loads(line)
        reason = process.stderr.read().strip().splitlines()
        if process.wait() == -9:
            yield {"failed": f"stopped (after {arguments.limit} s, or for want of memory)"}
        elif process.returncode != 0:
            yield {"failed": reason[-1] if reason else f"status {process.returncode}"}
    finally:
        timer.cancel()


def ratio_row(name, theirs, ours):
    """A line of the table; ours: the same operation at their level, or at our highest below it."""
    cells = [theirs["operation"], name, theirs["level"], f"{theirs['seconds'] * 1e3:.2f}", f"{theirs['bits']:.1f}",
             ours["level"], f"{ours['seconds'] * 1e3:.2f}", f"{ours['bits']:.1f}",
             f"{theirs['seconds'] / ours['seconds']:.1f}", "", theirs["note"]]
    if theirs["operation"].startswith("bootstrap"):
        cells[-2] = f"{theirs['seconds'] / theirs['level'] / (ours['seconds'] / ours['level']):.1f}"
    return "| " + " | ".join(map(str, cells)) + " |"


class Table:
    """Prints what comes, peers beside what Polyveil told before."""

    HEAD = "\n| operation | peer | its level | ms | bits | our level | ms | bits | ratio | per level | note |\n" + \
        "|---|---|---|---|---|---|---|---|---|---|---|"

    def __init__(self):
        self.ours = {}

    def add(self, name, event):
        if "parameters" in event:
            print(f"* {name} {importlib.metadata.version(name)}: {event['parameters']}", flush=True)
            if name != "polyveil":
                print(self.HEAD, flush=True)
        elif "operation" not in event:
            print(f"\n{name}: not measured further: {event['failed']}" if "failed" in event else
                  f"\n{name}: {event['all']:.0f} s in all, peak {event['peak_gb']:.1f} GB", flush=True)
        elif name == "polyveil":
            self.ours[event["operation"], event["level"]] = event
            print(f"polyveil {event['operation']} at {event['level']}: {event['seconds'] * 1e3:.2f} ms, "
                  f"{event['bits']:.1f} bits", flush=True)
        else:
            self.compare(name, event)

    def compare(self, name, theirs):
        what = theirs["operation"].split(",")[0]
        levels = [level for operation, level in self.ours if operation == what]
        if levels:
            print(ratio_row(name, theirs, self.ours[what, max(levels) if what == "bootstrap" else
                                                    min(theirs["level"], max(levels))]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--limit", type=int, default=900, help="seconds of a library")
    parser.add_argument("--key", choices=("medium", "small"), default="medium",
                        help="desilofhe's for bootstraps: of 17 or of 13 GB of memory")
    parser.add_argument("--only", choices=LIBRARIES, help="lines of JSON of one library")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.only:
        began = time.perf_counter()
        LIBRARIES[arguments.only](arguments)
        tell(peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, all=time.perf_counter() - began)
        return
    table, events = Table(), []
    for name in LIBRARIES:
        for event in heard(name, arguments):
            table.add(name, event)
            events.append({"library": name, **event})
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump(events, out, indent=1)


main()
