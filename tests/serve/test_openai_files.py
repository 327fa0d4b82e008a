"""/v1/files through OpenAI's own client, and through what a client of ill will sends."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import openai
import pytest
from served import served

from l4cli.loading.llm import LLM
from l4cli.serve.app import Access


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "state"


@pytest.fixture(scope="module")
def address(demo: LLM, state: Path) -> Iterator[str]:
    """A server for all tests of this module; nothing is computed."""
    with served(demo, state=state) as url:
        assert httpx.get(f"{url}/v1/files").json()["data"] == []
        yield url


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_file_comes_and_goes(client: openai.OpenAI, state: Path) -> None:
    data = b'{"custom_id": "a"}\n' * 100_000
    made = client.files.create(file=("rows é.jsonl", data), purpose="batch")
    assert (made.filename, made.bytes, made.purpose) == ("rows é.jsonl", len(data), "batch")
    assert made.status == "processed"
    assert client.files.retrieve(made.id) == made
    sent = client.files.content(made.id)
    assert sent.content == data
    assert (
        sent.response.headers["x-content-type-options"] == "nosniff"
    )  # it is no script of the page
    other = client.files.create(file=b"{}", purpose="batch")
    assert {one.id for one in client.files.list()} == {made.id, other.id}
    assert [one.id for one in client.files.list(limit=1)] == [one.id for one in client.files.list()]
    for path in state.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        client.files.content(made.id)
    assert client.files.list().data[0].id == other.id


def test_files_are_there_after_a_restart(demo: LLM, tmp_path: Path) -> None:
    for number in range(2):
        with (
            served(demo, state=tmp_path) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client,
        ):
            if number == 0:
                made = client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
            assert client.files.retrieve(made.id) == made
            assert client.files.content(made.id).content == b"{}\n"


@pytest.mark.parametrize(
    "name", ["../../x", "..", "file-x", "file-" + "0" * 24, "a/b", "%00", "\u00e9", "file-" * 9999]
)
def test_no_text_becomes_a_path_but_ids(
    address: str, client: openai.OpenAI, state: Path, name: str
) -> None:
    client.files.create(file=b"{}", purpose="batch")  # the folder is there
    before = sorted(state.rglob("*"))
    encoded = quote(name, safe="").replace(".", "%2e")
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        reply = httpx.request(method, f"{address}/v1/files/{encoded}{path}")
        assert reply.status_code == 404
        assert reply.json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="there is no file"):
        client.batches.create(
            input_file_id=name, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert sorted(state.rglob("*")) == before


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ({"file": ("a", b"{}")}, {"purpose": "fine-tune"}, "purpose must be 'batch'"),
        ({"file": ("a", b"{}")}, {}, "purpose is missing"),
        ({"other": ("a", b"{}")}, {"purpose": "batch"}, "other must not be a file"),
        ({"x": (None, b"1")}, {"purpose": "batch"}, "unknown field 'x'"),
        ({"purpose": (None, b"batch")}, {}, "file is missing"),
        ({"purpose": (None, b"b" * 10_000)}, {}, "purpose has more than 4096 bytes"),
        ({"file": ("a", b"{}")}, {"purpose": ["batch", "batch"]}, "purpose is given more than"),
    ],
)
def test_a_wrong_upload_is_named_and_leaves_nothing(
    address: str, state: Path, files: dict[str, object], data: dict[str, object], message: str
) -> None:
    before = sorted(state.rglob("*"))
    reply = httpx.post(f"{address}/v1/files", files=files, data=data)  # type: ignore[arg-type]
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
    assert sorted(state.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("application/json", b"{}", "content type must be multipart/form-data"),
        ("multipart/form-data", b"{}", "content type must be multipart/form-data"),
        ("multipart/form-data; boundary=x", b"nonsense", "is not multipart/form-data"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}',
            "ends before its last boundary",
        ),
        ("multipart/form-data; boundary=x", b"", "ends before its last boundary"),
    ],
)
def test_a_body_that_is_no_form(
    address: str, state: Path, kind: str, body: bytes, message: str
) -> None:
    before = sorted(state.rglob("*"))
    reply = httpx.post(f"{address}/v1/files", content=body, headers={"content-type": kind})
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
    assert sorted(state.rglob("*")) == before


def test_uploads_have_a_limit_of_their_own(demo: LLM, tmp_path: Path) -> None:
    access = Access(most_bytes=1 << 10, most_upload_bytes=1 << 20)
    with (
        served(demo, state=tmp_path, access=access) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        client.files.create(file=b" " * (1 << 19), purpose="batch")
        with pytest.raises(openai.APIStatusError, match="the body is larger than 1 MiB"):
            client.files.create(file=b" " * (1 << 20), purpose="batch")
        assert len(list((tmp_path / "files").iterdir())) == 1


def test_a_full_disk_is_said_and_leaves_room(demo: LLM, mounted: Path) -> None:
    with (
        served(demo, state=mounted / "serve") as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError, match="No space left on device") as raised:
            client.files.create(file=b" " * (1 << 19), purpose="batch")
        assert raised.value.status_code == 507
        made = client.files.create(file=b" " * (1 << 17), purpose="batch")
        assert [one.id for one in client.files.list()] == [made.id]


def test_a_second_server_leaves_the_folder_to_the_first(demo: LLM, tmp_path: Path) -> None:
    with served(demo, state=tmp_path) as url:
        first = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        first.files.create(file=b"{}", purpose="batch")
        with served(demo, state=tmp_path) as url:
            second = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            with pytest.raises(openai.InternalServerError, match="another l4 serve has the files"):
                second.files.list()
            assert second.models.list().data
    with served(demo, state=tmp_path) as url:
        third = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert len(third.files.list().data) == 1


def test_what_a_kill_left_of_an_upload_is_removed(demo: LLM, tmp_path: Path) -> None:
    (tmp_path / "files" / ".new-1").mkdir(parents=True)
    (tmp_path / "files" / ".new-1" / "content").write_bytes(b"half")
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "notes.json").write_text("a user's own")
    with served(demo, state=tmp_path) as url:
        assert httpx.get(f"{url}/v1/files").json()["data"] == []
        assert httpx.get(f"{url}/v1/batches").json()["data"] == []
    assert list((tmp_path / "files").iterdir()) == []
    assert (tmp_path / "batches" / "notes.json").read_text() == "a user's own"
