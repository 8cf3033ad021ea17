#!/usr/bin/env python3
"""Compares `polyveil eval` with lm-eval (EleutherAI's harness, on transformers) on the same examples and the same checkpoint.

Environment as in make_released_vectors.py, and lm-eval==0.4.5 with its dependencies.
    python scripts/check_evaluation.py PROGRAM CHECKPOINT --data DIR --tasks piqa,blimp/wh_island --limit 200 [--shots 5] [--state FILE]
    python scripts/check_evaluation.py PROGRAM CHECKPOINT --text FILE --windows 39
Tasks: lm-eval reads the same JSON lines through templates of its own, cuts, scores and averages them itself. Text: the file's first
windows of 1024 tokens by transformers, one pass each. Printed: both sides' figures, the examples whose choice differs, the largest
difference of a log-probability. --state is the journal of a run of `polyveil eval` that may have begun elsewhere.
"""
import argparse
import json
import math
import os
import subprocess
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gguf
import torch
import transformers as tf
from tokenizers import pre_tokenizers

from check_logits import load

WINDOW = 1024
FILES = {"lambada": "lambada_openai"}


def load_tokenizer(path):
    if not path.endswith(".gguf"):
        return tf.AutoTokenizer.from_pretrained(path)
    folder, name = os.path.split(path)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder or ".", gguf_file=name)
    # transformers 4.46 does not read how a GGUF file cuts a text before its merges.
    fields = gguf.GGUFReader(path).fields
    if "tokenizer.ggml.pre" in fields and fields["tokenizer.ggml.pre"].contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def run_ours(arguments, extra, folder):
    """The journal's entries of one run, by task, and its results."""
    state = arguments.state or os.path.join(folder, "state")
    results = os.path.join(folder, "results.json")
    begin = time.time()
    subprocess.run([arguments.program, "eval", arguments.checkpoint, *extra, "--state", state, "--json", results], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    entries = {}
    with open(state, encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            entry = json.loads(line)
            entries.setdefault(entry["task"], {})[entry["index"]] = entry
    with open(results, encoding="utf-8") as file:
        return entries, {each["task"]: each for each in json.load(file)["results"]}, time.time() - begin


def task_file(data, task):
    return os.path.join(data, FILES.get(task, task if task.startswith("blimp/") else task.replace("-", "_")) + ".jsonl")


def task_config(task, path, shots, folder):
    """lm-eval's description of a task of ours; the file's first `shots` examples stand before every other one."""
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    name = "local_" + task.replace("/", "_")  # none of the tasks that lm-eval brings
    files = {}
    for split, part in (("shots", lines[:shots]), ("test", lines[shots:])):
        if part:
            files[split] = os.path.join(folder, f"{name}.{split}.jsonl")
            with open(files[split], "w", encoding="utf-8") as out:
                out.writelines(part)
    config = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test",
              "output_type": "multiple_choice", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
    if shots:
        config.update(fewshot_split="shots", num_fewshot=shots, fewshot_config={"sampler": "first_n"})
    keys = json.loads(lines[0]).keys()
    if "good" in keys:
        config.update(doc_to_text="", doc_to_target=0, doc_to_choice="{{[good, bad]}}", target_delimiter="")
    elif "query" in keys:
        config.update(doc_to_text="{{query.rstrip()}}\nAnswer:", doc_to_target="gold", doc_to_choice="choices")
    elif "context_options" in keys:
        config.update(doc_to_text="gold", doc_to_target="continuation", doc_to_choice="context_options",
                      metric_list=[{"metric": "acc"}])
    else:
        config.update(output_type="loglikelihood", doc_to_text="{{context.rstrip()}}", doc_to_target="{{' ' + continuation}}",
                      metric_list=[{"metric": "acc"}, {"metric": "perplexity"}])
    return config


def choice(log_probabilities):
    return max(range(len(log_probabilities)), key=lambda i: log_probabilities[i])


def compare_tasks(arguments, model, tokenizer, folder):
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    names = arguments.tasks.split(",")
    extra = ["--data", arguments.data, "--tasks", arguments.tasks, "--shots", str(arguments.shots), "--limit", str(arguments.limit)]
    entries, results, seconds = run_ours(arguments, extra, folder)
    print(f"polyveil eval: {seconds:.0f} s (less where its journal was there)")
    runner = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=arguments.batch, device="cpu")
    for name in names:
        config = task_config(name, task_file(arguments.data, name), arguments.shots, folder)
        begin = time.time()
        out = lm_eval.simple_evaluate(model=runner, tasks=[ConfigurableTask(config=config)], limit=arguments.limit, num_fewshot=arguments.shots or None,
                                      bootstrap_iters=100, log_samples=True, verbosity="ERROR")
        theirs = out["results"][config["task"]]
        largest = other = 0
        samples = out["samples"][config["task"]]
        for sample in samples:
            entry = entries[name][sample["doc_id"]]
            scores = [float(r[0]) for r in sample["filtered_resps"]]
            ours = entry["log_probabilities"]
            largest = max(largest, *(abs(a - b) for a, b in zip(scores, ours, strict=True)))
            other += choice(scores) != choice(ours) if len(ours) > 1 else bool(sample["acc"]) != entry["right"]
        ours = results[name]
        line = f"{name:32} {len(samples):5} examples  accuracy {ours['accuracy']:.4f} | {theirs['acc,none']:.4f}"
        line += f" (+- {ours['accuracy_error']:.4f} | {theirs['acc_stderr,none']:.4f})"
        if "acc_norm,none" in theirs:
            line += f"  normalised {ours['normalized_accuracy']:.4f} | {theirs['acc_norm,none']:.4f}"
        if "perplexity,none" in theirs:
            line += f"  perplexity {ours['gold_perplexity']:.4f} | {theirs['perplexity,none']:.4f}"
        print(f"{line}  other choices {other}, log-probabilities differ by at most {largest:.2g}; lm-eval {time.time() - begin:.0f} s",
              flush=True)


def compare_text(arguments, model, tokenizer, folder):
    with open(arguments.text, encoding="utf-8") as file:
        ids = tokenizer(file.read(), add_special_tokens=False)["input_ids"]
    entries, _, seconds = run_ours(arguments, ["--text", arguments.text, "--window", str(WINDOW), "--limit", str(arguments.windows)],
                                   folder)
    begin = time.time()
    theirs, ours, scored, largest = 0.0, 0.0, 0, 0.0
    for i in range(arguments.windows):
        window = torch.tensor(ids[i * WINDOW:(i + 1) * WINDOW])
        with torch.no_grad():
            logits = model(input_ids=window[None]).logits[0]
        value = torch.log_softmax(logits[:-1].double(), -1).gather(1, window[1:, None]).sum().item()
        theirs += value
        ours += entries["text"][i]["log_probability"]
        largest = max(largest, abs(value - entries["text"][i]["log_probability"]))
        scored += len(window) - 1
    print(f"{arguments.text}: {scored} tokens in {arguments.windows} windows of {WINDOW}, perplexity "
          f"{math.exp(-ours / scored):.5f} | {math.exp(-theirs / scored):.5f}, a window's log-probability differs by at most "
          f"{largest:.2g}; {seconds:.0f} s | {time.time() - begin:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("checkpoint")
    parser.add_argument("--data")
    parser.add_argument("--tasks")
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--text")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--state")
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.checkpoint).eval(), load_tokenizer(arguments.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = os.path.join(folder, "cache")
        if arguments.text:
            compare_text(arguments, model, tokenizer, folder)
        if arguments.tasks:
            compare_tasks(arguments, model, tokenizer, folder)


if __name__ == "__main__":
    main()
