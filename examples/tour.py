"""Encode, multiply, rotate, bootstrap, decrypt; then text from a model that never sees it.

tour.py [MODEL [SET_FOR_TESTS]]: without SET the parameters are the secure ones (minutes and gigabytes).
"""
import sys

import numpy as np

import polyveil

model = sys.argv[1] if len(sys.argv) > 1 else "models/tiny"
small = {"allow_insecure": True} if len(sys.argv) > 2 else {}
context = polyveil.Context(sys.argv[2] if small else "full16", **small)
print(context)
secret = polyveil.SecretKey(context)
evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))

values = np.array([0.5, -0.25, 0.125, 0.75])
x = secret.encrypt(values)
y = (x * x + 0.1) << 1
y = evaluator.drop_to(y, context.bootstrap_level).bootstrap()
found, expected = secret.decrypt(y, 4).real, np.roll(values**2 + 0.1, -1)
print(f"level {y.level}:", found.round(4), "expected", expected)
assert np.abs(found - expected).max() < 1e-2

server = polyveil.Server(model, parameters=sys.argv[2] if small else "")
client = polyveil.Client(server.url, **small)
text = "".join(token.text for token in client.generate("on", tokens=3))
print(repr(text), "float64:", repr(polyveil.from_pretrained(model).generate("on", 3)))
assert text == polyveil.from_pretrained(model).generate("on", 3)
