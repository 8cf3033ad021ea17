#!/usr/bin/env python3
"""Every verb of every program as one among other programs: numbers that are none, output that cannot be
written or that nobody receives, environment, interruption. Verbs and options come from the pages of help, so
that new ones are tried too.
Usage: command_line_test.py POLYVEIL SERVER MAKE_RANDOM_MODEL SOURCE [TRAINER]"""
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

POLYVEIL, SERVER, MAKE_MODEL, SOURCE = sys.argv[1:5]
TRAINER = sys.argv[5] if len(sys.argv) > 5 else None
FOLDER = tempfile.TemporaryDirectory()
MODEL = FOLDER.name + "/model"
SMALL = ["--model", MODEL, "--parameters", "test10", "--threads", "1"]
SECONDS = 8  # for a signal to end a verb; it takes tenths of one where the machine is not busy
FAILURES = []

# Numbers below zero that are right: everything for scores, "full" or "none" elsewhere.
NEGATIVE = {("bench bootstrap", "--log-period"), ("bench soak", "--log-period"), ("bench attention", "--score-lo"),
            ("bench attention", "--score-hi"), ("server", "--ready-fd"),
            ("server", "--weight-gigabytes"), ("proxy", "--ready-fd")}
BAD = ["-1", "nan", "-inf", "1e999", "99999999999999999999", "1x"]


def expect(right, what, seen=""):
    if not right:
        FAILURES.append(f"{what}: {seen}")
        print("FAILED:", FAILURES[-1])


def run(*words, stdout=subprocess.PIPE, **options):
    return subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=stdout,
                          stderr=subprocess.PIPE, timeout=120, **options)


def verbs(program, *path):
    """Names below "Subcommands:", groups opened."""
    page = run(program, *path, "--help").stdout.decode()
    names = re.findall(r"^  ([a-z-]+)  ", page.partition("Subcommands:")[2], re.M)
    for name in names:
        yield from verbs(program, *path, name) if name == "bench" else [(*path, name)]


def options(program, path, kinds):
    page = run(program, *path, "--help").stdout.decode()
    return re.findall(rf"^  (?:-[a-z],)?(--[a-z-]+)(?:,--[a-z-]+)* (?:{kinds})\b", page, re.M)


def elsewhere(path):
    return path[0] in ("serve", "train", "convert", "distil", "study")


def check_numbers(program, name, path):
    for option in options(program, path, "INT|UINT|FLOAT"):
        for bad in BAD:
            if bad == "-1" and (name, option) in NEGATIVE:
                continue
            r = run(program, *path, option, bad)
            text = r.stderr.decode()
            expect(0 < r.returncode < 126 and option in text and f'"{bad}"' in text, f"{name} {option} {bad}",
                   f"status {r.returncode}, {text.strip()[:200]}")


def check_unwritable(program, name, path):
    files = {"--json", "--out", "--logits"} - ({"--out"} if path == ("fit",) else set())  # a folder
    for option in set(options(program, path, "TEXT")) & files:
        for where in ("/nonexistent/x", MODEL):
            r = run(program, *path, option, where)
            expect(r.returncode == 1 and b"cannot write" in r.stderr and not r.stdout,
                   f"{name} {option} {where}", f"status {r.returncode}, {r.stderr.decode().strip()[:200]}")


def unheard(*words):
    """The command with nobody to hear it, three ways."""
    with open("/dev/full", "w") as full:
        yield "a full device", run(*words, stdout=full)
    yield "closed", run("bash", "-c", 'exec "$@" >&-', "-", *words)
    reader, writer = os.pipe()
    os.close(reader)
    yield "a pipe without a reader", run(*words, stdout=writer)
    os.close(writer)


def check_unheard(what, *words):
    for where, r in unheard(*words):
        expect(r.returncode == 1 and b"standard output" in r.stderr, f"{what} to {where}",
               f"status {r.returncode}, {r.stderr.decode().strip()[-200:]}")


def end_of(process):
    return process.stderr.read().decode()[-200:]


