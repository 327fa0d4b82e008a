"""models.toml, and the search for models and checkpoints on this machine."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from l4cli.errors import InputError, ModelNotFoundError
from l4cli.models.installed import hub_cache
from l4cli.models.locate import Located, cached_quants, locate, locate_checkpoint
from l4cli.models.registry import ModelSpec, load_registry, read_registry


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with all of Scout's Q4_K_M, and with one of three split files of its Q8_0."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repo = "models--unsloth--Llama-4-Scout-17B-16E-Instruct-GGUF"
    snapshot = tmp_path / repo / "snapshots" / "abc"
    for name in ("Q4_K_M/s-00001-of-00002", "Q4_K_M/s-00002-of-00002", "Q8_0/s-00001-of-00003"):
        file = snapshot / f"{name}.gguf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"GGUF")
    return snapshot


def test_the_bundled_registry_has_these_models() -> None:
    registry = load_registry()
    small = ["smollm2", "qwen3-0.6b", "qwen3-1.7b"]
    assert list(registry.models) == ["demo", *small, "scout", "maverick", "behemoth"]
    for name in small:
        assert registry.models[name].licence == "Apache-2.0"
        assert registry.models[name].size
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


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's models.toml; its folder exists and has a file mine.gguf."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "l4" / "models.toml"
    path.parent.mkdir()
    (path.parent / "mine.gguf").write_bytes(b"GGUF")
    return path


def test_one_key_of_a_known_model_can_be_changed(own: Path) -> None:
    before = load_registry().models["scout"]
    own.write_text('[models.scout]\nquant = "Q8_0"\nsampling = { temperature = 0.1 }\n')
    scout = load_registry().models["scout"]
    assert (scout.quant, scout.gguf, scout.config) == ("Q8_0", before.gguf, before.config)
    assert scout.sampling == {**before.sampling, "temperature": 0.1}


def test_the_default_may_be_any_known_model(own: Path) -> None:
    for default in ("demo", "demo:Q4_K_M", "hf.co/o/x:Q8_0"):
        own.write_text(f'default = "{default}"\n')
        assert load_registry().default == default
    own.write_text('\ndefault = "scuot"\n')
    with pytest.raises(InputError, match=r"models.toml: line 2: .*did you mean 'scout'"):
        load_registry()


def test_a_local_file_has_a_name(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own.parent))
    for path in ("mine.gguf", "~/mine.gguf", own.parent / "mine.gguf", "../l4/mine.gguf"):
        own.write_text(f'[models.mine]\npath = "{path}"\nsampling = {{ top_k = 7 }}\n')
        found = locate("mine")
        assert found.path.samefile(own.parent / "mine.gguf")
        assert (found.name, found.sampling(lambda key: None)) == ("mine", {"top_k": 7})
    with pytest.raises(ModelNotFoundError, match=r"mine is one file, .*no quantizations"):
        locate("mine:Q8_0")
    own.write_text('[models.mine]\npath = "gone.gguf"\n')
    with pytest.raises(ModelNotFoundError, match=r"models.mine.path: .*gone.gguf: no such file"):
        locate("mine")


def test_a_file_takes_the_place_of_a_known_models_source(own: Path) -> None:
    own.write_text('[models.scout]\npath = "mine.gguf"\n')
    scout = load_registry().models["scout"]
    assert (scout.gguf, scout.path) == (None, own.parent / "mine.gguf")
    own.write_text('[models.x]\npath = "a.gguf"\ngguf = {repo = "o/x", files = "*"}\n')
    with pytest.raises(InputError, match="has gguf and path: give one of them"):
        load_registry()


def test_aliases_stand_for_files_names_and_repositories(own: Path, hub: Path) -> None:
    own.write_text(
        '[aliases]\na = "mine.gguf"\nb = "scout"\nc = "b:Q8_0"\nd = "hf.co/acme/x:Q8_0"\n'
        'e = "f"\nf = "e"\n'
    )
    meant = load_registry().meant
    assert (meant("b:Q2_K"), meant("c"), meant("c:Q2_K")) == (
        "scout:Q2_K",
        "scout:Q8_0",
        "scout:Q2_K",
    )
    assert locate("a").path == own.parent / "mine.gguf"
    assert locate("b").name == "scout:Q4_K_M"
    with pytest.raises(ModelNotFoundError, match=r"get it with: l4 pull hf.co/acme/x:Q8_0"):
        locate("d")
    with pytest.raises(ModelNotFoundError, match="no model named"):
        locate("e")  # goes round in a circle


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n[aliases]\na = 3", "line 3: aliases.a is 3, not a model"),
        ('[aliases]\n"a/b" = "demo"', "'a/b' cannot be a name of a model"),
        ("aliases = 1", "aliases must be a table"),
        ("[models.a]\npath = 1", "line 2: models.a.path is 1, not a text"),
        ('[models.a]\ngguf = {repo = "o/x"}', "gguf needs both repo and files"),
    ],
)
def test_a_wrong_models_toml_names_the_line(text: str, said: str, own: Path) -> None:
    own.write_text(text)
    with pytest.raises(InputError) as caught:
        load_registry()
    assert said in str(caught.value)


def test_names_are_found_in_the_hub_cache(hub: Path) -> None:
    assert locate("scout").path == hub / "Q4_K_M" / "s-00001-of-00002.gguf"
    assert locate("scout:q4_k_m").name == "scout:Q4_K_M"
    assert list(cached_quants(load_registry().models["scout"])) == ["Q4_K_M"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("scuot", "no file and no model named 'scuot'; did you mean scout"),
        ("zzz", "known: demo, smollm2"),
        (
            "maverick",
            "maverick:Q4_K_M is not on this machine; get it with: l4 pull maverick:Q4_K_M",
        ),
        ("scout:Q8_0", "scout:Q8_0 is not on this machine"),
        ("behemoth", "never released"),
        ("no/such.gguf", "no/such.gguf: no such file"),
        ("acme/Tiny-GGUF", "no such file; for a repository on the Hub say hf.co/acme/Tiny-GGUF"),
        ("hf.co/acme/Tiny:Q8_0", "Tiny:Q8_0 is not on this machine; get it with: l4 pull hf.co/ac"),
    ],
)
def test_what_is_not_there_says_how_to_get_it(hub: Path, model: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        locate(model)


def test_parts_of_split_models_are_checked(hub: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="2 split files are missing"):
        locate(str(hub / "Q8_0" / "s-00001-of-00003.gguf"))
    with pytest.raises(ModelNotFoundError, match=r"file 2 of a split model: give s-00001-of"):
        locate(str(hub / "Q4_K_M" / "s-00002-of-00002.gguf"))


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    with pytest.raises(ModelNotFoundError, match="is a link to a file that does not exist"):
        locate(str(tmp_path / "loop.gguf"))


def test_a_mistyped_file_gets_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "scout-Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match=r"did you mean .*scout-Q8_0\.gguf"):
        locate(str(tmp_path / "scout-Q8_O.gguf"))


def test_sampling_defaults_are_those_of_models_toml_over_the_files_own(tmp_path: Path) -> None:
    stated = {"temp": "0.700000", "top_k": "20", "top_p": "7", "min_p": "nan", "xtc_threshold": "1"}

    def metadata(key: str) -> str | None:
        return stated.get(key.removeprefix("general.sampling."))

    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF")
    # Values that SamplingParams refuses (a top_p of 7) are left out.
    assert locate(str(file)).sampling(metadata) == {"temperature": 0.7, "top_k": 20}
    spec = ModelSpec("x", sampling={"temperature": 0.1})
    assert Located(file, "x", spec).sampling(metadata) == {"temperature": 0.1, "top_k": 20}
    assert Located(file, "x").sampling(lambda key: None) == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"HF_HOME": "/a"},
        {"HF_HOME": "~/a", "XDG_CACHE_HOME": "/b"},
        {"HF_HUB_CACHE": "$HOME/c", "HF_HOME": "/a"},
        {"HUGGINGFACE_HUB_CACHE": "/d"},
        {"XDG_CACHE_HOME": "/b"},
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    constants = runpy.run_module("huggingface_hub.constants")
    assert str(hub_cache()) == constants["HF_HUB_CACHE"]


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with two snapshots of Scout's checkpoint, and one of another repository's."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    scout = tmp_path / "hub" / "models--meta-llama--Llama-4-Scout-17B-16E-Instruct"
    for path in (
        scout / "snapshots/b",
        scout / "snapshots/a",
        scout.parent / "models--o--x/snapshots/c",
    ):
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
    (scout / "refs").mkdir()
    (scout / "refs" / "main").write_text("b")
    return tmp_path / "hub"


def test_checkpoints_are_found_in_the_hub_cache(checkpoints: Path, tmp_path: Path) -> None:
    for source in ("scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"):
        found = locate_checkpoint(source)
        assert found.path.parts[-2:] == ("snapshots", "b")
        assert found.name == "Llama-4-Scout-17B-16E-Instruct"
    assert locate_checkpoint("o/x").path.name == "c"  # it has no refs/main
    assert locate_checkpoint(str(tmp_path)).path == tmp_path
    assert locate_checkpoint("demo").name == "demo"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("maverick", "maverick is not on this machine; get it with: hf download meta-llama/Llama"),
        ("o/y", "o/y: no such directory, and the Hub's .* get it with: hf download o/y"),
        ("behemoth", "names no checkpoint for behemoth"),
        ("/no/such/thing", "no such checkpoint directory, no model of that name .demo, smollm2"),
    ],
)
def test_a_checkpoint_that_is_not_there_says_how_to_get_it(
    checkpoints: Path, source: str, message: str
) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        locate_checkpoint(source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", "models must be a table"),
        ("default = 3", "default is 3"),
        ("[models.a]\nquant = 4", "models.a.quant is 4, not a text"),
        ("[models.a.config]\na = [2020-01-01]", "models.a.config has the value 2020-01-01"),
        ('[models.a]\nn_ctx_train = "8k"', "models.a.n_ctx_train is '8k', not a whole number"),
        ("[models.a]\nn_params = 1.5", "models.a.n_params is 1.5, not a whole number"),
        ("[models.a]\nreleased = 1", "models.a.released is 1, not true or false"),
        ("[models.a]\ngguf = {repo = 1, files = 'x'}", "models.a.gguf.repo is 1, not a text"),
        ("[models.a]\nsampling = {top_p = '1'}", "models.a.sampling.top_p is '1', not a number"),
        ("a = " + "[" * 10_000, "nested too deep"),
    ],
)
def test_wrong_types_name_the_key(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)

    with pytest.raises(InputError) as caught:
        read_registry(path)

    assert said in str(caught.value)


def test_a_model_in_a_cache_that_is_loaded_was_used_now(tmp_path: Path) -> None:
    import os

    from l4cli.models.installed import mark_used
    from l4cli.paths import cache_dir

    cached, other = cache_dir() / "demo" / "demo-1-Q8_0.gguf", tmp_path / "mine.gguf"
    cached.parent.mkdir(parents=True)
    for file in (cached, other):
        file.write_bytes(b"GGUF")
        os.utime(file, (1e9, 1e9))
        mark_used(file)
    assert cached.stat().st_atime > 1.7e9
    assert (cached.stat().st_mtime, other.stat().st_atime) == (1e9, 1e9)


def test_a_family_name_is_answered_with_its_models() -> None:
    for name, said in (("llama4", "scout or maverick"), ("Llama-4-Scout-17B", "scout")):
        with pytest.raises(ModelNotFoundError, match=rf"did you mean {said}\?"):
            load_registry().find(name)


def test_stated_sizes_of_described_models_are_those_that_are_planned() -> None:
    from l4cli.fit.described import described_shape

    registry = load_registry()
    for name in ("scout", "maverick"):
        spec = registry.models[name]
        shape = described_shape(spec, spec.quant, registry)
        assert spec.size == f"{shape.n_bytes / (1 << 30):.0f} GiB"
