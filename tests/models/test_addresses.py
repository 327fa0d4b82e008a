"""Web addresses in place of a model are answered with the command that works."""

from __future__ import annotations

import pytest

from l4cli.errors import ModelNotFoundError
from l4cli.models.addresses import read_address
from l4cli.models.locate import hub_repo, locate, locate_checkpoint

HUB = "https://huggingface.co"
FILE = "acme/tiny-GGUF/blob/main/tiny-Q4_K_M.gguf"
PULL = "`l4 pull hf.co/acme/tiny-GGUF:Q4_K_M`"


@pytest.mark.parametrize(
    ("address", "command"),
    [
        (f"{HUB}/{FILE}", PULL),
        (f"  {HUB}/{FILE} ", PULL),
        (f"hf.co/{FILE}", PULL),
        (f"huggingface.co/{FILE}", PULL),
        (f"http://www.huggingface.co/{FILE}", PULL),
        (f"{HUB}/acme/tiny-GGUF/resolve/main/tiny-Q4_K_M.gguf?download=true", PULL),
        (f"{HUB}/acme/tiny-GGUF/resolve/main/a%20b/tiny-Q4_K_M-00001-of-00002.gguf", PULL),
        (f"{HUB}/acme/tiny-GGUF/blob/main/odd.gguf", "`l4 pull hf.co/acme/tiny-GGUF:odd`"),
        (f"{HUB}/acme/tiny-GGUF/tree/main", "`l4 pull hf.co/acme/tiny-GGUF`"),
        (f"{HUB}/acme/tiny?library=transformers", "`l4 pull hf.co/acme/tiny`"),
        (f"{HUB}/acme/tiny/blob/main/model.safetensors", "`l4 convert acme/tiny --hub`"),
        ("hf://acme/tiny-GGUF/tiny-Q4_K_M.gguf", PULL),
        ("https://ollama.com/library/llama3", "download the file"),
        (f"{HUB}/datasets/acme/tiny", "download the file"),
        ("https://[", "download the file"),
    ],
)
def test_an_address_is_answered_with_a_command(address: str, command: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(address)

    assert "is a web address" in str(caught.value)
    assert command in str(caught.value)


@pytest.mark.parametrize("find", [locate_checkpoint, hub_repo])
def test_a_source_is_answered_with_a_command(find: object) -> None:
    for address, command in (
        (f"{HUB}/acme/tiny", "`l4 convert acme/tiny --hub`"),
        (f"{HUB}/acme/tiny/tree/main", "`l4 convert acme/tiny --hub`"),
        (f"{HUB}/{FILE}", PULL),
    ):
        with pytest.raises(ModelNotFoundError) as caught:
            find(address)  # type: ignore[operator]
        assert command in str(caught.value)


@pytest.mark.parametrize("name", ["demo", "acme/tiny", "./model.gguf", "c:/x.gguf", "a:Q8_0"])
def test_names_and_paths_are_no_addresses(name: str) -> None:
    assert read_address(name) is None


@pytest.mark.parametrize("name", ["hf.co/", "hf.co/acme"])
def test_an_address_without_a_repository_says_so(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="names no repository"):
        locate(name)
