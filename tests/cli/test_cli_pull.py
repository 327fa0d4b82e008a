"""`l4 pull`, `l4 models` and `l4 rm`, with a local test server as the Hub and a temporary cache."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pexpect
import pytest
from conftest import L4, cache_home
from hub_server import COMMIT, Hub, serve
from typer.testing import CliRunner

from l4cli.amounts import human_size
from l4cli.app import app
from l4cli.errors import HubError, L4Error
from l4cli.models.hub import pieces
from l4cli.models.hub.pieces import Pieces
from l4cli.models.installed import cached_models
from l4cli.models.locate import locate
from l4cli.models.registry import load_registry

REPO = "acme/Tiny-GGUF"
NAME = f"hf.co/{REPO}"
SINGLE = "tiny-Q8_0.gguf"
PARTS = [f"Q4_K_M/tiny-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
SIZE = 600_000


def content(name: str) -> bytes:
    """The bytes of a file of the repository; they need not be a valid GGUF."""
    digest = hashlib.sha256(name.encode()).digest()
    return b"GGUF" + digest * (SIZE // len(digest))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in (SINGLE, *PARTS, "mmproj-F16.gguf", "README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content(name))
    return folder


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(repository, REPO) as served:
        for name, value in settings(served, tmp_path).items():
            monkeypatch.setenv(name, value)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        # huggingface_hub reads these settings only once, when it is imported.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def settings(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}


def run(*args: str) -> Any:
    """Run the command in this process. The message of an L4Error is returned as stderr."""
    done = CliRunner().invoke(app, args)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, L4Error), repr(done.exception)
        return SimpleNamespace(exit_code=2, stdout=done.stdout, stderr=str(done.exception))
    return done


def repo_folder(tmp_path: Path) -> Path:
    return tmp_path / "hf/hub/models--acme--Tiny-GGUF"


def blobs(tmp_path: Path) -> dict[str, int]:
    """The size of each blob in the cache, by name."""
    folder = repo_folder(tmp_path) / "blobs"
    return {path.name: path.stat().st_size for path in folder.glob("*")}


def sha256(name: str) -> str:
    return hashlib.sha256(content(name)).hexdigest()


def test_a_model_comes_and_is_found_by_its_name(hub: Hub, tmp_path: Path) -> None:
    planned = json.loads(run("pull", f"{NAME}:q8_0", "--dry-run", "--json").stdout)
    assert (planned["n_bytes"], planned["n_here"]) == (len(content(SINGLE)), 0)
    assert hub.got == []
    assert not repo_folder(tmp_path).exists()
    done = run("pull", f"{NAME}:Q8_0", "--json")
    assert done.exit_code == 0, done.stderr
    assert "its checksums are right" in done.stderr
    path = Path(json.loads(done.stdout)["path"])
    assert path.read_bytes() == content(SINGLE)
    assert locate(f"{NAME}:Q8_0").path == locate(f"https://{NAME}").path == path
    # huggingface_hub finds the same file.
    from huggingface_hub import try_to_load_from_cache

    cache = str(tmp_path / "hf/hub")
    assert try_to_load_from_cache(REPO, SINGLE, cache_dir=cache) == str(path)
    hub.ranges.clear()
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    assert hub.ranges == []


def test_split_models_come_whole(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.redirects = True
    done = run("pull", NAME)  # Q4_K_M by default
    assert done.exit_code == 0, done.stderr
    assert "1.1 MiB in 2 files" in done.stderr
    assert hub.tokens == {"Bearer hf_secret"}
    path = locate(f"{NAME}:Q4_K_M").path
    assert [path.name, path.parent.name] == [Path(PARTS[0]).name, "Q4_K_M"]
    for name in PARTS:
        assert (path.parent / Path(name).name).read_bytes() == content(name)
    assert run("pull", NAME, "--dry-run").stdout.count("585.9 KiB  585.9 KiB") == 2


def test_a_name_of_models_toml(hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "xdg-config/l4/models.toml"
    own.parent.mkdir(parents=True)
    own.write_text(
        '[models.tiny]\nquant = "Q4_K_M"\n'
        f'gguf = {{ repo = "{REPO}", files = "{{quant}}/tiny-{{quant}}*.gguf" }}\n'
    )
    assert "get it with: l4 pull tiny:Q4_K_M" in run("info", "tiny").stderr
    assert run("pull", "tiny").exit_code == 0
    assert locate("tiny").path.name == Path(PARTS[0]).name
    refused = run("pull", "tiny:Q8_0").stderr
    assert refused == f"{REPO}: has no quantization Q8_0; there are Q4_K_M"
    listed = {
        model["name"]: model["present"] for model in json.loads(run("models", "--json").stdout)
    }
    assert [(each["quant"], each["is_whole"]) for each in listed["tiny"]] == [("Q4_K_M", True)]
    assert NAME not in listed


def test_what_cannot_be_pulled_is_one_line(hub: Hub, tmp_path: Path) -> None:
    for args, message in (
        ((f"{NAME}:Q9",), "has no quantization Q9; there are Q4_K_M, Q8_0"),
        (("demo",), "demo comes with l4"),
        (("zzz",), "no file and no model named 'zzz'"),
        (("org/zzz",), "no model named 'org/zzz'; for a repository on the Hub say hf.co/org/zzz"),
        (("behemoth",), "behemoth was never released"),
    ):
        done = run("pull", *args)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
    for refusal, message in (
        (("/api", 404, "RepoNotFound"), "no such repository on the Hub"),
        (("/api", 401, "GatedRepo"), f"accept its licence at {hub.url}/{REPO}, then set HF_TOKEN"),
        (("/api", 404, "RevisionNotFound"), "no such revision"),
        (("/acme", 401, ""), "the Hub refuses access (401)"),
        (("/acme", 403, "GatedRepo"), "accept its licence at"),
        (("/acme", 404, "EntryNotFound"), "no such file on the Hub"),
    ):
        hub.refusal = refusal
        done = run("pull", f"{NAME}:Q8_0")
        assert done.exit_code == 2
        assert message in done.stderr.splitlines()[-1]
    assert hub.got == []


def test_no_network_and_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in run("pull", NAME).stderr
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it" in run("pull", NAME).stderr


def test_ctrl_c_keeps_what_has_come(hub: Hub, tmp_path: Path) -> None:
    hub.stalled = {SINGLE}
    command = ["-m", "l4cli", "pull", f"{NAME}:Q8_0"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    terminal = pexpect.spawn(
        sys.executable, command, env=environment, dimensions=(24, 80), encoding="utf-8", timeout=30
    )
    terminal.expect(r"fetching .*293\.0/585\.9 KiB.* [\d.]+ .iB/s.* \d:\d\d:\d\d.* tiny-Q8_0")
    terminal.sendintr()
    terminal.expect("293.0 KiB of 585.9 KiB are kept: the same command goes on")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert "Traceback" not in terminal.before
    ((name, n_kept),) = blobs(tmp_path).items()
    assert name == f"{sha256(SINGLE)}.incomplete"
    assert 0 < n_kept <= len(content(SINGLE)) // 2 + 1
    (model,) = cached_models(load_registry())
    assert (model.full_name, model.is_whole) == (f"{NAME}:unfinished", False)
    hub.stalled.clear()
    hub.ranges.clear()
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    assert hub.ranges == [(SINGLE, n_kept, len(content(SINGLE)))]
    assert locate(f"{NAME}:Q8_0").path.read_bytes() == content(SINGLE)


def test_a_cut_connection_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut = {SINGLE}
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    assert hub.cut == set()  # the connection was cut once
    (first, second) = hub.ranges
    assert first == (SINGLE, 0, len(content(SINGLE)))
    assert 0 < second[1] < second[2] == len(content(SINGLE))


def test_wrong_bytes_never_get_the_name(hub: Hub, tmp_path: Path) -> None:
    hub.corrupt = {SINGLE}
    done = run("pull", f"{NAME}:Q8_0")
    assert done.exit_code == 2
    assert f"{SINGLE}: its checksum differs from the Hub's" in done.stderr
    assert blobs(tmp_path) == {}
    hub.corrupt = set()
    # An unfinished download by another tool is dropped if it is not the beginning of the file.
    blob = repo_folder(tmp_path) / "blobs" / sha256(SINGLE)
    blob.with_name(f"{blob.name}.incomplete").write_bytes(bytes(1000))
    assert "checksum" in run("pull", f"{NAME}:Q8_0").stderr
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    # A finished file that was damaged on the disk is dropped, too.
    blob.write_bytes(content(SINGLE)[:-1] + b"!")
    assert "so it was deleted" in run("pull", f"{NAME}:Q8_0").stderr
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    assert blobs(tmp_path) == {sha256(SINGLE): len(content(SINGLE))}


def test_a_disk_that_is_too_small_is_told_before(
    hub: Hub, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(mounted))
    done = run("pull", f"{NAME}:Q8_0")
    assert done.exit_code == 2
    assert "the disk is too small: 585.9 KiB are" in done.stderr
    assert hub.got == []
    assert "the disk is too small" in run("pull", f"{NAME}:Q8_0", "--dry-run").stderr


def test_a_disk_that_fills_up_keeps_what_it_has(
    hub: Hub, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(mounted))
    monkeypatch.setattr("l4cli.models.hub.pull.refuse_unless_it_fits", lambda plan: None)
    done = run("pull", f"{NAME}:Q8_0")
    assert "the disk is full; free some space, and run the same command again" in done.stderr
    (part,) = (mounted / "hub/models--acme--Tiny-GGUF/blobs").iterdir()
    data = part.read_bytes()
    assert data
    assert content(SINGLE).startswith(data)


def test_two_at_once_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    import fcntl

    folder = repo_folder(tmp_path) / "blobs"
    folder.mkdir(parents=True)
    with (folder / f"{sha256(SINGLE)}.incomplete").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another process is fetching it" in run("pull", f"{NAME}:Q8_0").stderr


def test_pieces_come_in_order(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 50_000)
    whole, here = content(SINGLE), []
    found = Pieces(f"{hub.url}/{REPO}/resolve/{COMMIT}/{SINGLE}", 12_345, len(whole), here.append)
    assert b"".join(found) == whole[12_345:]
    assert sum(here) == len(whole) - 12_345
    assert len(hub.ranges) == 12
    assert found.rest() == b""


# Listing models and removing them.


def test_models_and_rm(l4: L4, hub: Hub, tmp_path: Path) -> None:
    for quant in ("Q8_0", "Q4_K_M"):
        assert run("pull", f"{NAME}:{quant}").exit_code == 0
    demo = cache_home() / "l4/demo/demo-0123456789ab-Q8_0.gguf"
    demo.parent.mkdir(parents=True)
    demo.write_bytes(b"GGUF" * 100)
    outside = tmp_path / "mine.gguf"
    outside.write_bytes(b"GGUF")
    (locate(f"{NAME}:Q8_0").path.parent / "mine-IQ2_M.gguf").symlink_to(outside)
    table = run("models").stdout
    day = time.strftime("%Y-%m-%d")
    for name, size in (("demo:Q8_0", 400), (f"{NAME}:Q4_K_M", 2 * len(content(SINGLE)))):
        assert " ".join((name, human_size(size), day)) in " ".join(table.split())
    described = json.loads(run("models", "--json").stdout)
    assert described[-1]["name"] == NAME
    assert {each["quant"] for each in described[-1]["present"]} == {"Q8_0", "Q4_K_M", "IQ2_M"}

    refused = run("rm", NAME, "--yes").stderr
    assert refused.startswith(f"{NAME}: which one? There are {NAME}:IQ2_M, {NAME}:Q4_K_M")
    assert "not in the cache; did you mean" in run("rm", f"{NAME}:Q9_0", "--yes").stderr
    assert "no terminal to confirm on; give --yes" in run("rm", f"{NAME}:Q8_0").stderr
    assert sha256(SINGLE) in blobs(tmp_path)

    done = l4("rm", f"{NAME}:Q8_0", "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"removed {NAME}:Q8_0: 585.9 KiB freed\n"
    assert sha256(SINGLE) not in blobs(tmp_path)
    assert locate(f"{NAME}:Q4_K_M").path.exists()
    # A link that leads out of the cache is removed, but not the file that it leads to.
    done = run("rm", f"{NAME}:IQ2_M", "--yes", "--json")
    assert json.loads(done.stdout)["n_bytes_freed"] == 0
    assert outside.read_bytes() == b"GGUF"
    assert run("rm", "demo", "--yes").exit_code == 0
    assert not demo.exists()
    assert run("rm", NAME, "--yes").exit_code == 0
    assert not repo_folder(tmp_path).exists()
    assert cached_models(load_registry()) == []


def test_rm_asks(hub: Hub, tmp_path: Path) -> None:
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    terminal = pexpect.spawn(
        sys.executable, ["-m", "l4cli", "rm", f"{NAME}:q8_0"], encoding="utf-8", timeout=30
    )
    terminal.expect_exact(f"Remove {NAME}:Q8_0, 585.9 KiB? [y/N]: ")
    terminal.sendline("n")
    terminal.expect("nothing was removed")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert sha256(SINGLE) in blobs(tmp_path)


def test_blobs_that_are_shared_stay(hub: Hub, tmp_path: Path) -> None:
    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    path = locate(f"{NAME}:Q8_0").path
    (path.parent / "other-Q6_K.gguf").symlink_to(path.resolve())
    done = run("rm", f"{NAME}:Q8_0", "--yes")
    assert "0 B freed" in done.stderr
    assert "585.9 KiB stay: other models share them" in done.stderr
    assert locate(f"{NAME}:Q6_K").path.read_bytes() == content(SINGLE)


def test_a_model_in_use_is_safe(hub: Hub, tmp_path: Path) -> None:
    import mmap

    assert run("pull", f"{NAME}:Q8_0").exit_code == 0
    with locate(f"{NAME}:Q8_0").path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    done = run("rm", f"{NAME}:Q8_0", "--yes")
    if sys.platform == "linux":
        assert f"process {os.getpid()} still has it loaded" in done.stderr
    assert mapped[:] == content(SINGLE)
    mapped.close()


def test_incomplete_splits_are_told(hub: Hub, tmp_path: Path) -> None:
    assert run("pull", f"{NAME}:Q4_K_M").exit_code == 0
    path = locate(f"{NAME}:Q4_K_M").path
    path.with_name(Path(PARTS[1]).name).unlink()
    assert "incomplete" in run("models").stdout
    with pytest.raises(L4Error, match="not on this machine"):
        locate(f"{NAME}:Q4_K_M")
    hub.ranges.clear()
    assert run("pull", f"{NAME}:Q4_K_M").exit_code == 0
    assert hub.ranges == []  # the blob was there


def test_what_a_repository_may_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from l4cli.models.hub.pull import plan_pull

    for name, sha256, message in (
        ("../../x-Q8_0.gguf", "0" * 64, "names a file outside its directory"),
        ("x-Q8_0.gguf", "../../x", "the Hub's checksum is '../../x', which is not a SHA-256"),
        ("x-Q8_0-00001-of-00002.gguf", "0" * 64, "x-Q8_0-00002-of-00002.gguf is not on the Hub"),
        ("model.safetensors", "0" * 64, "make one with: l4 convert acme/Tiny-GGUF --hub"),
    ):
        lfs = SimpleNamespace(sha256=sha256, size=4)
        info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, lfs=lfs)], sha=COMMIT)
        monkeypatch.setattr("l4cli.models.hub.pull.look_up", lambda *_, info=info: info)
        with pytest.raises(HubError, match=message):
            plan_pull(REPO, tmp_path / "r", pattern=None, quant=None, revision=None)


@pytest.mark.parametrize(
    "commit", ["/home/x", "../../..", "..", "", "main", "0" * 39, "A" * 40, None]
)
def test_a_commit_is_forty_digits_and_no_path(hub: Hub, tmp_path: Path, commit: str | None) -> None:
    """The Hub's answer decides where links are made; it must not reach a file of the user."""
    mine = tmp_path / SINGLE
    mine.write_bytes(b"my own weights")
    hub.commit = str(tmp_path) if commit == "/home/x" else commit  # type: ignore[assignment]
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ["pull", f"{NAME}:Q8_0"],
        ["convert", REPO, "--hub", "-o", str(tmp_path / "o")],
    ):
        done = run(*command)
        assert done.exit_code == 2
        assert ("sha is None" if commit is None else "as its commit, which is none") in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert mine.read_bytes() == b"my own weights"


