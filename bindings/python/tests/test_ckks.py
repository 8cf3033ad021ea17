"""The Python handles on a small insecure ring."""
import ast
import importlib.metadata
import os
import pathlib
import signal
import sys
import threading

import numpy as np
import pytest

import polyveil

TOLERANCE = 2.0**-12


@pytest.fixture(scope="module")
def party():
    context = polyveil.Context("test11", allow_insecure=True)
    secret = polyveil.SecretKey(context)
    keys = secret.make_keys(rotations=[1, -3], conjugation=True, bootstrapping=True)
    return context, secret, polyveil.Evaluator(context, keys)


def values(count, seed):
    random = np.random.default_rng(seed)
    return random.uniform(-0.7, 0.7, count) + 1j * random.uniform(-0.7, 0.7, count)


def test_operators_equal_numpy(party):
    _, secret, _ = party
    a, b = values(64, 1), values(64, 2)
    x, y = secret.encrypt(a), secret.encrypt(b)
    pairs = [(x + y, a + b), (x - y, a - b), (x * y, a * b), (-x, -a), (x + 1, a + 1), (2 - x, 2 - a),
             (1.5 * x, 1.5 * a), (x * b, a * b), (b + x, a + b), (x - b, a - b), (x * x, a * a),
             (x * (1 + 2j), a * (1 + 2j)), (x << 1, np.roll(a, -1)), (x >> 3, np.roll(a, 3))]
    for i, (ciphertext, expected) in enumerate(pairs):
        assert np.abs(secret.decrypt(ciphertext, 64) - expected).max() < TOLERANCE, i


def test_operators_take_what_numpy_takes(party):
    _, secret, evaluator = party
    a, b = values(64, 9), values(64, 10).real.copy()
    x = secret.encrypt(a)
    others = [b, b.astype(np.float32), np.arange(64) / 64, [0.5], [0.25, -0.5j], b[::-1], b.astype(complex),
              np.float32(0.5), np.int64(2), np.complex64(1j), 2, True, 0.25, 1 - 1j]
    for other in others:
        wide = np.resize(np.asarray(other, complex), 64)
        pairs = [(x + other, a + wide), (x - other, a - wide), (other - x, wide - a), (other * x, a * wide)]
        for i, (ciphertext, expected) in enumerate(pairs):
            assert np.abs(secret.decrypt(ciphertext, 64) - expected).max() < TOLERANCE, (other, i)
    assert np.abs(secret.decrypt(secret.encrypt(b), 64) - b).max() < TOLERANCE
    for method, expected in ((evaluator.add_plain, a + b), (evaluator.sub_plain, a - b),
                             (evaluator.mul_plain, a * b)):
        assert np.abs(secret.decrypt(method(x, b), 64) - expected).max() < TOLERANCE
    for wrong, error in (("words", ValueError), (values(3, 1), polyveil.Error), (10**400, OverflowError)):
        with pytest.raises(error):
            x + wrong
    with pytest.raises(TypeError):
        x << 0.5


def test_operators_use_the_evaluator_made_last_while_it_lives(party):
    context, _, _ = party
    secret = polyveil.SecretKey(context)
    x = secret.encrypt(values(2, 11))
    first = polyveil.Evaluator(context, secret.make_keys(rotations=[1]))
    second = polyveil.Evaluator(context, secret.make_keys(rotations=[2]))
    assert (x << 2).key_id == secret.key_id
    with pytest.raises(polyveil.Error, match="rotation 1"):
        x << 1
    polyveil.Evaluator(context)  # without keys it is of no key
    del first
    assert (x + x).level == x.level
    del second
    with pytest.raises(RuntimeError, match="no Evaluator"):
        x + x


def test_an_array_outlives_what_made_it(party):
    _, secret, _ = party
    a = values(8, 12)
    arrays = [secret.decrypt(secret.encrypt(a), 8) for _ in range(50)]
    assert max(np.abs(found - a).max() for found in arrays) < TOLERANCE
    arrays[0][:] = 0  # and is the caller's


def test_methods(party):
    context, secret, evaluator = party
    a = values(16, 3)
    x = secret.encrypt(a)
    assert np.abs(secret.decrypt(evaluator.conjugate(x), 16) - a.conj()).max() < TOLERANCE
    p = polyveil.Polynomial.approximate(np.exp, -1, 1, 9)
    real = secret.encrypt(a.real.astype(complex))
    found = secret.decrypt(evaluator.evaluate(p, real), 16)
    assert np.abs(found - [p(v) for v in a.real]).max() < TOLERANCE
    low = evaluator.drop_to(real, context.bootstrap_level)
    fresh = low.bootstrap()
    assert fresh.level == context.fresh_level
    assert np.abs(secret.decrypt(fresh, 16) - a.real).max() < 2.0**-9
    matrix = np.random.default_rng(4).uniform(-0.2, 0.2, (16, 16)).astype(complex)
    transform = polyveil.LinearTransform(context, matrix, 5)
    with_matrix = polyveil.Evaluator(context, secret.make_keys(transforms=[transform]))
    assert np.abs(secret.decrypt(with_matrix.apply(transform, x), 16) - matrix @ a).max() < TOLERANCE


