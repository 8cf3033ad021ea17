#!/usr/bin/env python3
"""Fails when a folder of src/ includes one that stands above it, when server code includes client code, or when a
file that is not known to decrypts."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent / "src"

# What each folder may include, besides itself. A folder inside another that stands here is one of its own.
MODEL = {"model", "model/formats", "model/float32", "model/import"}
TEXT = MODEL | {"model/client", "model/client/text"}
ALLOWED = {
    "base": set(),
    "ring": {"base"},
    "backend": {"base", "ring"},
    "ckks": {"base", "ring"},
    "circuits": {"base", "ring", "ckks"},
    "approx": {"base"},
    "model": {"base", "approx"},
    "model/formats": {"base", "approx", "model"},
    "model/float32": {"base", "approx", "model", "model/formats"},
    "model/import": {"base", "approx"} | MODEL,
    "model/client": {"base", "approx", "model", "model/formats"},
    "model/client/text": {"base", "approx"} | TEXT,
    "compile": {"base", "ring", "ckks", "approx"} | MODEL,
    "runtime": {"base", "ring", "ckks", "circuits", "approx", "compile"} | TEXT,
    "wire": {"base", "ring", "ckks", "approx", "compile"} | MODEL,
    "serve": {"base", "ring", "ckks", "circuits", "approx", "compile", "runtime", "wire"} | TEXT,
    "api": {"base", "ring", "backend", "ckks", "circuits", "approx", "compile", "runtime", "wire", "serve"} | TEXT,
    "eval": {"base", "approx"} | TEXT,
    "train": {"base", "ckks", "approx", "compile", "runtime"} | TEXT,
    "train/distil": {"base", "ckks", "approx", "compile", "runtime", "eval", "train"} | TEXT,
}
# Folders that only a client may link: secret key, decryptor, tokenizer, and what needs them.
CLIENTS = {"client", "api", "eval", "train"}
# Who decrypts, and how no number of it reaches a file that others read (docs/decisions/0025-sharing.md).
DECRYPTS = {
    "src/api/secret_key.cc": "the library's users have the value, and its warning",
    "src/circuits/client/bootstrap_bench.cc": "both sides in one process: nobody has the ciphertexts",
    "src/serve/client/encrypted_session.cc": "run reports: verdicts, or flooded (run_report.cc); embeddings: the owner's (embed.cc)",
    "src/serve/client/submitted_text.cc": "tokens for the key's owner (collect.cc): no decrypted number in what it writes",
    "tools/polyveil/verify.cc": "the run's secret key is public",
    "tools/polyveil/eval_form.cc": "both sides in one process: nobody has the ciphertexts",
    "bench/ckks_bench.cc": "times decryption, prints no value",
    "bench/layer_bench.cc": "both sides in one process: nobody has the ciphertexts",
    "bench/bootstrap_setup.h": "both sides in one process: nobody has the ciphertexts",
}
INCLUDE = re.compile(r'^\s*#include "([^"]+)"')


def is_client(path):
    return not CLIENTS.isdisjoint(path.parts)


def floor_of(path):
    return max((f for f in ALLOWED if path.is_relative_to(f)), key=len, default=None)


def check_file(path):
    relative = path.relative_to(ROOT)
    folder = floor_of(relative)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = pathlib.PurePath(match.group(1))
        test = "test" in path.stem.split("_")
        above = floor_of(target)
        if above and above != folder and above not in ALLOWED[folder]:
            if not (test and above in TEXT and folder in TEXT):  # tests compare floors of the model
                yield f"src/{relative}:{number}: {folder} includes {target}, which stands above it"
        if is_client(target) and not is_client(relative) and not test:
            yield f"src/{relative}:{number}: includes {target}, which is the client's"


def is_test(path):
    return "test" in path.stem.split("_") or path.parts[0] == "tests"


def check_decryption():
    """One gate: a file that decrypts stands in the list with its reason, and the list names no other."""
    top = ROOT.parent
    files = [p for folder in ("src", "tools", "bench", "bindings", "examples") for p in (top / folder).rglob("*")
             if p.suffix in (".h", ".cc")]
    found = {str(p.relative_to(top)) for p in files
             if '"ckks/client/decryptor.h"' in p.read_text() and not is_test(p.relative_to(top))}
    for path in sorted(found - {"src/ckks/client/decryptor.cc"} ^ set(DECRYPTS)):
        yield f"{path}: {'decrypts and is not' if path in found else 'does not decrypt and is'} in DECRYPTS"


def main():
    files = sorted(p for p in ROOT.rglob("*") if p.suffix in (".h", ".cc", ".cu", ".cuh"))
    errors = [error for path in files for error in check_file(path)] + list(check_decryption())
    print("\n".join(errors) if errors else f"includes point one way in {len(files)} files")
    return 1 if errors else 0


sys.exit(main())
