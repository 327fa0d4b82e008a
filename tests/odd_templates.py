"""Chat templates by seed: random pieces of Jinja that compute, loop and format anything.

source = template(seed)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

_Dice = random.Random
CONVERSATION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief. é 水 🙂"},
        {"role": "user", "content": "word " * 50},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"a": [1, None]}}}
            ],
        },
        {"role": "tool", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
_NAMES = (
    "messages", "messages[0]", "messages[0].content", "messages[-1].content", "messages[1]",
    "tools",
    "bos_token", "eos_token", "add_generation_prompt", "ns", "ns.s", "ns.l", "x", "y", "loop",
    "loop.index", "loop.previtem", "loop.cycle", "missing", "missing.a.b", "message", "m.content",
    "self", "caller", "varargs", "kwargs", "documents", "namespace", "range", "f", "g",
)  # fmt: skip
_NUMBERS = (
    "0", "1", "-1", "2", "3", "7", "0.5", "1e308", "1e-320", "-0.0", "255", "65536", "1114112",
    "2147483648", "2000000000", "18446744073709551616", "1" + "0" * 400, "true", "false", "none",
)  # fmt: skip
_STRINGS = (
    "''", "'a'", "'é水🙂'", "'\\ud800'", "'\\x00'", "'{}'", "'{:>99}'", "'{0[a].b!r:{1}}'", "'%s'",
    "'%(a)s'", "'%5.2f'", "'%'", "'%*d'", "'{'", "'<|im_end|>'", "'a b c'", "'\\n\\t '",
    "'__class__'",
    "'content'", "'role'", "'%Y-%m-%d %H:%M:%S'", "'%Q%-d%'", "'x' * 1000", "'utf-8'", "'tojson'",
)  # fmt: skip
_SOUND = (
    "messages[0].content", "messages[1]['content'] | upper", "messages | length", "'a' * 30",
    "range(30) | list", "messages | map(attribute='role') | join(', ')", "tools | tojson",
    "messages[2].tool_calls[0].function.arguments | tojson(indent=2)", "messages[:2] | tojson",
    "'%s-%05d' % ('a', 3)", "'{:>9}|{!r}'.format('a', 'b')",
    "messages[1].content | replace('o', 'oo')",
    "messages | selectattr('role', 'equalto', 'user') | list | length", "'a,b' | string",
    "1 + 2 ** 3",
    "messages[1].content.split(' ') | unique | sort | join", "{'a': 1} | dictsort", "[3, 1] | sort",
    "strftime_now('%d %b %Y')", "messages[0].content[1:-1] ~ bos_token", "true and not false",
    "messages | groupby('role') | list | length", "'a b' | title | trim | center(20)",
    "[[1], [2]] | sum(start=[])",
    "namespace(a=1).a", "cycler(1, 2).next()", "messages[1].content | wordwrap(9) | indent(4)",
    "messages[1].content | truncate(20)", "('a' if tools else 'b') | default('c')",
)  # fmt: skip
_BINARY = (
    "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "and", "or", "in", "not in",
)  # fmt: skip
_TESTS = (
    "defined", "undefined", "string", "mapping", "iterable", "none", "number", "odd", "sameas(x)",
    "divisibleby(0)", "in(x)", "callable", "sequence", "boolean", "test", "filter", "eq(1)",
    "lower",
)  # fmt: skip
_FILTERS = (
    "abs", "attr('__class__')", "batch({})", "batch({}, {})", "capitalize", "center({})", "count",
    "default({})", "dictsort", "dictsort(by='value')", "escape", "e", "filesizeformat", "first",
    "float", "forceescape", "format({})", "format({}, {})", "groupby({})", "groupby('role')",
    "indent({})", "indent({}, true, true)", "int", "int({}, {})", "items", "join", "join({})",
    "last", "length", "list", "lower", "map({})", "map('upper')", "map(attribute={})", "max", "min",
    "pprint", "random", "reject", "rejectattr({})", "replace({}, {})", "replace({}, {}, {})",
    "reverse", "round", "round({})", "round({}, 'floor')", "safe", "select({})", "selectattr({})",
    "selectattr('role', 'equalto', {})", "slice({})", "slice({}, {})", "sort", "sort(true)",
    "sort(attribute={})", "string", "striptags", "sum", "sum({})", "sum(start={})", "title",
    "tojson", "tojson({})", "tojson(indent={})", "trim", "trim({})", "truncate({})", "unique",
    "truncate({}, true, {})", "upper", "urlencode", "wordcount", "wordwrap({})",
    "fromjson", "from_json",
)  # fmt: skip
_METHODS = (
    "format({})", "format({}, {})", "format_map({})", "split({})", "split({}, {})", "rsplit({})",
    "splitlines()", "partition({})", "strip({})", "lstrip()", "replace({}, {})", "join({})",
    "startswith({})", "endswith({})", "find({})", "index({})", "count({})", "center({})",
    "zfill({})", "ljust({}, {})", "expandtabs({})", "encode()", "translate({})", "isdigit()",
    "upper()", "casefold()", "removeprefix({})", "items()", "keys()", "values()", "get({})",
    "get({}, {})", "pop({})", "append({})", "extend({})", "update({})", "copy()", "clear()",
    "bit_length()", "to_bytes({}, 'big')", "as_integer_ratio()", "hex()", "__class__", "__init__",
    "__globals__", "mro()", "next()", "cycle({})", "changed({})", "name", "0", "s",
)  # fmt: skip
_CALLS = (
    "range({})", "range({}, {})", "range({}, {}, {})", "namespace(s={})", "dict(a={})", "f()",
    "f({})", "g({})", "cycler({}, {})", "joiner({})", "raise_exception({})", "strftime_now({})",
    "loop({})", "caller()", "caller({})", "self.b()", "lipsum(n={})", "super()", "x({})",
)  # fmt: skip


def template(seed: int) -> str:
    """The source of the template with this seed."""
    dice = random.Random(seed)
    start = dice.choice(("", "{% set ns = namespace(s='x' * 100, l=[1, 'a']) %}"))
    macro = dice.choice(("", "{% macro f(x=1, y=2) %}" + _body(dice, 2) + "{% endmacro %}"))
    loop = "{% for m in messages %}{{ m.role }}" + _body(dice, 3) + "{% endfor %}"
    source = start + macro + dice.choice((loop, _body(dice, 4), _body(dice, 4)))
    return _broken(dice, source) if dice.random() < 0.15 else source


def _broken(dice: _Dice, source: str) -> str:
    """The source with a piece removed, repeated or put elsewhere."""
    at, length = dice.randrange(len(source) + 1), dice.randint(1, 12)
    piece = source[at : at + length]
    kept = dice.choice((source[:at] + source[at + length :], source))
    place = dice.randrange(len(kept) + 1)
    return kept[:place] + piece * dice.choice((1, 2, 300)) + kept[place:]


def _body(dice: _Dice, depth: int) -> str:
    return "".join(_statement(dice, depth) for _ in range(dice.randint(1, 3)))


def _statement(dice: _Dice, depth: int) -> str:
    if depth <= 0:
        return dice.choice(
            (_output(dice, 1), "text é\n", "<|im_start|>", "{# note #}", "{{- '' -}}")
        )
    return dice.choice(_STATEMENTS)(dice, depth)


def _output(dice: _Dice, depth: int) -> str:
    return dice.choice(("{{ %s }}", "{{ %s }}", "{{- %s -}}")) % _expression(dice, depth)


def _for(dice: _Dice, depth: int) -> str:
    over = _expression(dice, 1)
    more = dice.choice(("", "", "", f" if {_expression(dice, 1)}", " recursive"))
    name = dice.choice(("x", "y", "x, y", "message", "m"))
    leave = dice.choice(
        ("", "", "", "{% break %}", "{% if loop.index > 3 %}{% continue %}{% endif %}")
    )
    other = dice.choice(("", "", "{% else %}none"))
    return f"{{% for {name} in {over}{more} %}}{leave}{_body(dice, depth - 1)}{other}{{% endfor %}}"


def _if(dice: _Dice, depth: int) -> str:
    first, other = _body(dice, depth - 1), _body(dice, depth - 2)
    return f"{{% if {_expression(dice, 2)} %}}{first}{{% else %}}{other}{{% endif %}}"


def _set(dice: _Dice, depth: int) -> str:
    name = dice.choice(("x", "y", "ns.s", "ns.l", "messages", "f", "loop"))
    if dice.random() < 0.3:
        return f"{{% set {name} %}}{_body(dice, depth - 1)}{{% endset %}}"
    return f"{{% set {name} = {_expression(dice, 3)} %}}"


def _macro(dice: _Dice, depth: int) -> str:
    name, inside = dice.choice("fg"), _body(dice, depth - 1)
    call = dice.choice(("{{ %s() }}", "{{ %s(1) }}", "{%% call %s() %%}a{%% endcall %%}")) % name
    return f"{{% macro {name}(x, y=1) %}}{inside}{dice.choice(('', call))}{{% endmacro %}}{call}"


def _block(dice: _Dice, depth: int) -> str:
    inside = _body(dice, depth - 1)
    filter = dice.choice(_FILTERS).replace("{}", "2")
    forms = (
        ("{% generation %}", "{% endgeneration %}"), ("{% raw %}", "{% endraw %}"),
        (f"{{% filter {filter} %}}", "{% endfilter %}"), ("{% with x = 1 %}", "{% endwith %}"),
        ("{% block b %}", "{% endblock %}"), ("{% autoescape true %}", "{% endautoescape %}"),
        ("{% call(x) f() %}", "{% endcall %}"),
    )  # fmt: skip
    start, end = dice.choice(forms)
    return start + inside + end


def _foreign(dice: _Dice, _depth: int) -> str:
    return dice.choice(
        (
            "{% include '/etc/passwd' %}", "{% import 'os' as x %}", "{% extends 'a' %}",
            "{% from 'a' import b %}", "{% do x.append(1) %}", "{% trans %}a{% endtrans %}",
            "{% debug %}", "{% if %}", "{{ }}", "{% endfor %}", "{{ 1 | nothing }}",
            "{{ '' | urlize }}",
            "{{ {} | xmlattr }}", "{{ 1 is nothing }}",
        )
    )  # fmt: skip


_STATEMENTS: tuple[Callable[[_Dice, int], str], ...] = (
    _output, _output, _output, _for, _for, _if, _if, _set, _set, _macro, _block, _foreign,
)  # fmt: skip


def _expression(dice: _Dice, depth: int) -> str:
    if dice.random() < 0.6:
        return dice.choice(_SOUND)
    if depth <= 0 or dice.random() < 0.2:
        return dice.choice(dice.choice((_NAMES, _NAMES, _NUMBERS, _STRINGS)))

    def inner() -> str:
        return _expression(dice, depth - 1)

    def filled(form: str) -> str:
        parts = form.split("{}")
        return parts[0] + "".join(inner() + part for part in parts[1:])

    way = dice.randrange(10)
    if way < 3:
        return f"({inner()}) | {filled(dice.choice(_FILTERS))}"
    if way < 5:
        return f"({inner()}) {dice.choice(_BINARY)} ({inner()})"
    if way < 6:
        return f"({inner()}).{filled(dice.choice(_METHODS))}"
    if way < 7:
        return filled(dice.choice(_CALLS))
    forms = (
        "({})[{}]", "({})[{}:{}]", "[{}, {}]", "[{}] * 3", "{{'a': {}, 'b': {}}}", "({}, {})",
        "({}) if ({}) else ({})", f"({{}}) is {dice.choice(_TESTS)}", "not ({})", "-({})",
    )  # fmt: skip
    return filled(dice.choice(forms).replace("{{", "{").replace("}}", "}")) if way < 10 else ""
