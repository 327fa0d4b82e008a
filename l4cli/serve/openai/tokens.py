"""POST /tokenize, /detokenize and /v1/chat/completions/dry-run: exact tokens, nothing computed."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.errors import InputError
from l4cli.openai import bodies, fields
from l4cli.serve.handling import Api, encoded
from l4cli.serve.served import Served
from l4cli.serve.streams import JsonResponse


async def tokenize(request: Request) -> Response:
    """Return the token ids of {"content": "…"}, as llama-server does.

    With "add_special": true, they begin with a BOS if the model wants one; those of a model that
    makes embeddings are all that it computes. Text never becomes a control token.
    """
    api = Api.of(request)
    given = await api.json_body(request)
    embedder = api.models.embedder_named(given.get("model"))
    served = None if embedder else api.models.of(given)
    if not api.lenient:
        known = frozenset({"model", "content", "add_special", "with_pieces"})
        fields.refuse_unknown(given, known)
    text = fields.text("content", given.get("content"))
    add_special = fields.flag("add_special", given, False)
    with_pieces = fields.flag("with_pieces", given, False)
    if embedder:
        if with_pieces:
            raise InputError("with_pieces is not supported for models that make embeddings")
        return JsonResponse({"tokens": await embedder.tokenize(text, add_special=add_special)})
    assert served is not None
    llm = served.llm
    encode = llm.encoder.text if add_special else llm.vocabulary.tokenize
    tokens = await served.asking.encode(partial(encode, text))
    if not with_pieces:
        return JsonResponse({"tokens": tokens})
    return JsonResponse({"tokens": [_with_piece(served, token) for token in tokens]})


def _with_piece(served: Served, token: int) -> dict[str, Any]:
    """Return a token with its text; as a list of bytes if it is only a part of a character."""
    piece = served.llm.engine.backend.piece(token)
    try:
        return {"id": token, "piece": piece.decode()}
    except UnicodeDecodeError:
        return {"id": token, "piece": list(piece)}


async def detokenize(request: Request) -> Response:
    """Return the text of {"tokens": [1, 2, …]}."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    if not api.lenient:
        fields.refuse_unknown(given, frozenset({"model", "tokens"}))
    tokens = _tokens(given.get("tokens"), served.llm.vocabulary.n_vocab)
    pieces = b"".join(map(served.llm.engine.backend.piece, tokens))
    return JsonResponse({"content": pieces.decode("utf-8", errors="replace")})


def _tokens(given: Any, n_vocab: int) -> list[int]:
    if not isinstance(given, list):
        raise InputError(f"tokens must be a list of token ids, not {fields.json_type(given)}")
    for index, token in enumerate(given):
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < n_vocab:
            raise InputError(f"tokens[{index}] is no token of the model, which has {n_vocab:,}")
    return given


async def dry_run(request: Request) -> Response:
    """Say how many tokens a chat completion's prompt has, and whether the request fits."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    body = bodies.read("chat", given, lenient=api.lenient)
    call = await encoded(api, served, body)
    request_made = call.requests[0]
    n_ctx = served.llm.engine.backend.n_ctx_seq
    num_prompt, most = len(request_made.prompt), request_made.params.max_tokens or 0
    return JsonResponse(
        {
            "object": "chat.completion.dry_run",
            "model": served.name,
            "prompt_tokens": num_prompt,
            "max_tokens": most,
            "context": n_ctx,
            "left": max(0, n_ctx - num_prompt),
            "fits": num_prompt < n_ctx and num_prompt + most <= n_ctx,
        }
    )
