"""`l4 convert --hub` with a local test server as the Hub: it fetches and deletes each shard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from checkpoints import write_checkpoint
from conftest import L4
from hub_server import COMMIT, Hub, serve

import convert
from convert.writing.supply import most_at_once
from l4cli.errors import HubError
from l4cli.models.hub import HubShards

REPO = "acme/Tiny-Scout"
SMALL = {"num_local_experts": 4, "num_hidden_layers": 1}
SHARDS = [f"model-{n:05}-of-00004.safetensors" for n in range(1, 5)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hub") / "Tiny-Scout", shards=4, **SMALL)


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> bytes:
    out = checkpoint.with_name("whole.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), out)
    return out.read_bytes()


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(checkpoint, REPO) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        yield served


def shards_here(folder: Path) -> list[str]:
    """The finished shards in a folder. `os.walk` tolerates files that are removed meanwhile."""
    files = (file for _, _, files in os.walk(folder) for file in files)
    return sorted(file for file in files if file.endswith(".safetensors"))


def arguments(out: Path) -> tuple[str, ...]:
    return ("convert", REPO, "--hub", "--type", "F32", "-o", str(out))


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "l4cli", *arguments(out), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_bytes_are_those_of_the_checkpoint_and_no_shard_stays(
    l4: L4, hub: Hub, whole: bytes, tmp_path: Path
) -> None:
    out, most, ended = tmp_path / "out.gguf", 0, False

    def watch() -> None:
        nonlocal most
        while not ended:
            most = max(most, len(shards_here(tmp_path)))
            time.sleep(0.002)

    thread = Thread(target=watch)
    thread.start()
    done = l4(*arguments(out))
    ended = True
    thread.join()
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole
    assert hub.got == SHARDS
    assert 1 <= most <= 2
    assert shards_here(tmp_path) == []
    assert [path.name for path in tmp_path.glob("out*")] == ["out.gguf"]


def test_a_plan_takes_headers_alone(l4: L4, hub: Hub, whole: bytes, tmp_path: Path) -> None:
    done = l4(*arguments(tmp_path / "out.gguf"), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert f'"n_bytes": {len(whole)}' in done.stdout
    assert hub.got == []


def converted_up_to(hub: Hub, out: Path, name: str) -> subprocess.Popen[str]:
    """Start a conversion that has deleted all shards before `name` and now waits for that one."""
    hub.held = {name}
    process = start(out)
    folder = out.with_name(f"{out.name}.part.shards")
    while process.poll() is None and (name not in hub.got or shards_here(folder)):
        time.sleep(0.01)
    return process


def test_a_killed_one_fetches_only_what_is_left(
    l4: L4, hub: Hub, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    process = converted_up_to(hub, out, SHARDS[2])
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    hub.held.clear()
    hub.got.clear()
    hub.commit = "f" * 40
    refused = l4(*arguments(out), "--resume")
    assert refused.returncode == 2
    assert f"was begun with revision {COMMIT}, now it is {hub.commit}" in refused.stderr
    assert hub.got == []
    hub.commit = COMMIT
    done = l4(*arguments(out), "--resume", "--revision", COMMIT)
    assert done.returncode == 0, done.stderr
    assert hub.got == SHARDS[2:]
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.glob("out*")] == ["out.gguf"]


def test_ctrl_c_does_not_wait_for_a_shard(l4: L4, hub: Hub, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    process = converted_up_to(hub, out, SHARDS[1])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command with --resume goes on" in errors
    assert f"{out}.part.shards" in errors
    assert "Traceback" not in errors
    hub.held.clear()
    hub.got.clear()
    assert l4(*arguments(out), "--resume").returncode == 0
    assert hub.got == SHARDS[1:]
    assert out.read_bytes() == whole


def test_a_cut_connection_is_taken_up_again(l4: L4, hub: Hub, whole: bytes, tmp_path: Path) -> None:
    hub.cut = {SHARDS[1]}
    out = tmp_path / "out.gguf"
    done = l4(*arguments(out))
    assert done.returncode == 0, done.stderr
    assert hub.cut == set()  # the connection was cut once
    assert out.read_bytes() == whole


def test_a_wrong_checksum_is_no_shard(l4: L4, hub: Hub, whole: bytes, tmp_path: Path) -> None:
    hub.corrupt = {SHARDS[2]}
    out = tmp_path / "out.gguf"
    done = l4(*arguments(out))
    assert done.returncode == 2
    assert f"{SHARDS[2]}: its checksum differs from the Hub's" in done.stderr
    assert not out.exists()
    assert SHARDS[2] not in shards_here(tmp_path)
    hub.corrupt = set()
    hub.got.clear()
    assert l4(*arguments(out), "--resume").returncode == 0
    assert SHARDS[0] not in hub.got
    assert out.read_bytes() == whole


def test_what_the_hub_refuses_is_one_line(l4: L4, hub: Hub, tmp_path: Path) -> None:
    cases = [
        (("/api", 404, "RepoNotFound"), "no such repository on the Hub"),
        (("/api", 401, ""), "hf auth login"),
        (("/api", 404, "RevisionNotFound"), "no such revision"),
        (("/api", 500, ""), "the Hub answers 500"),
        (("/acme", 403, "GatedRepo"), f"accept its licence at {hub.url}/{REPO}, then set HF_TOKEN"),
        (("/acme", 403, ""), "the Hub refuses access (403)"),
        (("/acme", 404, "EntryNotFound"), "no such file on the Hub"),
    ]
    for refusal, message in cases:
        hub.refusal = refusal
        done = l4(*arguments(tmp_path / "out.gguf"))
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_a_shard_in_the_cache_is_used_and_stays(
    l4: L4, hub: Hub, checkpoint: Path, whole: bytes, tmp_path: Path
) -> None:
    cached = tmp_path / "hf/hub/models--acme--Tiny-Scout/snapshots" / COMMIT / SHARDS[1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes((checkpoint / SHARDS[1]).read_bytes())
    out = tmp_path / "out.gguf"
    done = l4(*arguments(out))
    assert done.returncode == 0, done.stderr
    assert hub.got == [SHARDS[0], *SHARDS[2:]]
    assert out.read_bytes() == whole
    assert shards_here(tmp_path) == [SHARDS[1]]


def test_no_room_for_shards_is_told_before_any_comes(tmp_path: Path) -> None:
    shards = HubShards(REPO, COMMIT, {})
    with shards.kept_in(tmp_path / "shards"):
        shards.begin(SHARDS, 1 << 20)
        with pytest.raises(HubError, match=r"the disk is too small: .* 1048576\.0 TiB"):
            shards.begin(SHARDS, 1 << 60)


def test_no_network_is_one_line(l4: L4, hub: Hub, tmp_path: Path) -> None:
    done = l4(
        *arguments(tmp_path / "out.gguf"), env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr


def test_usage(l4: L4, tmp_path: Path) -> None:
    for args, message in (
        (("demo", "--hub"), "names no checkpoint on the Hub for demo"),
        (("no such id", "--hub"), "no Hub id"),
        ((REPO, "--hub", "--verify"), "deletes each shard"),
        ((REPO, "--revision", "v1"), "give --hub"),
    ):
        done = l4("convert", *args)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_scales_in_another_shard_ask_for_more_at_once() -> None:
    a, b, c = map(Path, "abc")
    assert most_at_once([]) == 0
    assert most_at_once([(a,), (a,), (b,), (c,)]) == 1
    assert most_at_once([(a, c), (b,), (c,)]) == 2
    assert most_at_once([(a, b, c)]) == 3


def test_a_folder_of_the_users_is_not_for_shards(l4: L4, hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    folder = tmp_path / "out.gguf.part.shards"
    folder.mkdir()
    (folder / "mine.safetensors").write_text("my own weights")
    done = l4(*arguments(out))
    assert done.returncode == 2
    assert "exists, and was not made by l4" in done.stderr
    assert (folder / "mine.safetensors").read_text() == "my own weights"
    assert not out.exists()


@pytest.mark.parametrize(
    ("header", "stated"),
    [
        ("ETag", '"../../../x"'),
        ("ETag", f'"{"x" * 300}"'),
        ("X-Linked-ETag", '"/tmp/l4-evil"'),
        ("X-Repo-Commit", "../../../x"),
        ("X-Xet-Hash", "../../../x"),
    ],
)
def test_headers_that_name_no_file_are_refused_before_anything_is_written(
    header: str, stated: str, l4: L4, hub: Hub, tmp_path: Path
) -> None:
    """A file in the Hub's cache is named after these headers."""
    hub.headers = {header: stated}
    (tmp_path / "hf").mkdir()
    done = l4(*arguments(tmp_path / "out.gguf"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"as {header}, which names no file" in done.stderr
    assert not {path.name for path in (tmp_path / "hf").rglob("*")} & {"blobs", "snapshots", "x"}
    assert {path.name for path in tmp_path.iterdir()} <= {"hf", "xdg-config", "xdg-state"}


@pytest.mark.parametrize("states_blob_ids", [True, False])
def test_a_hub_with_one_etag_for_all_files_confuses_none(
    l4: L4, hub: Hub, whole: bytes, tmp_path: Path, states_blob_ids: bool
) -> None:
    hub.headers, hub.states_blob_ids = {"ETag": '"the-same"'}, states_blob_ids
    out = tmp_path / "out.gguf"
    done = l4(*arguments(out))
    assert (done.returncode, done.stdout) == (2, "")
    assert "its content is not what the Hub lists" in done.stderr
    assert not out.exists()
    hub.headers = {}  # a Hub again: nothing wrong has stayed
    done = l4(*arguments(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole


def test_what_is_there_is_not_replaced_before_its_weights_are_known(
    l4: L4, hub: Hub, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(whole)
    refused = l4(*arguments(out))
    assert refused.returncode == 2
    assert "may hold other weights than the Hub has; write elsewhere with -o" in refused.stderr
    assert hub.got == []
    assert out.read_bytes() == whole
    assert l4(*arguments(out), "--overwrite").returncode == 0
    assert hub.got == SHARDS
