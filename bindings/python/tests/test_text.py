"""Model, server and client from Python, on a random model that fits the smallest ring."""
import os
import pathlib

import pytest

import polyveil

MODEL = os.environ.get("POLYVEIL_TEST_MODEL", "")
pytestmark = pytest.mark.skipif(not pathlib.Path(MODEL, "model.json").exists(),
                                reason="POLYVEIL_TEST_MODEL names no folder of make_random_model")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    server = polyveil.Server(MODEL, parameters="test10")
    yield polyveil.Client(server.url, cache_folder=str(tmp_path_factory.mktemp("cache")), allow_insecure=True)
    server.stop()


def test_encrypted_text_equals_the_models(client):
    model = polyveil.from_pretrained(MODEL)
    expected = model.generate("on", 4)
    seen = []
    client.send_keys(lambda done: seen.append(done) or True)
    assert seen[-1] == 1
    tokens = list(client.generate("on", 4))
    assert "".join(token.text for token in tokens) == expected
    assert sum(not token.prompt for token in tokens) == 4
    assert all(token.seconds > 0 for token in tokens)


def test_an_iterator_that_is_left_ends_the_text(client):
    for token in client.generate("on", 6):
        break
    assert len(list(client.generate("on", 2))) >= 2


def test_plans_and_simulations():
    model = polyveil.Model.load(MODEL)
    plan = model.plan(parameters="test10")
    assert plan.seconds_per_token > 0 and plan.bootstraps > 0 and dict(plan.components)
    simulation = model.simulate("on", 4, parameters="test10")
    assert simulation.equal_tokens == simulation.tokens > 0


def test_errors(client):
    with pytest.raises(polyveil.Error) as caught:
        list(client.generate("on", 0))
    assert caught.value.code == "invalid argument"
    with pytest.raises(polyveil.Error) as missing:
        polyveil.Model.load("/nowhere")
    assert missing.value.code == "not found"
