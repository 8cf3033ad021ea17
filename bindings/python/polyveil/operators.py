"""What +, -, *, << and >> mean for a ciphertext."""
from __future__ import annotations

import numbers
import weakref

import numpy

from . import _polyveil

_evaluators: weakref.WeakValueDictionary[str, "Evaluator"] = weakref.WeakValueDictionary()


class Evaluator(_polyveil.Evaluator):
    """Arithmetic on ciphertexts, without a secret."""

    def __init__(self, context: _polyveil.Context, keys: _polyveil.EvaluationKeys | None = None):
        if keys is None:
            super().__init__(context)
            return
        super().__init__(context, keys)
        _evaluators[keys.key_id] = self


def _values(x) -> numpy.ndarray:
    return numpy.ascontiguousarray(x, dtype=numpy.complex128)


def _add(evaluator: Evaluator, a, b):
    if isinstance(b, _polyveil.Ciphertext):
        return evaluator.add(a, b)
    if isinstance(b, numbers.Number):
        return evaluator.add_constant(a, complex(b))
    return evaluator.add_plain(a, _values(b))


def _mul(evaluator: Evaluator, a, b):
    if isinstance(b, _polyveil.Ciphertext):
        return evaluator.square(a) if a is b else evaluator.mul(a, b)
    if isinstance(b, numbers.Real):
        return evaluator.mul_constant(a, float(b))
    return evaluator.mul_plain(a, numpy.atleast_1d(_values(b)))


def _sub(evaluator: Evaluator, a, b):
    if isinstance(b, _polyveil.Ciphertext):
        return evaluator.sub(a, b)
    return _add(evaluator, a, -b if isinstance(b, numbers.Number) else -_values(b))


_OPERATIONS = {
    "add": _add,
    "mul": _mul,
    "sub": _sub,
    "rsub": lambda evaluator, a, b: _add(evaluator, evaluator.negate(a), b),
    "neg": lambda evaluator, a, _: evaluator.negate(a),
    "rotate": lambda evaluator, a, by: evaluator.rotate(a, by),
    "unrotate": lambda evaluator, a, by: evaluator.rotate(a, -by),
    "bootstrap": lambda evaluator, a, _: evaluator.bootstrap(a),
}


def operate(name: str, a, b):
    evaluator = _evaluators.get(a.key_id)
    if evaluator is None:
        raise RuntimeError(f"no Evaluator with keys of key {a.key_id[:16]} is alive")
    return _OPERATIONS[name](evaluator, a, b)
