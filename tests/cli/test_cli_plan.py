"""`l4 plan`, and the options for how a model is loaded."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import PUBLISHED_SHAPES, make_config
from conftest import L4
from hollow import write_hollow

import convert
from l4cli import app
from l4cli.models.fingerprints import fingerprint_of
from l4cli.native.cpu import num_physical_cores
from l4cli.speeds import Conditions, DecodeRate, remember

GIB = 1 << 30


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command in this process and returns exit code, stdout and stderr."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        monkeypatch.setattr(sys, "argv", ["l4", *map(str, args)])
        code = app.invoke(debug=False)
        return (code, *capsys.readouterr())

    return run


def test_a_table_for_people_within_80_columns(l4: L4) -> None:
    done = l4("plan", "scout", "--gpu", "24G", "--ram", "64G@80", "--ctx", "128k")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "a machine of 64.0 GiB RAM at 80 GB/s, GPU 24.0 GiB"
    assert re.match(
        r"Q4_K_M +60\.9 +[\d.]+ +[\d.]+ +7\.2 ", done.stdout[done.stdout.index("Q4_K") :]
    )
    assert "7.2 GiB of KV cache: 6.0 in 12 layers that see everything, 1.2 in 36 that see 8k" in (
        done.stdout
    )
    assert re.search(r"^Q4_K_M +fits; [\d.]+ GiB more \S+ allows 512k tokens$", done.stdout, re.M)
    assert re.search(
        r"^Q8_0 +slow, from disk: with [\d.]+ GiB more RAM all of it would fit$",
        *(
            done.stdout,
            re.M,
        ),
    )
    help_lines = l4("plan", "--help", env={**os.environ, "COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, help_lines)) <= 80


def test_many_cards_fit_80_columns_too(here: Any) -> None:
    code, out, _ = here("plan", *("--gpu", "24G") * 8, "--ram", "512G", "--ctx", "1M")
    assert code == 0
    assert "8 x GPU 24.0 GiB" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_for_programs(here: Any) -> None:
    code, out, _ = here("plan", "maverick:q4_k_m", "--gpu", "24G", "--ram", "256G", "--json")
    value = json.loads(out)
    (row,) = value["rows"]
    assert (code, row["name"], row["verdict"]) == (0, "Q4_K_M", "fits")
    assert row["weights"] == pytest.approx(242.75e9, rel=0.005)
    on_card, in_ram = row["gpus"][0], row["ram"]
    assert on_card["weights"] + in_ram["weights"] == row["weights"]
    assert in_ram["weights"] > 0.9 * row["routed_experts"]
    assert row["kv"]["global"] + row["kv"]["windows"] == on_card["kv"] + in_ram["kv"]
    assert on_card["left"] == on_card["usable"] - sum(
        on_card[k] for k in ("weights", "kv", "compute")
    )
    assert on_card["left"] >= 0
    assert row["max_ctx"] >= 16_384
    assert row["tokens_per_second"] > row["tokens_per_second_at_full_context"] > 0


def test_the_context_of_a_model_that_was_trained_for_little(here: Any, tmp_path: Path) -> None:
    config = make_config("scout", **PUBLISHED_SHAPES, max_position_embeddings=8192)
    path = write_hollow(tmp_path / "short.gguf", config, "IQ4_XS")
    code, out, _ = here("plan", path, "--ram", "96G", "--gpu", "none")
    assert (code, "context 8k tokens" in out) == (0, True)
    assert here("plan", path, "--ctx", "16k")[0] == 2


def test_every_model_without_any_file(here: Any) -> None:
    code, out, _ = here("plan", "--ram", "4T", "--gpu", "none", "--json")
    rows = {row["name"].partition(":")[0]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert {"demo", "scout", "maverick", "behemoth"} <= rows.keys()
    assert rows["scout"]["max_ctx"] == 10 << 20
    assert (rows["behemoth"]["max_ctx"], rows["behemoth"]["kv"]) == (None, None)


def test_a_file_is_planned_from_its_header(here: Any, tmp_path: Path) -> None:
    config = make_config("scout", **PUBLISHED_SHAPES, max_position_embeddings=1 << 20)
    path = write_hollow(tmp_path / "own.gguf", config, "IQ4_XS")
    code, out, _ = here("plan", path, "--ram", "96G", "--gpu", "none")
    assert code == 0
    assert re.search(r"^own +54\.3 ", out, re.M)
    code, _, err = here("plan", path, "--ctx", "2M")
    assert (code, err) == (
        2, f"l4: --ctx 2M is more than the 1M tokens that {path} was trained for\n",
    )  # fmt: skip
    code, _, err = here("chat", "-m", path, "--ctx", "1M", "--kv-type", "f32", "-p", "hi")
    assert code == 2
    assert re.match(rf"l4: {path} does not fit: RAM lacks [\d.]+ GiB \(54\.3 GiB of weights", err)
    assert "--force" in err


def test_rates_are_said_to_be_measured_or_estimated(here: Any, tiny_gguf: Path) -> None:
    code, out, _ = here("plan", tiny_gguf)
    assert code == 0
    assert "TOK/S: ~ estimated from memory bandwidth" in out.splitlines()
    assert re.search(r"^tiny .* ~\d+$", out, re.M)
    rates = [DecodeRate(1, depth, 123.0) for depth in (0, 16_384)]
    loaded = Conditions(fingerprint_of(tiny_gguf), n_threads=num_physical_cores())
    remember(loaded, *rates)
    _, out, _ = here("plan", tiny_gguf)
    assert "TOK/S: measured on this machine" in out.splitlines()
    assert re.search(r"^tiny .* 123$", out, re.M)
    _, out, _ = here("plan", tiny_gguf, "--json")
    (row,) = json.loads(out)["rows"]
    assert (row["tokens_per_second"], row["tokens_per_second_are"]) == (123.0, "measured")
    for other in (("--kv-type", "q8_0"), ("--ram", "8G")):
        assert "estimated from memory bandwidth" in here("plan", tiny_gguf, *other)[1]


def test_a_checkpoint_is_planned_before_it_is_converted(
    here: Any, tiny_checkpoint: Path, tiny_gguf: Path
) -> None:
    code, out, _ = here("plan", tiny_checkpoint, "--ram", "8G", "--json")
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert {"Q8_0", "Q4_K_M", "IQ1_S"} <= rows.keys()
    converted = convert.plan(tiny_checkpoint, "Q8_0")
    weights = sum(tensor.n_bytes for tensor in converted.tensors)
    assert rows["Q8_0"]["weights"] == pytest.approx(weights, rel=0.005)  # RoPE's factors aside
    (tiny_checkpoint.parent / "broken").mkdir()
    (tiny_checkpoint.parent / "broken" / "config.json").write_text("{")
    code, _, err = here("plan", tiny_checkpoint.parent / "broken")
    assert (code, err.count("\n")) == (2, 1)
    assert "broken/config.json" in err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("scout:Q9_K",), "unknown type 'Q9_K'"),
        (("scuot",), "did you mean scout?"),
        (("scout", "--ctx", "20M"), "--ctx 20M is more than the 10M tokens"),
        (("scout", "--ctx", "-5"), "is not a number of tokens"),
        (("scout", "--gpu", "-24G"), "--gpu '-24G' is not a size; try 24G or 24G@936"),
        (("scout", "--gpu", "24G@fast"), "--gpu '24G@fast' is not a size"),
        (("scout", "--gpu", "24G@0"), "--gpu '24G@0': the bandwidth must be above 0 GB/s"),
        (("scout", "--gpu", "0"), "--gpu '0' is not a size"),
        (("scout", "--ram", ""), "--ram '' is not a size"),
        (("scout", "--ram", "0"), "--ram '0' is not a size"),
        (("scout", "--ram", "9999999T"), "is more than any machine has"),
        (("scout", "--kv-type", "q3_0"), "no KV type 'q3_0'"),
        (("nowhere.gguf",), "nowhere.gguf: no such file"),
        (("scout", "--parallel", "0"), "--parallel"),
        (("scout", "--parallel", "257"), "at most 256"),
        (("",), "the name of the model is empty"),
        (("hf.co/nobody",), "hf.co/nobody names no repository: give hf.co/ORG/NAME[:QUANT]"),
        ((str(Path(__file__).parent),), "is a directory; give a .gguf file"),
        ((__file__,), "is not a GGUF file"),
        ((os.devnull,), "is empty"),
    ],
)
def test_bad_input_is_one_line(here: Any, args: tuple[str, ...], complaint: str) -> None:
    code, out, err = here("plan", *args)
    assert (code, out) == (2, "")
    assert err.startswith("l4: ")
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--gpu-layers", "many"), "is not valid: give auto, or a number of at least -1"),
        (("--gpu-layers", "-2"), "is not valid: give auto, or a number of at least -1"),
        (("--cpu-moe", "-1"), "is not valid: give auto or all, or a number of at least 0"),
        (("--tensor-split", "1,x"), "not a list of shares; try 3,1 or auto"),
        (("--tensor-split", "0,0"), "not a list of shares"),
        (("--tensor-split", "1,1,1,1,1,1,1,1,1"), "card"),
    ],
)
def test_loading_options_that_make_no_sense(
    here: Any, tiny_gguf: Path, args: tuple[str, ...], complaint: str
) -> None:
    code, out, err = here("chat", "-m", tiny_gguf, "-p", "hi", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint in err


@pytest.mark.parametrize(
    "command",
    [
        ("plan",),
        ("chat", "-p", "hi", "-m"),
        ("run", os.devnull, "--parallel", "1", "-m"),
        ("run", os.devnull, "--deterministic", "-m"),
        ("run", os.devnull, "--dry-run", "--parallel", "1", "-m"),
    ],
)
def test_more_context_than_the_model_has_is_refused_alike(
    here: Any, tiny_gguf: Path, command: tuple[str, ...]
) -> None:
    name = tiny_gguf if command == ("plan",) else "tiny"
    code, out, err = here(*command, tiny_gguf, "--ctx", "20M")
    assert (code, out, err) == (
        2, "",
        f"l4: --ctx 20M is more than the 10M tokens that {name} was trained for\n",
    )  # fmt: skip


def test_what_was_chosen_is_one_line_on_stderr(l4: L4, tiny_gguf: Path) -> None:
    auto = ("--ctx", "1000", "--kv-type", "auto", "--gpu-layers", "auto", "--cpu-moe", "auto")
    done = l4("chat", "-m", tiny_gguf, "-p", "hi", "-n", "2", *auto)
    assert done.returncode in (0, 1)
    assert re.search(
        r"^l4: chosen: KV cache f16, .*: takes [\d.]+ GiB of [\d.]+ GiB .* with 1,000 tokens$",
        done.stderr,
        re.M,
    )
    assert done.stderr.count("chosen:") == 1


def test_the_largest_type_that_fits_gets_its_command_and_others_no_context(
    l4: L4,
) -> None:
    def shown(*options: str) -> list[str]:
        return l4("plan", *options).stdout.splitlines()

    lines = shown("scout", "--ram", "64G@80", "--gpu", "none")
    rows = {line.split()[0]: line.split() for line in lines if "~" in line and "TOK" not in line}
    assert rows["Q4_K_M"][-2] == "–"
    assert rows["IQ4_XS"][-2].endswith("k")
    assert lines[-1] == "run IQ4_XS: l4 chat -m scout:IQ4_XS"
    assert "kept free for the system, not in LEFT: 1.0 GiB of RAM" in lines
    lines = shown("scout", "--ram", "64G@80", "--gpu", "24G", "--ctx", "32k")
    assert lines[-1].endswith("-m scout:Q5_K_M --gpu-layers auto --cpu-moe auto --ctx 32k")
    assert shown("demo:Q8_0", "--gpu", "24G")[-1] == "run it: l4 chat -m demo:Q8_0"
    assert not any("l4 chat" in line for line in shown("scout", "--ram", "8G", "--gpu", "none"))
