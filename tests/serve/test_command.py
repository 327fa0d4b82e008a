"""The command itself: addresses that cannot be had, signals, and what it says."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from commands_here import run_here

SERVE = [sys.executable, "-m", "l4cli", "serve"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "80000"], "--port"),
        (["--port", "-1"], "--port"),
        (["--host", "0.0.0.0"], "is open to other machines: give an --api-key"),
        (["--host", "10.9.8.7", "--api-key", "k"], "is no address of this machine"),
        (["--host", "nowhere.invalid"], "no such name or address"),
        (["--api-key", ""], "--api-key must have printable ASCII characters"),
        (["--api-key", "@nothing.txt"], "nothing.txt"),
        (["--allow-origin", "example"], "'example' is not an origin"),
        (["--parallel", "0"], "give auto, or a number from 1 to 255"),
        (["--parallel", "9" * 5000], "give auto, or a number from 1 to 255"),
        (["--port", "9" * 5000], "'--port': it has too many digits"),
        (["--ctx", "many"], "--ctx"),
        (["--embed-ctx", "none"], "--embed-ctx"),
        (["--embed-pooling", "max"], "'max' is not valid: give one of mean, cls, last"),
    ],
)
def test_what_cannot_be_served_is_one_line(options: list[str], said: str, tiny_gguf: Path) -> None:
    ended = run_here(["serve", "-m", str(tiny_gguf), *options])
    assert (ended.code, ended.wrong, ended.out) == (2, None, "")
    assert said in ended.err


@pytest.mark.parametrize("option", ["-m", "--embed"])
def test_a_further_model_that_is_not_there_is_one_line(option: str, tiny_gguf: Path) -> None:
    first = ["-m", str(tiny_gguf), "--ctx", "256", "--parallel", "1", "--port", "0"]
    ended = run_here(["serve", *first, option, "nothing.gguf"])
    assert (ended.code, ended.wrong, ended.out) == (2, None, "")
    assert "nothing.gguf" in ended.err


def test_a_port_in_use_is_said(tiny_gguf: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_here(["serve", "-m", str(tiny_gguf), "--port", str(port)])
    assert ended.code == 2
    assert f"port {port} is in use" in ended.err


def test_two_models_are_served_side_by_side(tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_gguf.read_bytes())
    command = [*SERVE, "-m", str(tiny_gguf), "-m", str(other), "--port", "0", "--ctx", "512"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(3)]
        for name, line in zip(("tiny", "other"), lines, strict=False):
            assert line.startswith(f"{name}: ")
            assert "each of up to 512 tokens" in line
        url = lines[2].split()[0]
        for name in ("tiny", "other"):
            body = {"model": name, "prompt": "a", "max_tokens": 3, "ignore_eos": True}
            reply = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
            assert (reply["model"], reply["usage"]["completion_tokens"]) == (name, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143


def test_it_says_where_it_is_answers_and_stops(tiny_gguf: Path) -> None:
    command = [*SERVE, "-m", str(tiny_gguf), "--port", "0", "--ctx", "512", "--parallel", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        sizes, ready = process.stderr.readline(), process.stderr.readline()
        assert "2 requests at once, each of up to 512 tokens" in sizes
        url = ready.split()[0]
        body = {"prompt": "a", "max_tokens": 3, "ignore_eos": True}
        reply = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
        assert reply.json()["usage"]["completion_tokens"] == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        assert process.stderr.read().startswith("stopping")


def running(url: str) -> str:
    """The line of /metrics with the number of requests that are being computed."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return next(line for line in lines if line.startswith("l4_requests_running{"))


def test_a_second_signal_ends_requests_with_a_word_to_their_clients(tiny_gguf: Path) -> None:
    command = [*SERVE, str(tiny_gguf), "--port", "0", "--ctx", "32k", "--parallel", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        url = [process.stderr.readline() for _ in range(2)][1].split()[0]
        body = {"prompt": "a", "max_tokens": 30_000, "ignore_eos": True}
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=60)
            streamed = {**body, "stream": True}
            with httpx.stream("POST", f"{url}/v1/completions", json=streamed, timeout=60) as reply:
                lines = reply.iter_lines()
                assert next(lines).startswith("data: {")
                arrived = (running(url).endswith(" 2") for _ in range(600))
                while not next(arrived):  # the other request comes from a thread
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                assert "Ctrl-C again ends them" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
                last = [line for line in lines if line][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopped"
            assert whole.result().status_code == 503
            assert whole.result().json()["error"]["message"] == "the server was stopped"
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == ""


def test_it_serves_an_embedding_model_alone(bert_gguf: Path) -> None:
    command = [*SERVE, "--embed", str(bert_gguf), "--port", "0", "--embed-ctx", "32"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        sizes, ready = process.stderr.readline(), process.stderr.readline()
        expected = "tiny-bert: embeddings of 128 numbers (mean), of texts of up to 32 tokens"
        assert sizes.strip() == expected
        url = ready.split()[0].removesuffix("/v1")
        reply = httpx.post(f"{url}/v1/embeddings", json={"input": "the cat"}, timeout=60)
        assert len(reply.json()["data"][0]["embedding"]) == 128
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--embed-ctx", "65"], "--embed-ctx 65 is more than the 64 tokens that tiny-bert"),
        (["--gpu-layers", "3"], "--gpu-layers 3"),
    ],
)
def test_an_embedding_model_that_cannot_be_loaded_so_is_one_line(
    options: list[str], said: str, bert_gguf: Path
) -> None:
    ended = run_here(["serve", "--embed", str(bert_gguf), "--port", "0", *options])
    assert (ended.code, ended.wrong, ended.out) == (2, None, "")
    assert said in ended.err


def test_models_in_the_wrong_place_say_where_they_go(bert_gguf: Path, tiny_gguf: Path) -> None:
    ended = run_here(["serve", "-m", str(bert_gguf), "--port", "0"])
    assert ended.code == 2
    assert "serve it with `l4 serve --embed FILE`" in ended.err
    ended = run_here(["serve", "--embed", str(tiny_gguf), "--port", "0"])
    assert ended.code == 2
    assert "states no llama4.pooling_type" in ended.err


def test_a_default_model_is_not_loaded_beside_an_embedding_model(
    bert_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ["--embed", str(bert_gguf), "--embed-ctx", "65", "--port", "0"]
    monkeypatch.setenv("L4_MODEL", "nothing.gguf")
    ended = run_here(["serve", *wrong])
    assert "--embed-ctx 65 is more than" in ended.err  # and nothing of the default model
    ended = run_here(["serve", "-m", "nothing.gguf", *wrong])
    assert "nothing.gguf" in ended.err