@pytest.mark.parametrize("revision", ["../../../mine", "/etc/x", "a//b", ".", "a/../b"])
def test_a_revision_is_no_path_upwards(hub: Hub, tmp_path: Path, revision: str) -> None:
    done = run("pull", f"{NAME}:Q8_0", "--revision", revision)
    assert done.exit_code == 2
    assert "cannot be a revision" in done.stderr
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("name", ["../x-Q8_0.gguf", "/x-Q8_0.gguf", "a/../../x-Q8_0.gguf"])
def test_a_file_of_the_hub_stays_in_its_folder(
    hub: Hub, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = hub.info()
    entry = next(each for each in info["siblings"] if each["rfilename"] == SINGLE)
    monkeypatch.setattr(hub, "info", lambda: {**info, "siblings": [{**entry, "rfilename": name}]})
    done = run("pull", f"{NAME}:Q8_0")
    assert done.exit_code == 2
    assert "names a file outside its directory" in done.stderr
    for digest in ("../" * 21 + "x", "a" * 63, "mine"):
        lfs = {**entry["lfs"], "sha256": digest}
        monkeypatch.setattr(
            hub, "info", lambda lfs=lfs: {**info, "siblings": [{**entry, "lfs": lfs}]}
        )
        assert "which is not a SHA-256" in run("pull", f"{NAME}:Q8_0").stderr
    assert not (tmp_path / "hf").exists()
