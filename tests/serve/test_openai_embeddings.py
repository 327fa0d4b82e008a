"""/v1/embeddings through OpenAI's own client, and what it refuses."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from served import served

from l4cli.engine.embedding import Vectors
from l4cli.errors import EngineError
from l4cli.loading.embedder import Embedder
from l4cli.loading.llm import LLM
from l4cli.serve.limits import AskingLimits

MODEL = "tiny-bert"
TEXTS = ["hello world", "the cat sat in the café", "北京", "hello world"]


@pytest.fixture(scope="module")
def url(demo: LLM, embedder: Embedder) -> Iterator[str]:
    with served(demo, embedders=[embedder]) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def vectors(answer: Any) -> Vectors:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json=body, timeout=60)


def test_texts_become_vectors_in_their_order(client: openai.OpenAI, embedder: Embedder) -> None:
    answer = client.embeddings.create(model=MODEL, input=TEXTS)  # the client asks for base64
    expected = embedder.embed(TEXTS)
    np.testing.assert_allclose(vectors(answer), expected.vectors, atol=2e-4)
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(expected.num_tokens)
    same, other = vectors(answer)[[0, 3]], vectors(answer)[1]
    assert same[0] @ same[1] > 0.999 > other @ same[0]


def test_numbers_and_base64_are_the_same(client: openai.OpenAI) -> None:
    as_base64 = client.embeddings.create(model=MODEL, input="the cat", user="me")
    as_numbers = client.embeddings.create(model=MODEL, input="the cat", encoding_format="float")
    np.testing.assert_array_equal(vectors(as_base64), vectors(as_numbers))


def test_token_ids_stay_as_they_are(client: openai.OpenAI, embedder: Embedder) -> None:
    ids = [embedder.encode(text) for text in TEXTS]
    by_text = vectors(client.embeddings.create(model=MODEL, input=TEXTS))
    by_ids = vectors(client.embeddings.create(model=MODEL, input=ids))
    alone = vectors(client.embeddings.create(model=MODEL, input=ids[1]))
    np.testing.assert_array_equal(by_text, by_ids)
    np.testing.assert_allclose(alone[0], by_ids[1], atol=2e-4)


def test_dimensions_cut_and_make_the_length_1_again(client: openai.OpenAI) -> None:
    whole = vectors(client.embeddings.create(model=MODEL, input="the cat"))[0]
    cut = vectors(client.embeddings.create(model=MODEL, input="the cat", dimensions=16))[0]
    np.testing.assert_allclose(cut, whole[:16] / np.linalg.norm(whole[:16]), atol=1e-6)


def test_as_many_inputs_as_openai_takes(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=[f"{n} cats" for n in range(2048)])
    found = vectors(answer)
    assert found.shape == (2048, 128)
    assert answer.usage.prompt_tokens > 2048
    assert found[7] @ vectors(client.embeddings.create(model=MODEL, input="7 cats"))[0] > 0.9999


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "input is missing"),
    "null": ({"input": None}, "input is missing"),
    "no text": ({"input": ""}, "input[0] is an empty text"),
    "no inputs": ({"input": []}, "input is an empty list"),
    "an empty one": ({"input": ["a", ""]}, "input[1] is an empty text"),
    "no ids": ({"input": [[5], []]}, "input[1] has no tokens"),
    "too many": ({"input": ["a"] * 2049}, "input has 2,049 texts, and may have 2,048"),
    "too long": ({"input": ["a", "cat " * 63]}, "input[1] has 65 tokens, and tiny-bert takes 64"),
    "too many ids": ({"input": [5] * 65}, "input[0] has 65 tokens"),
    "a foreign id": ({"input": [5, 147]}, "input[0] has the token id 147, and the vocabulary"),
    "a negative id": ({"input": [[5], [-1]]}, "input[1] has the token id -1"),
    "a huge id": ({"input": [10**18]}, "input[0] has the token id 1000000000000000000"),
    "a number": ({"input": 5}, "input must be a string or a list, not a number"),
    "an object": ({"input": {"text": "a"}}, "input must be a string or a list, not an object"),
    "fractions": ({"input": [1.5]}, "input[0] must be a text or a list of token ids"),
    "true": ({"input": [True]}, "input[0] must be a text or a list of token ids"),
    "mixed": ({"input": ["a", 5]}, "input[1] must be a text or a list of token ids"),
    "deep": ({"input": [[[5]]]}, "input[0] must be a text or a list of token ids"),
    "half a character": ({"input": ["a", "\ud800"]}, "input[1] the text holds a lone surrogate"),
    "format": ({"input": "a", "encoding_format": "int8"}, "encoding_format must be float or base"),
    "odd format": ({"input": "a", "encoding_format": []}, "encoding_format must be float or base"),
    "no dimension": ({"input": "a", "dimensions": 0}, "dimensions must be an integer from 1 up"),
    "odd dimensions": ({"input": "a", "dimensions": "9"}, "dimensions must be an integer"),
    "more dimensions": ({"input": "a", "dimensions": 129}, "dimensions is 129, and tiny-bert has"),
    "user": ({"input": "a", "user": 5}, "user must be a string"),
    "unknown": ({"input": "a", "inputs": "b"}, "unknown field 'inputs'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_embedded_is_said(name: str, url: str) -> None:
    body, message = REFUSED[name]
    reply = httpx.post(
        f"{url}/v1/embeddings",
        content=_ascii_json({"model": MODEL, **body}),
        headers={"content-type": "application/json"},
    )
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def _ascii_json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()  # a lone surrogate stays an escape


def test_too_long_has_openais_code_and_field(url: str) -> None:
    error = post(url, model=MODEL, input="cat " * 63).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


def test_nan_is_no_json(url: str) -> None:
    reply = httpx.post(
        f"{url}/v1/embeddings",
        content=b'{"input": [NaN]}',
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 400
    assert "NaN" in reply.json()["error"]["message"]


def test_lenient_ignores_unknown_fields(embedder: Embedder) -> None:
    with served(embedders=[embedder], lenient=True) as url:
        assert post(url, input="a", truncate=True).status_code == 200


def test_each_kind_of_model_says_what_it_is_not(url: str, client: openai.OpenAI) -> None:
    reply = post(url, model="demo", input="a")
    assert reply.status_code == 400
    assert "demo" in reply.json()["error"]["message"]
    assert "makes no embeddings; these are made by tiny-bert" in reply.json()["error"]["message"]
    question: Any = [{"role": "user", "content": "a"}]
    with pytest.raises(openai.BadRequestError, match="writes no text: ask /v1/embeddings"):
        client.chat.completions.create(model=MODEL, messages=question)
    reply = post(url, model="nothing", input="a")
    assert reply.status_code == 404
    assert "served: tiny-bert" in reply.json()["error"]["message"]
    assert post(url, input="a").status_code == 200  # without a name, the first that can


def test_a_server_without_such_a_model_says_how_to_get_one(demo: LLM) -> None:
    with served(demo) as url:
        for body in ({"model": "demo", "input": "a"}, {"input": "a"}):
            reply = post(url, **body)
            assert reply.status_code == 404
            assert "start l4 serve with --embed MODEL" in reply.json()["error"]["message"]


def test_it_is_listed_with_its_sizes(client: openai.OpenAI, url: str) -> None:
    listed = {one.id: one for one in client.models.list().data}
    assert set(listed) > {MODEL}
    shown = httpx.get(f"{url}/v1/models/{MODEL}").json()
    assert (shown["max_model_len"], shown["embedding_dimensions"]) == (64, 128)
    assert "embedding_dimensions" not in httpx.get(f"{url}/v1/models/demo").json()


def test_an_embedding_model_may_be_alone(embedder: Embedder) -> None:
    with served(embedders=[embedder]) as url:
        assert post(url, model=MODEL, input="a").status_code == 200
        chat = {"messages": [{"role": "user", "content": "a"}]}
        for path, body in (
            ("/v1/chat/completions", chat),
            ("/v1/completions", {"prompt": "a"}),
            ("/v1/messages", {**chat, "max_tokens": 3}),
            ("/v1/responses", {"input": "a"}),
            ("/detokenize", {"tokens": [5]}),
        ):
            reply = httpx.post(url + path, json=body)
            assert reply.status_code == 400
            assert "makes embeddings and writes no text" in reply.text
        assert httpx.get(f"{url}/").status_code == 404
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        assert httpx.get(f"{url}/v1/models").json()["first_id"] == MODEL


def test_tokens_can_be_counted_before(url: str, embedder: Embedder) -> None:
    def tokens(**body: Any) -> Any:
        return httpx.post(f"{url}/tokenize", json={"content": "the cat", **body}).json()["tokens"]

    assert tokens(model=MODEL, add_special=True) == embedder.encode("the cat")
    assert tokens(model=MODEL) == embedder.encode("the cat")[1:-1]
    assert tokens() == tokens(model="demo")
    with served(embedders=[embedder]) as alone:
        reply = httpx.post(f"{alone}/tokenize", json={"content": "the cat"})
        assert reply.json()["tokens"] == tokens(model=MODEL)
        reply = httpx.post(f"{alone}/tokenize", json={"content": "a", "with_pieces": True})
        assert reply.status_code == 400


def test_what_was_computed_is_counted(embedder: Embedder) -> None:
    with served(embedders=[embedder]) as url:
        post(url, input=["the cat", "the dog"])
        post(url, input="")
        counts = dict(
            re.findall(r'(\w+)\{model="tiny-bert"\} (\d+)', httpx.get(f"{url}/metrics").text)
        )
    assert counts["l4_embedding_requests_total"] == "1"
    assert counts["l4_embedding_inputs_total"] == "2"
    assert counts["l4_embedding_tokens_total"] == "8"
    assert counts["l4_embedding_requests_open"] == "0"


def test_many_clients_at_once_get_their_own(url: str, embedder: Embedder) -> None:
    texts = [f"{n} cats" for n in range(24)]
    expected = embedder.embed(texts).vectors
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(
            pool.map(lambda text: client.embeddings.create(model=MODEL, input=text), texts)
        )
    for answer, vector in zip(answers, expected, strict=True):
        assert vectors(answer)[0] @ vector > 0.9999


class Held(Embedder):
    """An embedder that computes nothing before it is released."""

    def __init__(self, other: Embedder) -> None:
        self.__dict__.update(other.__dict__)
        self.released, self.batches = threading.Event(), list[int]()

    def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        self.batches.append(len(inputs))
        self.released.wait(20)
        return super().compute(inputs)


def until(true: Any) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def opened(url: str) -> int:
    return int(re.findall(r"requests_open\{.*\} (\d+)", httpx.get(f"{url}/metrics").text)[0])


def test_a_client_that_goes_away_has_its_work_dropped(embedder: Embedder) -> None:
    held = Held(embedder)
    with served(embedders=[held]) as url:
        content = _ascii_json({"input": ["the cat " * 20] * 500})
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as gone:
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}"
            gone.sendall(head.encode() + b"\r\n\r\n" + content)
            until(lambda: held.batches)
        until(lambda: opened(url) == 0)
        held.released.set()
        assert post(url, input="the dog").status_code == 200
    assert len(held.batches) <= 3  # the one that ran, and that of the second client


def test_a_full_queue_and_a_late_answer_are_said(embedder: Embedder) -> None:
    held = Held(embedder)
    with (
        served(embedders=[held], limits=AskingLimits(queue=2, seconds=0.5)) as url,
        ThreadPoolExecutor(12) as pool,
    ):
        replies = list(pool.map(lambda _: post(url, input="the cat"), range(12)))
        held.released.set()
    full = [reply for reply in replies if reply.status_code == 503]
    late = [reply for reply in replies if reply.status_code == 504]
    assert len(full) + len(late) == 12
    assert len(late) >= 3  # one that is computed, and two that wait
    assert "--queue" in full[0].json()["error"]["message"]
    assert "--timeout of 0.5 s" in late[0].json()["error"]["message"]


class Failing(Held):
    """An embedder on which computing fails, or that has a bug."""

    error: Exception = EngineError("llama.cpp failed")

    def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        if len(inputs[0]) == 3:
            raise self.error
        return Embedder.compute(self, inputs)


def test_a_failed_computation_is_one_requests_error(embedder: Embedder) -> None:
    with served(embedders=[Failing(embedder)]) as url:
        reply = post(url, input="cat")
        assert (reply.status_code, reply.json()["error"]["message"]) == (500, "llama.cpp failed")
        assert post(url, input="the cat").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_has_ended(embedder: Embedder) -> None:
    broken = Failing(embedder)
    broken.error = ZeroDivisionError("a bug")
    with served(embedders=[broken]) as url:
        for _ in range(2):
            reply = post(url, input="cat")
            assert reply.status_code in (500, 503)
            assert "a bug" in reply.json()["error"]["message"]
        health = httpx.get(f"{url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")


def test_numbers_that_are_none_are_an_error(embedder: Embedder) -> None:
    class Wild(Held):
        def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors:
            return np.full((len(inputs), self.n_embd), np.nan, np.float32)

    with served(embedders=[Wild(embedder)]) as url:
        reply = post(url, input=["a", "b"])
        assert reply.status_code == 500
        assert "input[0]: the model computed values that are no numbers" in reply.text
