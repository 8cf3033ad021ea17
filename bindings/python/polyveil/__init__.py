"""CKKS with bootstrapping, and language models on ciphertexts.

    context = polyveil.Context()
    secret = polyveil.SecretKey(context)
    evaluator = polyveil.Evaluator(context, secret.make_keys(rotations=[1], bootstrapping=True))
    x = secret.encrypt(numpy.array([0.1, 0.2]))
    print(secret.decrypt((x * x + 1) << 1, 2))

Operators on ciphertexts use the evaluator that was made last with keys of the same secret key, for as long
as it lives.
"""
from ._polyveil import (Ciphertext, Context, Error, EvaluationKeys, LinearTransform, Polynomial, SecretKey,
                        __version__)
from .operators import Evaluator

__all__ = ["Ciphertext", "Context", "Error", "EvaluationKeys", "Evaluator", "LinearTransform", "Polynomial",
           "SecretKey", "__version__"]
