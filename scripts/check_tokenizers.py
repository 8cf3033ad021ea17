#!/usr/bin/env python3
"""Compares `polyveil import --tokens` with Hugging Face's tokenizers on mixed text, line by line.

Environment as in make_released_vectors.py. DATA holds text files (*.txt, *.md, *.jsonl), read in name order; a fifth of the lines is
generated: random Unicode, code, runs of spaces, digits, joined from the lines read.

python scripts/check_tokenizers.py build/tools/polyveil/polyveil DATA TOKENIZER.json ... [--lines 100000] [--dump FILE --count N]
"""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers

RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF),
          (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x3400, 0x34FF), (0x4E00, 0x9FFF),
          (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE30, 0xFFEF), (0x10000, 0x103FF), (0x1D400, 0x1D7FF),
          (0x1F300, 0x1FAFF), (0x20000, 0x202FF), (0xE0020, 0xE007F)]
SPACES = [" ", "  ", "   ", "\t", "\r", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u3000", "\u200b"]
CODE = ["def f(x):", "    return x**2  # ok", "for (int i=0;i<n;++i) {", "}\t}", "std::vector<std::uint8_t>", "a->b != c&&d", "0x1F600",
        "3.14159e-10", "1,234,567", "$PATH", "it's", "IT'S", "we'll", "WE'LL", "they'Re", "'s't'm", "don't", "\u2019s", "'\u017f"]


def random_text(rng):
    kind = rng.randrange(4)
    if kind == 0:
        lo, hi = rng.choice(RANGES)
        return "".join(chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 12)))
    if kind == 1:
        return rng.choice(SPACES) * rng.randint(1, 5)
    if kind == 2:
        return rng.choice(CODE)
    return str(rng.randrange(10 ** rng.randint(1, 12)))


def read_lines(folder, wanted, rng):
    lines = []
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.suffix in (".txt", ".md", ".jsonl"):
            lines += [line for line in path.read_text(errors="strict").split("\n") if line]
    rng.shuffle(lines)
    natural = lines[: wanted - wanted // 5]
    generated = []
    while len(generated) < wanted // 5:
        parts = [random_text(rng) for _ in range(rng.randint(1, 8))]
        if rng.random() < 0.3:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(natural)[:80])
        generated.append("".join(parts))
    everything = natural + generated
    rng.shuffle(everything)
    return [line.replace("\n", " ") for line in everything]


def run(program, tokenizer, path, special):
    command = [program, "import", tokenizer, "--tokens-file", path] + (["--special"] if special else [])
    out = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    return [[int(i) for i in line.split()] for line in out.split("\n")[:-1]]


def compare(program, name, lines, path, special):
    reference = tokenizers.Tokenizer.from_file(name)
    reference.no_padding()
    reference.no_truncation()
    ours = run(program, name, path, special)
    assert len(ours) == len(lines), (len(ours), len(lines))
    different = tokens = 0
    for line, ids in zip(lines, ours):
        expected = reference.encode(line, add_special_tokens=special).ids
        tokens += len(expected)
        if expected != ids:
            different += 1
            if different <= 5:
                print(f"  {line!r}\n    reference {expected}\n    polyveil  {ids}", file=sys.stderr)
    print(f"{name}: {len(lines)} lines, {tokens} tokens, {different} lines differ")
    return different


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("data")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--lines", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    lines = read_lines(arguments.data, arguments.lines, random.Random(arguments.seed))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        different = sum(compare(arguments.program, name, lines, file.name, special)
                        for name in arguments.tokenizers for special in (False, True))
    return 1 if different else 0


sys.exit(main())
