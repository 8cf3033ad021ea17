# %% [markdown]
# # How exact, and how fast
#
# Open it as a notebook (Jupytext, VS Code), or run it:
# `precision_and_latency.py [SET [FIGURE.png]]`. Without SET: `full16`, the secure one (a minute, 6 GB).
# Needs `pip install 'polyveil[plots]'`.

# %%
import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import polyveil

matplotlib.use("agg") if len(sys.argv) > 2 else None
parameters = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "full16"
context = polyveil.Context(parameters, allow_insecure=parameters.startswith("test"))
secret = polyveil.SecretKey(context)
evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
values = np.random.default_rng(1).uniform(-1, 1, context.slots)
context

# %% [markdown]
# **Latency.** A ciphertext of a higher level has more limbs, and every operation works on all of them: compute
# late, at low levels, where you can.


# %%
def milliseconds(operation, repeats=5):
    operation()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        operation()
        times.append(1e3 * (time.perf_counter() - start))
    return np.median(times)


operations = {"x + y": lambda x: x + x, "x * array": lambda x: x * values, "x * y": lambda x: x * x,
              "x << 1": lambda x: x << 1}
fresh = secret.encrypt(values.astype(complex))
levels = sorted({1, *range(2, context.fresh_level + 1, max(1, context.fresh_level // 6)), context.fresh_level})
latency = {name: [milliseconds(lambda: operation(evaluator.drop_to(fresh, level))) for level in levels]
           for name, operation in operations.items()}

# %% [markdown]
# **Precision.** Every product rounds; the error of the worst slot grows by about a bit a product. A bootstrap
# gives the levels back, and its own error is what remains.


# %%
def bits(ciphertext, expected):
    """Of the worst slot."""
    return -np.log2(np.abs(secret.decrypt(ciphertext) - expected).max())


x, expected, chain = fresh, values, [(0, bits(fresh, values))]
bootstraps = []
for product in range(1, 2 * (context.fresh_level - context.bootstrap_level) + 1):
    if x.level <= context.bootstrap_level:
        x = x.bootstrap()
        bootstraps.append((product - 1, bits(x, expected)))
    x, expected = x * fresh, expected * values
    chain.append((product, bits(x, expected)))
low = evaluator.drop_to(fresh, context.bootstrap_level)
error = np.abs(secret.decrypt(low.bootstrap()) - values)

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
for name, times in latency.items():
    left.plot(levels, times, marker="o", label=name)
left.set(xlabel="level", ylabel="ms", yscale="log", title="Latency")
left.legend()
middle.plot(*zip(*chain), marker=".", label="after each product")
if bootstraps:
    middle.plot(*zip(*bootstraps), "s", label="after a bootstrap")
middle.set(xlabel="products", ylabel="bits, worst slot", title="Precision of x, x^2, x^3, ...")
middle.legend()
right.hist(-np.log2(np.maximum(error, 2.0**-40)), bins=60)
right.axvline(-np.log2(error.max()), color="#d55e00", label=f"worst: {-np.log2(error.max()):.1f} bits")
right.set(xlabel="bits", ylabel="slots", title="A bootstrap, slot by slot")
right.legend()
figure.suptitle(f"{context}", fontsize=8)
if len(sys.argv) > 2:
    figure.savefig(sys.argv[2], dpi=120)
