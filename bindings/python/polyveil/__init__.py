"""CKKS with bootstrapping, and language models on ciphertexts.

    context = polyveil.Context()
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
    x = secret.encrypt(numpy.array([0.1, 0.2]))
    print(secret.decrypt((x * x + 1) << 1, 2))

    server = polyveil.Server("models/tiny")
    for token in polyveil.Client(server.url).generate("Once upon a time", tokens=4):
        print(token.text, end="")

Operators on ciphertexts use the evaluator that was made last with keys of the same secret key, for as long
as it lives.
"""
from ._polyveil import (Ciphertext, Context, Error, EvaluationKeys, Evaluator, GeneratedText, LinearTransform,
                        Model, Plan, Polynomial, SecretKey, Server, Simulation, __version__)
from .client import Client, Token, from_pretrained

__all__ = ["Ciphertext", "Client", "Context", "Error", "EvaluationKeys", "Evaluator", "GeneratedText",
           "LinearTransform", "Model", "Plan", "Polynomial", "SecretKey", "Server", "Simulation", "Token",
           "__version__", "from_pretrained"]
