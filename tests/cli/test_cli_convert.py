"""The command `l4 convert`. The files that it writes are tested in tests/convert."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import gguf
import pytest
from commands_here import run_here
from conftest import L4

from l4cli.app import app
from l4cli.errors import UsageError


def test_convert_then_run(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny-q8.gguf"
    done = l4("convert", tiny_checkpoint, "-o", out, "--type", "q8_0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"wrote {out}: llama4 Q8_0" in done.stderr
    assert [path.name for path in tmp_path.glob("tiny-q8*")] == ["tiny-q8.gguf"]
    answer = l4("run", "-m", out, "-n", "2", "--ctx", "512", stdin='{"prompt": "hello"}')
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["model"] == "tiny-q8"


def test_dry_run_tells_the_size_to_the_byte(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    args = ("convert", tiny_checkpoint, "-o", out, "--type", "Q4_K_M", "--json")
    plan = json.loads(l4(*args, "--dry-run").stdout)
    assert not out.exists()
    report = json.loads(l4(*args).stdout)
    assert plan["n_bytes"] == report["n_bytes"] == out.stat().st_size
    assert len(plan["tensors"]) == plan["n_tensors"]


def test_the_closing_table(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = l4("convert", tiny_checkpoint, "-o", tmp_path / "out.gguf", "--type", "Q4_K_M")
    rows = [line.split() for line in done.stderr.splitlines()]
    assert rows[0] == ["TYPE", "TENSORS", "WEIGHTS", "SIZE", "BITS"]
    assert {row[0] for row in rows[1:-2]} == {"Q4_K", "Q6_K", "F32"}
    assert "bits per weight" in done.stderr
    assert "active)" in done.stderr
    assert "of memory at most" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_snapshot_of_the_hub_gives_its_output_the_name_of_the_repository(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--org--Tiny-Scout" / "snapshots" / ("ab" * 20)
    shutil.copytree(tiny_checkpoint, snapshot)
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    done = run_here(["convert", str(snapshot), "--type", "Q8_0"])
    assert done.code == 0, done.err
    assert [path.name for path in out.iterdir()] == ["Tiny-Scout-Q8_0.gguf"]


def test_several_types_and_a_split(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = ("convert", tiny_checkpoint, "--type", "Q8_0", "--type", "F16")
    refused = l4(*source, "-o", tmp_path / "out.gguf")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "for several types, put {type} into the name or give a directory" in refused.stderr
    done = l4(*source, "-o", tmp_path / "x-{type}.gguf", "--split-max-size", "3M", "--json")
    assert done.returncode == 0, done.stderr
    q8_0, f16 = json.loads(done.stdout)
    assert (q8_0["type"], f16["type"]) == ("Q8_0", "F16")
    assert q8_0["out"].endswith(f"x-Q8_0-00001-of-{len(q8_0['files']):05}.gguf")
    assert sum(Path(file).stat().st_size for file in f16["files"]) == f16["n_bytes"]
    answer = l4("run", "-m", q8_0["out"], "-n", "2", "--ignore-eos", stdin='{"prompt": "hello"}')
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["usage"]["completion_tokens"] == 2
    plans = json.loads(l4(*source, "-o", tmp_path, "--dry-run", "--json").stdout)
    assert [Path(plan["out"]).name for plan in plans] == ["tiny-Q8_0.gguf", "tiny-F16.gguf"]


def test_config_file_may_name_one_type_or_several(
    l4: L4, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "l4" / "config.toml"
    config.parent.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for written, types in (('"Q8_0"', ["Q8_0"]), ('["Q8_0", "F16"]', ["Q8_0", "F16"])):
        config.write_text(f"[convert]\ntype = {written}\n")
        plans = json.loads(l4("convert", tiny_checkpoint, "--dry-run", "--json").stdout)
        plans = plans if isinstance(plans, list) else [plans]
        assert [plan["type"] for plan in plans] == types


def test_verify(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    source = ("convert", tiny_checkpoint, "-o", out, "--type", "Q8_0")
    done = l4(*source, "--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    said = (
        rf"^{out}: verified: \d+ tensors; the one nearest to its limit, \S+, "
        r"differs by \d\.\d%, and Q8_0 may by 1\.2%$"
    )
    assert re.search(said, done.stderr, re.M)
    with out.open("rb+") as file:
        file.seek(-300_000, 2)
        file.write(b"\x11" * 300_000)
    before = out.read_bytes()
    found = l4(*source, "--verify-only")
    assert found.returncode == 1
    table = [line.split() for line in found.stdout.splitlines()]
    assert table[0][:2] == ["TENSOR", "TYPE"]
    errors = [float(row[3]) for row in table[1:] if row[1] == "Q8_0"]
    assert errors == sorted(errors, reverse=True) != []
    assert all(float(row[3]) > float(row[4]) for row in table[1:])
    assert out.read_bytes() == before
    without_type = l4("convert", tiny_checkpoint, "-o", out, "--verify-only", "--json")
    report = json.loads(without_type.stdout)
    assert not report["is_fine"]
    assert not report["tensors"][0]["is_fine"]


def test_memory_is_kept_to(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = ("convert", tiny_checkpoint, "-o", tmp_path / "out.gguf", "--type", "F32", "-t", "2")
    refused = l4(*source, "--ram", "20M")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    least = refused.stderr.strip().split()[-1]
    done = l4(*source, "--ram", least, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak_rss"] <= int(least.rstrip("M")) << 20
    assert "is not a size" in l4(*source, "--ram", "lots").stderr


def test_usage_errors_are_one_line(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    cases = [
        ((tmp_path / "nowhere",), "no such checkpoint directory"),
        ((tiny_checkpoint, "--type", "Q4_KM"), "Q4_K_M"),
        ((tiny_checkpoint, "--type", "IQ2_XXS"), "needs an importance matrix"),
        ((tiny_checkpoint, "--tensor-type", "attn_v"), "not PATTERN=QTYPE"),
        (
            (tiny_checkpoint, "--tensor-type", "attn_v=q9"),
            "--tensor-type attn_v=q9: unknown tensor",
        ),
        ((tiny_checkpoint, "--imatrix", tmp_path / "nothing"), "nothing: No such file"),
        ((tiny_checkpoint, "-o", tmp_path / "no" / "dir.gguf"), "no"),
    ]
    for args, message in cases:
        done = l4("convert", *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_list_shows_what_every_type_would_make(l4: L4, tiny_checkpoint: Path) -> None:
    done = l4("convert", tiny_checkpoint, "--type", "list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["TYPE", "SIZE", "BITS"]
    assert any(line.startswith("IQ2_XXS") and "needs --imatrix" in line for line in lines)
    sizes = json.loads(l4("convert", tiny_checkpoint, "--type", "list", "--json").stdout)
    plan = l4("convert", tiny_checkpoint, "--type", "Q6_K", "--dry-run", "--json").stdout
    (q6,) = (size for size in sizes if size["ftype"] == "Q6_K")
    assert q6["n_bytes"] == json.loads(plan)["n_bytes"]


def test_types_of_single_tensors(l4: L4, tiny_checkpoint: Path, tmp_path: Path) -> None:
    from quantizer import make_sums, write_imatrix

    import convert

    sums = make_sums(convert.plan(tiny_checkpoint, "F32"))
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", sums)
    done = l4(
        "convert", tiny_checkpoint, "--type", "iq2_xxs", "--dry-run", "--json",
        "--imatrix", imatrix, "--cold-experts", "q6_k", "--tensor-type", "attn_(q|k)=q8_0",
        "--tensor-type", "attn_q=f16", "--output-tensor-type", "q4_k",
        "--token-embedding-type", "q3_k",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    types = {tensor["name"]: tensor["type"] for tensor in json.loads(done.stdout)["tensors"]}
    assert types["blk.1.attn_q.weight"] == "Q8_0"
    assert types["output.weight"] == "Q4_K"
    assert types["token_embd.weight"] == "Q3_K"
    assert types["blk.0.ffn_up_exps.weight"] == "Q6_K"
    assert types["blk.1.ffn_up_exps.weight"] == "IQ2_XXS"
    assert "blk.0: cold experts 1 in" in done.stderr


def test_a_hub_id_is_taken_from_the_cache(
    l4: L4, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "hub" / "models--acme--Tiny-Scout-Instruct"
    snapshot = repo / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, file in enumerate(sorted(tiny_checkpoint.iterdir())):
        shutil.copy(file, repo / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = l4("convert", "acme/Tiny-Scout-Instruct", "--type", "Q8_0", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would write Tiny-Scout-Instruct-Q8_0.gguf" in done.stderr
    out = tmp_path / "out.gguf"
    assert l4("convert", "acme/Tiny-Scout-Instruct", "-o", out).returncode == 0
    (name,) = (f for f in gguf.GGUFReader(out).fields.values() if f.name == "general.name")
    assert name.contents() == "Tiny Scout Instruct"
    absent = l4("convert", "acme/other")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "hf download acme/other" in absent.stderr


def test_an_output_is_replaced_only_if_it_is_ours_or_asked_for(
    l4: L4, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("four years of work")
    command = ("convert", tiny_checkpoint, "--type", "Q8_0", "-o", out)
    done = l4(*command)
    assert done.returncode == 2
    assert done.stderr == (
        f"l4: {out}: exists already and holds something else than this command would write; "
        "write elsewhere with -o, or replace it with --overwrite\n"
    )
    assert out.read_text() == "four years of work"
    assert l4(*command, "--overwrite").returncode == 0
    whole, time = out.read_bytes(), out.stat().st_mtime_ns
    done = l4(*command, "--resume")
    assert done.returncode == 0
    assert done.stderr == f"{out} is there and whole: there is nothing left to do\n"
    assert out.stat().st_mtime_ns == time
    with pytest.raises(UsageError, match="-o is empty"):
        app(["convert", str(tiny_checkpoint), "-o", ""], standalone_mode=False)
    assert l4(*command).returncode == 0
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]
