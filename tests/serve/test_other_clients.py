"""Clients of others against the server: `llm` as a command, and LiteLLM.

They are many packages, so they are an extra of their own: `clients`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harmony import CALL, FINAL, OSLO, THOUGHT, harmony_llm
from served import served

from l4cli.loading.llm import LLM

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]

GREEDY = ("-o", "temperature", "0", "-o", "max_tokens", "40")
QUESTION = "What is GGUF?"
MODELS = """
- {{model_id: chat, model_name: demo, api_base: "{url}/v1", supports_schema: true}}
- {{model_id: plain, model_name: demo, api_base: "{url}/v1", completion: true}}
- {{model_id: responses, model_name: demo, api_base: "{url}/v1", responses: true}}
- {{model_id: tools, model_name: fake, api_base: "{url}/v1", supports_tools: true}}
"""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def forecaster() -> LLM:
    """A model that asks for the weather, and then says what it heard."""

    def answer(prompt: str) -> str:
        return THOUGHT + (FINAL + "Take an umbrella." if "Rain" in prompt else CALL + OSLO)

    return harmony_llm(answer, n_ctx=16384)


class Llm:
    """The command `llm` with models of a server."""

    def __init__(self, home: Path, url: str) -> None:
        (home / "extra-openai-models.yaml").write_text(MODELS.format(url=url), "utf-8")
        self._environment = {**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "none"}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_llm_asks_streams_and_goes_on(tmp_path: Path, url: str) -> None:
    llm = Llm(tmp_path, url)
    streamed = llm("-m", "chat", *GREEDY, QUESTION)
    assert streamed.startswith("GGUF is ")
    assert llm("-m", "chat", "--no-stream", *GREEDY, QUESTION) == streamed
    assert llm("-c", "And what is quantization?").strip()
    assert json.loads(llm("logs", "-n", "1", "--json"))[0]["input_tokens"] > 20
    assert llm("-m", "plain", *GREEDY, "GGUF is").strip()


def test_llm_has_schemas_and_responses(tmp_path: Path, url: str) -> None:
    llm = Llm(tmp_path, url)
    said = llm("-m", "chat", "--schema", "city, size int", *GREEDY, "Oslo is big.")
    assert list(json.loads(said)) == ["city", "size"]
    for stream in ((), ("--no-stream",)):
        said = llm("-m", "responses", *stream, "-o", "temperature", "0", QUESTION)
        assert said.startswith("GGUF is ")


def test_llm_calls_functions(tmp_path: Path) -> None:
    function = "def get_weather(city: str) -> str:\n    return 'Rain in ' + city"
    with served(forecaster()) as url:
        llm = Llm(tmp_path, url)
        for stream in ((), ("--no-stream",)):
            said = llm("-m", "tools", *stream, "--functions", function, "How is Oslo?")
            assert said.strip().endswith("Take an umbrella.")


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # and no look-up in the network
    import litellm

    yield litellm
    litellm.in_memory_llm_clients_cache.flush_cache()
    gc.collect()  # its connections are closed here, where warnings of that are no errors


def litellm_models(url: str, name: str = "demo") -> list[dict[str, Any]]:
    """The same model through OpenAI's API and Anthropic's."""
    return [
        {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"},
        {"model": f"anthropic/{name}", "api_base": url, "api_key": "none"},
    ]


def test_litellm_asks_and_streams(litellm: Any, url: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    said = set()
    for model in litellm_models(url):
        body = {**model, "messages": messages, "temperature": 0, "max_tokens": 40}
        whole = litellm.completion(**body)
        chunks = list(
            litellm.completion(**body, stream=True, stream_options={"include_usage": True})
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage.prompt_tokens > 10
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        said.add(text)
    assert len(said) == 1


def test_litellm_has_a_tools_loop(litellm: Any) -> None:
    with served(forecaster()) as url:
        for model in litellm_models(url, "fake"):
            asked: list[Any] = [{"role": "user", "content": "How is Oslo?"}]
            body = {**model, "messages": asked, "tools": [WEATHER], "max_tokens": 500}
            message = litellm.completion(**body).choices[0].message
            (call,) = message.tool_calls
            assert json.loads(call.function.arguments) == {"city": "Oslo"}
            assert message.reasoning_content == "Hm."
            result = {"role": "tool", "tool_call_id": call.id, "content": "Rain"}
            asked += [message.model_dump(exclude_none=True), result]
            assert litellm.completion(**body).choices[0].message.content == "Take an umbrella."


def test_litellm_has_responses_and_messages(litellm: Any, url: str) -> None:
    by_openai, by_anthropic = litellm_models(url)
    body = {**by_openai, "input": QUESTION, "temperature": 0, "max_output_tokens": 40}
    response = litellm.responses(**body)
    text = response.output[0].content[0].text
    assert text.startswith("GGUF is ")
    events = list(litellm.responses(**body, stream=True))
    assert events[-1].type == "response.completed"
    message = asyncio.run(
        litellm.anthropic.messages.acreate(
            **by_anthropic,
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            max_tokens=40,
        )
    )
    assert message["content"][0]["text"] == text


def test_litellm_tells_of_errors(litellm: Any, url: str) -> None:
    long = [{"role": "user", "content": "word " * 50_000}]
    for model in litellm_models(url):
        with pytest.raises(litellm.BadRequestError, match=r"the prompt has [\d,]+ tokens"):
            litellm.completion(**model, messages=long)
