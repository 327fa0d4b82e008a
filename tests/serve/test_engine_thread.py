"""What clients get when the engine itself fails, which should never happen."""

from __future__ import annotations

import httpx
import pytest
from fakes import FakeBackend, FakeVocabulary
from served import served

from l4cli.loading.llm import LLM


class Broken(FakeBackend):
    """A backend with a bug."""

    def decode(self, items: object) -> None:
        raise ZeroDivisionError("a bug")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_an_engine_that_has_failed() -> None:
    with served(LLM("fake", FakeVocabulary(), Broken())) as url:
        for path, body in (
            ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
            ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
            ("/v1/completions", {"prompt": "hi", "echo": True, "logprobs": 1, "max_tokens": 0}),
        ):
            reply = httpx.post(url + path, json=body, timeout=20)
            assert reply.status_code in (500, 503)
            assert "the engine has failed: a bug" in reply.json()["error"]["message"]
        health = httpx.get(f"{url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