def interrupt(what, status, *words, number=signal.SIGINT, after=0.7, prepare=None):
    p = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE)
    prepare(p) if prepare else time.sleep(after)
    if p.poll() is not None:
        return expect(False, what, f"ended by itself, status {p.returncode}: {end_of(p)}")
    start = time.time()
    p.send_signal(number)
    try:
        p.wait(SECONDS)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
    seconds = time.time() - start
    expect(p.returncode == status, what, f"status {p.returncode} after {seconds:.1f} s: {end_of(p)}")


def check_pages():
    programs = [(POLYVEIL, "polyveil"), (SERVER, "server")] + ([(TRAINER, "trainer")] if TRAINER else [])
    for program, name in programs:
        for where, r in unheard(program, "--help"):
            expect(r.returncode != 0 and b"standard output" in r.stderr, f"{name} --help to {where}",
                   r.returncode)
    for path in verbs(POLYVEIL):
        if elsewhere(path):
            continue
        check_numbers(POLYVEIL, " ".join(path), path)
        check_unwritable(POLYVEIL, " ".join(path), path)
    check_numbers(SERVER, "server", ())


def check_output():
    plain = ["generate", "--model", MODEL, "--plain", "--prompt", "o", "--tokens", "2"]
    check_unheard("generate --plain", POLYVEIL, *plain)
    check_unheard("plan", POLYVEIL, "plan", *SMALL)
    check_unheard("info", POLYVEIL, "info", *SMALL[:4])
    open(FOLDER.name + "/prompts", "w").write("o\nu\n")
    check_unheard("simulate", POLYVEIL, "simulate", "--model", MODEL, "--parameters", "test10",
                  "--prompts", FOLDER.name + "/prompts", "--count", "2", "--tokens", "2")
    page = run(POLYVEIL, "--help").stdout.decode()
    if "import" in page:
        check_unheard("import", POLYVEIL, "import", SOURCE + "/tests/vectors/released/llama.gguf")
    # What was asked for on disk is there all the same.
    report = FOLDER.name + "/run.json"
    encrypted = ["generate", *SMALL, "--insecure-test", "--prompt", "o", "--tokens", "2"]
    for where, r in unheard(POLYVEIL, *encrypted, "--json", report):
        expect(r.returncode == 1 and json.load(open(report))["generated"] == 2, f"generate to {where}",
               f"status {r.returncode}, {r.stderr.decode()[-200:]}")
        expect(os.stat(report).st_mode & 0o77 == 0, "the report of texts can be read by others")
        os.remove(report)
    # Progress and text in one stream: the text is whole, at the end, without a carriage return.
    text = run(POLYVEIL, *plain).stdout
    r = run("bash", "-c", 'exec "$@" 2>&1', "-", POLYVEIL, *encrypted)
    expect(r.stdout.endswith(b"\n" + text) and b"\r" not in r.stdout, "one stream", r.stdout[-200:])


def check_environment():
    environment = dict(os.environ, POLYVEIL_BACKEND="abacus")
    for what, words in {"plan": [POLYVEIL, "plan", *SMALL], "server": [SERVER, "--model", MODEL]}.items():
        r = run(*words, env=environment)
        expect(r.returncode == 1 and b"abacus" in r.stderr and b"ref" in r.stderr,
               f"{what}: an unknown backend", r.stderr)
    r = run(POLYVEIL, "info", *SMALL[:4], "--json", FOLDER.name + "/info.json")
    keys = json.load(open(FOLDER.name + "/info.json"))["keys"]
    expect(len(keys["rotations"]) > 10, "info --json has no keys")
    expect(not re.search(rb"\d+@\d+", r.stdout), "info prints raw keys", r.stdout[-300:])