def test_bytes_and_files(party, tmp_path):
    context, secret, _ = party
    a = values(8, 5)
    sent = secret.encrypt(a).to_bytes()
    (tmp_path / "ciphertext").write_bytes(sent)
    assert bytes(sent) == (tmp_path / "ciphertext").read_bytes()
    for again in (sent, bytes(sent), bytearray(sent), np.frombuffer(sent, np.uint8)):
        x = polyveil.Ciphertext.from_bytes(context, again)
    secret.write(str(tmp_path / "key"), "words")
    secret.write_keys(str(tmp_path / "keys"), rotations=[1])
    again = polyveil.SecretKey.read(context, str(tmp_path / "key"), "words")
    keys = polyveil.EvaluationKeys.read(context, str(tmp_path / "keys"), rotations=[1])
    y = polyveil.Evaluator(context, keys).rotate(x, 1)
    assert np.abs(again.decrypt(y, 8) - np.roll(a, -1)).max() < TOLERANCE
    assert again.key_id == secret.key_id == keys.key_id == x.key_id


def test_errors_name_what_is_wrong(party):
    context, secret, _ = party
    with pytest.raises(polyveil.Error, match="test11") as caught:
        polyveil.Context("test11")
    assert caught.value.code == "security"
    with pytest.raises(polyveil.Error, match="rotation 5"):
        polyveil.Evaluator(context, secret.make_keys()).rotate(secret.encrypt(values(2, 6)), 5)
    with pytest.raises(polyveil.Error):
        polyveil.Ciphertext.from_bytes(context, b"nonsense")
    with pytest.raises(polyveil.Error, match="2 rows"):
        polyveil.LinearTransform(context, np.zeros((2, 3), complex))
    with pytest.raises(polyveil.Error) as cancelled:
        secret.make_keys(bootstrapping=True, progress=lambda done: False)
    assert cancelled.value.code == "cancelled"
    other = polyveil.SecretKey(context)
    with pytest.raises(RuntimeError, match="no Evaluator"):
        other.encrypt(values(2, 7)) + 1
    seen = []
    secret.make_keys(rotations=[1], progress=lambda done: seen.append(done) or True)
    assert seen[-1] == 1 and seen == sorted(seen)


def test_what_a_callback_raises_comes_out(party, tmp_path):
    _, secret, _ = party

    def fails(done):
        raise KeyError(done)

    with pytest.raises(KeyError):
        secret.make_keys(rotations=[1], progress=fails)
    with pytest.raises(KeyError):
        secret.write_keys(str(tmp_path / "keys"), rotations=[1], progress=fails)
    assert not list(tmp_path.iterdir())  # complete or not at all
    assert secret.make_keys(rotations=[1], progress=lambda done: None).nbytes > 0


def test_a_signal_ends_what_takes_long(party):
    _, secret, _ = party

    def interrupts(done):
        os.kill(os.getpid(), signal.SIGINT)

    # Where the tests run in the background the signal is ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            secret.make_keys(bootstrapping=True, progress=interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_lock_is_free_while_it_computes(party):
    """Another thread gets on within a call, not only between calls."""
    _, secret, evaluator = party
    x = secret.encrypt(values(64, 8))
    go, counted = threading.Event(), []

    def count():
        go.wait()
        counted.extend(range(1000))

    thread = threading.Thread(target=count)
    thread.start()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # who holds the lock keeps it until it gives it up
    try:
        go.set()
        evaluator.bootstrap(x)
        assert len(counted) == 1000
    finally:
        sys.setswitchinterval(switch)
        thread.join()


def test_one_version_for_all():
    assert polyveil.__version__ == importlib.metadata.version("polyveil")


def test_type_stubs_are_in_the_package():
    folder = pathlib.Path(polyveil.__file__).parent
    assert (folder / "py.typed").exists()
    stub = (folder / "_polyveil.pyi").read_text()
    names = {node.name for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)}
    assert {"Ciphertext", "Context", "EvaluationKeys", "Evaluator", "Model", "SecretKey", "Server"} <= names
    assert "def __mul__(self, other: Ciphertext | complex" in stub


def test_two_contexts_with_threads_of_their_own():
    results = {}

    def run(name, threads):
        context = polyveil.Context(name, threads=threads, allow_insecure=True)
        secret = polyveil.SecretKey(context)
        polyveil_evaluator = polyveil.Evaluator(context, secret.make_keys())
        x = secret.encrypt(np.array([0.9 + 0j]))
        results[name] = secret.decrypt(polyveil_evaluator.square(x), 1)[0]

    workers = [threading.Thread(target=run, args=pair) for pair in (("test10", 1), ("test11", 3))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(abs(result - 0.81) < TOLERANCE for result in results.values()) and len(results) == 2
