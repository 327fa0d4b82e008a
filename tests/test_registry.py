"""models.toml and where models are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from l4cli.errors import InputError, ModelNotFoundError
from l4cli.locate import cached_quants, locate
from l4cli.registry import load_registry, read_registry


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with Scout's Q4_K_M whole and its Q8_0 half downloaded."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repo = "models--unsloth--Llama-4-Scout-17B-16E-Instruct-GGUF"
    snapshot = tmp_path / repo / "snapshots" / "abc"
    for name in ("Q4_K_M/s-00001-of-00002", "Q4_K_M/s-00002-of-00002", "Q8_0/s-00001-of-00003"):
        file = snapshot / f"{name}.gguf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"GGUF")
    return snapshot


def test_the_bundled_registry_has_the_four_models() -> None:
    registry = load_registry()
    assert list(registry.models) == ["demo", "scout", "maverick", "behemoth"]
    assert registry.default == "demo"
    assert not registry.models["behemoth"].released


def test_unknown_keys_are_errors_with_near_matches(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[models.x]\ndescripton = "a"\n')
    with pytest.raises(InputError, match="unknown key 'descripton'; did you mean 'description'"):
        read_registry(file)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[models\n")
    with pytest.raises(InputError, match=r"models\.toml: .*line 1"):
        read_registry(file)


def test_a_users_own_models_come_on_top(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "l4" / "models.toml"
    own.parent.mkdir()
    own.write_text('[models.mine]\ngguf = { repo = "a/b", files = "*{quant}*" }\n')
    registry = load_registry()
    assert registry.models["mine"].gguf is not None
    assert registry.default == "demo"


def test_names_are_found_in_the_hub_cache(hub: Path) -> None:
    assert locate("scout").path == hub / "Q4_K_M" / "s-00001-of-00002.gguf"
    assert list(cached_quants(load_registry().models["scout"])) == ["Q4_K_M"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("scuot", "no file and no model named 'scuot'; did you mean scout"),
        ("zzz", "known: demo, scout"),
        ("maverick", "maverick:Q4_K_M is not on this machine; get it with: hf download"),
        ("scout:Q8_0", "scout:Q8_0 is not on this machine"),
        ("behemoth", "never released"),
        ("no/such.gguf", "no/such.gguf: no such file"),
    ],
)
def test_what_is_not_there_says_how_to_get_it(hub: Path, model: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        locate(model)


def test_parts_of_split_models_are_checked(hub: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="2 of its parts are missing"):
        locate(str(hub / "Q8_0" / "s-00001-of-00003.gguf"))
    with pytest.raises(ModelNotFoundError, match=r"part 2 of a split model: give s-00001-of"):
        locate(str(hub / "Q4_K_M" / "s-00002-of-00002.gguf"))


def test_a_mistyped_file_gets_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "scout-Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match=r"did you mean .*scout-Q8_0\.gguf"):
        locate(str(tmp_path / "scout-Q8_O.gguf"))
