"""Slash commands that show the state of the chat: /show, /stats, /tokens, /tools, /copy."""

from __future__ import annotations

from l4cli.chat.commands.tree import number
from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession
from l4cli.chat.settings import SETTINGS
from l4cli.chat.text import code_blocks, shortened
from l4cli.errors import UsageError

_BLOCK = "/copy takes the number of a code block in the last answer, counted from 1"


def show(session: ChatSession, argument: str, ui: Ui) -> None:
    tree = session.tree
    if argument:
        ui.say(tree.node(number(argument)).message.content)
        return
    lines = [
        f"model        {session.llm.name}",
        f"session      {_session_line(session)}",
        f"context      {session.num_tokens:,} of {session.n_ctx:,} tokens",
        f"questions    {session.conversation.num_questions:,}",
        f"messages     {len(tree.nodes):,} in the tree, now at {tree.head or 'its beginning'}",
        f"system       {shortened(tree.system or 'none')}",
    ]
    lines += [f"attached     {a.name} ({a.num_tokens:,} tokens)" for a in session.attachments]
    ui.say("\n".join([*lines, *_last_answer(session), *settings(session)]))


def tools(session: ChatSession, _argument: str, ui: Ui) -> None:
    if session.has_unused_tools:
        raise UsageError(f"the chat template of {session.llm.name} takes no tools")
    if session.rounds is None:
        raise UsageError("the model has no functions to call; start with --tools FILE.py")
    lines = [str(session.rounds.toolbox.file)]
    for function in (schema["function"] for schema in session.rounds.toolbox.schemas):
        parameters = ", ".join(function["parameters"]["properties"])
        about = function["description"].partition("\n")[0]
        lines.append(shortened(f"{function['name']}({parameters}): {about}", ui.width))
    ui.say("\n".join(lines))


def stats(session: ChatSession, _argument: str, ui: Ui) -> None:
    totals = session.totals
    if not totals.num_answers:
        ui.say("nothing has been computed yet")
        return
    lines = [
        *_last_answer(session),
        f"answers      {totals.num_answers:,}, {totals.num_generated_tokens:,} tokens in "
        f"{totals.decode_seconds:.1f} s{_rate(totals.decode_tps)}",
        f"prompts      {totals.num_computed_tokens:,} tokens computed in "
        f"{totals.prefill_seconds:.1f} s{_rate(totals.prefill_tps)}",
        f"reused       {totals.num_cached_tokens:,} prompt tokens were already in the KV cache",
    ]
    ui.say("\n".join(lines))


def tokens(session: ChatSession, _argument: str, ui: Ui) -> None:
    counts = session.tokens
    system = session.tree.system
    rows = [(counts.count_text(system), "", "system", system)] if system else []
    rows += [
        (counts.count_message(n.message), str(n.id), n.message.role, n.message.content)
        for n in session.tree.path()
    ]
    width = max((len(id) for _, id, _, _ in rows), default=0)
    lines = [
        f"{count:>9,}  {id:>{width}} {role}: {shortened(text, max(20, ui.width - 32))}"
        for count, id, role, text in rows
    ]
    used = session.num_tokens
    inner = sum(count for count, *_ in rows)
    lines += [f"{used - inner:>9,}  chat format", f"{used:>9,}  of {session.n_ctx:,}"]
    ui.say("\n".join(lines))


def copy(session: ChatSession, argument: str, ui: Ui) -> None:
    answer = session.conversation.last_answer
    if answer is None:
        raise UsageError("there is no answer to copy yet")
    if not argument:
        ui.say(f"answer copied {ui.copy(answer.content)}")
        return
    blocks, wanted = code_blocks(answer.content), number(argument, _BLOCK)
    if not 1 <= wanted <= len(blocks):
        there = f"code blocks 1 to {len(blocks)}" if blocks else "no code block"
        raise UsageError(f"the last answer has {there}; there is no number {wanted}")
    ui.say(f"code block {wanted} copied {ui.copy(blocks[wanted - 1])}")


def settings(session: ChatSession) -> list[str]:
    """Return the sampling settings, one line each."""
    params = session.params()
    none = {"seed": "random", "max_tokens": "rest of the context"}
    width = max(map(len, SETTINGS)) + 1
    lines = []
    for name in SETTINGS:
        value = getattr(params, name)
        shown = f"{value:,}" if isinstance(value, int) and name != "seed" else value
        lines.append(f"{name:<{width}}{none[name] if value is None else shown}")
    return lines


def _session_line(session: ChatSession) -> str:
    if not session.file:
        return "not kept"
    return session.file.name if session.file.exists else "kept from the first answer on"


def _last_answer(session: ChatSession) -> list[str]:
    last = session.last
    if not last:
        return []
    return [
        f"last prompt  {last.num_prompt_tokens:,} tokens, "
        f"{last.num_cached_tokens:,} of them still in the KV cache",
        f"last answer  {len(last.token_ids):,} tokens, {last.generation_tps:.1f} tokens/s, "
        f"first after {last.ttft:.2f} s",
    ]


def _rate(tps: float | None) -> str:
    return f", {tps:.1f} tokens/s" if tps else ""
