#!/usr/bin/env python3
"""What a newcomer trains first: short runs from text to a bundle. Each ends in a bundle that an encrypted run
can use, or in a refusal (status not 0) that names the site or the shape; anything else fails this script.

    scripts/short_runs.py --train build/src/train/polyveil-train --text FOLDER     minutes a run
    scripts/short_runs.py --train build/src/train/polyveil-train --quick           toy shapes on made-up text, seconds

FOLDER is what `polyveil-train prepare --data` reads. Runs use one thread.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

FULL = [("120 steps", {"steps": 120}), ("width 64", {"steps": 40, "shape": {"d_model": 64}}),
        ("width 96", {"steps": 40, "shape": {"d_model": 96}}), ("width 256", {"steps": 40, "shape": {"d_model": 256}}),
        ("8 layers", {"steps": 40, "shape": {"n_layers": 8}}), ("GELU", {"steps": 40, "shape": {"ffn": "gelu"}})]
TOY = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_ff": 32, "context": 16, "vocab_size": 300}
QUICK = [("toy", {"steps": 30}), ("no penalties", {"steps": 4, "range": {
             name: {"weight": 0, "peak_weight": 0} for name in ("divisor", "variance", "residual", "activation")}}),
         ("width 48", {"steps": 4, "shape": {"d_model": 48, "n_heads": 4}}),
         ("diverges", {"steps": 4, "optimizer": {"adam_lr": 1e25, "warmup": 0, "grad_clip": 1e30}}),
         ("GELU", {"steps": 12, "shape": {"ffn": "gelu"}})]
REASONS = ("layer ", "config.shape", "gradient", "predicted error")  # a refusal says which site, shape or figure


def toy_text(folder):
    (folder / "toy").mkdir(parents=True)
    for i in range(40):
        lines = [f"the {i % 7} cats met {i % 11} hens and {i * j % 13} owls went home\n" for j in range(1, 6)]
        (folder / "toy" / f"{i}.txt").write_text("".join(lines))


class Runner:
    def __init__(self, train, root, text, quick):
        self.train, self.root, self.quick = train, root, quick
        vocabulary = 300 if quick else 4096
        self.call("prepare", "--data", text, "--out", root / "data", "--vocab", vocabulary, "--heldout", 10)

    def call(self, *words):
        done = subprocess.run([self.train, *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words[0], done.stdout, done.stderr)
        return done.stdout

    def journey(self, name, changes):
        """-> (verb it ended at, what it said)"""
        config = {"name": name.replace(" ", "-"), "threads": 1, "batch": 4 if self.quick else 16, **changes}
        config["shape"] = {**(TOY if self.quick else {}), **changes.get("shape", {})}
        file, run = self.root / "config.json", self.root / "runs" / config["name"]
        file.write_text(json.dumps(config))
        data = ("--data", self.root / "data")
        try:
            self.call("run", "--config", file, *data, "--out", self.root / "runs")
            self.call("convert", "--checkpoint", run / "last.pt", *data, "--out", run, "--batches", 4 if self.quick else 40)
            out = self.call("export", "--checkpoint", run / "polynomial" / "last.pt", *data, "--out", run / "bundle",
                            *(("--parameters", "test12") if self.quick else ()))
        except subprocess.CalledProcessError as error:
            return error.cmd, error.stderr.strip()
        certificate = json.loads((run / "bundle" / "model.json").read_text())["certificate"]
        if certificate["heldout_out_of_range"] or not certificate["predicted_logit_error"] < 0.05:
            return "fault", f"a bundle with {certificate}"
        return "bundle", out.strip().splitlines()[-1]


def is_fine(end, said):
    return end == "bundle" or (end in ("run", "convert", "export") and any(reason in said for reason in REASONS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="polyveil-train")
    parser.add_argument("--text")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if bool(arguments.text) == arguments.quick:
        parser.error("one of --text and --quick")
    faults = bundles = 0
    with tempfile.TemporaryDirectory(prefix="polyveil-short-") as folder:
        root = pathlib.Path(folder)
        text = pathlib.Path(arguments.text) if arguments.text else root / "text"
        if arguments.quick:
            toy_text(text)
        runner = Runner(arguments.train, root, text, arguments.quick)
        for name, changes in QUICK if arguments.quick else FULL:
            start = time.time()
            end, said = runner.journey(name, changes)
            fine = is_fine(end, said)
            faults, bundles = faults + (not fine), bundles + (end == "bundle")
            print(f"{name:13} {'' if fine else 'FAULT '}{end}: {said}  ({time.time() - start:.0f} s)", flush=True)
    print(f"{bundles} bundles, {faults} faults")
    return 1 if faults or not bundles else 0


if __name__ == "__main__":
    sys.exit(main())