def check_interrupts():
    interrupt("simulate", 130, POLYVEIL, "simulate", "--model", SOURCE + "/models/tiny", "--tokens", "90")
    interrupt("simulate, SIGTERM", 143, POLYVEIL, "simulate", "--model", SOURCE + "/models/tiny",
              "--tokens", "90", number=signal.SIGTERM)
    interrupt("bench soak", 130, POLYVEIL, "bench", "soak", "--parameters", "test12", "--threads", "1")
    interrupt("bench attention", 130, POLYVEIL, "bench", "attention", "--keys", "100000", after=0.3)
    interrupt("server", 0, SERVER, "--model", MODEL, "--parameters", "test10", "--port", "0",
              prepare=lambda p: p.stderr.readline())
    interrupt("plan", 130, POLYVEIL, "plan", "llama-3-8b")
    if "import" in run(POLYVEIL, "--help").stdout.decode():
        open(FOLDER.name + "/text", "w").write("once upon a time there was a cat. " * 3000)
        interrupt("eval", 130, POLYVEIL, "eval", SOURCE + "/models/tiny", "--text", FOLDER.name + "/text")


def train(*words, **options):
    return run(TRAINER, *words, cwd=FOLDER.name, **options)


def refuse(what, pattern, *words):
    r = train(*words)
    text = r.stderr.decode()
    expect(0 < r.returncode < 126 and re.search(pattern, text), what, f"status {r.returncode}, {text[-300:]}")


def check_trainer():
    """Texts in one file; runs that are kept, interrupted, continued; names that are no paths."""
    for option, words in {b"--checkpoint": ["convert"], b"--heldout": ["train", "prepare"]}.items():
        expect(option in run(POLYVEIL, *words, "--help").stdout,
               f"polyveil {words[0]} does not find the trainer")
    os.makedirs(FOLDER.name + "/stories/my texts")
    words = random.Random(1)
    lines = [" ".join(f"w{words.randrange(500)}" for _ in range(30)) for _ in range(600)]
    open(FOLDER.name + "/stories/my texts/all.txt", "w").write("\n\n".join(lines))
    prepare = ["prepare", "--data", "stories", "--out", "data", "--vocab", "300", "--heldout", "20"]
    r = train(*prepare)
    expect(r.returncode == 0 and b"1 files cut" in r.stdout, "one file of text", r.stdout + r.stderr)
    refuse("a dataset that is there", "--replace", *prepare)
    config = {"name": "toy", "threads": 1, "batch": 4, "steps": 4, "log_every": 1,
              "shape": {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 16, "vocab_size": 300,
                        "context": 16}}
    start = ["run", "--config", "toy.json", "--data", "data", "--out"]

    def configure(**changes):
        json.dump(dict(config, **changes), open(FOLDER.name + "/toy.json", "w"))

    for name in ("../../evil", "/tmp/evil", "", "."):
        configure(name=name)
        refuse(f"a run named {name!r}", "name", *start, "runs")
    expect(not os.path.exists(FOLDER.name + "/runs"), "a refused name leaves something")
    configure(steps=100000)
    checkpoint = FOLDER.name + "/runs/toy/last.pt"

    def started(p):  # the first step is in its curve
        curve = FOLDER.name + "/runs/toy/curve.jsonl"
        while p.poll() is None and not (os.path.exists(curve) and os.path.getsize(curve)):
            time.sleep(0.05)

    os.chdir(FOLDER.name)
    interrupt("run", 130, TRAINER, *start, "runs", prepare=started)
    if not os.path.exists(checkpoint):
        return expect(False, "an interrupted run saves no checkpoint")
    before = os.stat(checkpoint).st_mtime_ns
    refuse("a run that is there", "--resume", *start, "runs")
    expect(os.stat(checkpoint).st_mtime_ns == before, "a refused run touches the one that is there")
    check_unheard("a resumed run", TRAINER, *start, "runs", "--resume", "--stop-after", "1")


def main():
    subprocess.run([MAKE_MODEL, MODEL, "1"], check=True)
    steps = [check_pages, check_output, check_environment, check_interrupts]
    steps += [check_trainer] if TRAINER else []
    for step in steps:
        begin = time.time()
        step()
        print(f"{step.__name__[6:]}: {time.time() - begin:.1f} s", flush=True)
    sys.exit(1 if FAILURES else 0)


main()
