"""The Python handles on a small insecure ring."""
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
    x = polyveil.Ciphertext.from_bytes(context, secret.encrypt(a).to_bytes())
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


def test_the_lock_is_free_while_it_computes(party):
    _, secret, evaluator = party
    x = secret.encrypt(values(64, 8))
    stop, counted = threading.Event(), [0]

    def count():
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(20):
        evaluator.bootstrap(x)
    stop.set()
    thread.join()
    assert counted[0] > 1000


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
