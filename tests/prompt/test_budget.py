"""A template that never ends, or makes something huge, is stopped: the row is an error row."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import odd_templates
import pytest

from l4cli.errors import L4Error, ModelError, RequestError
from l4cli.prompt.template import ChatTemplate

USER = {"role": "user", "content": "word " * 2000}
BIG = "{% set ns = namespace(s='x' * 1000, l=range(1000) | list) %}"
LOOP = "{% for a in range(99999) %}"
HOSTILE = [
    # Time.
    LOOP + LOOP + LOOP + "{% endfor %}{% endfor %}{% endfor %}",
    LOOP + LOOP + "x{% endfor %}{% endfor %}",
    LOOP + "{% if range(99999) | list | length < 3 %}x{% endif %}{% endfor %}",
    "{% for a in range(99999) if range(99999) | sum < 0 %}x{% endfor %}",
    LOOP + "{{ range(99999) | map('string') | join | length }}{% endfor %}",
    LOOP + "{{ messages[0].content | replace('o', 'oo') | length }}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set x = [[1]] %}{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
    "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    "{% macro g(n) %}{% call f() %}{{ g(n) }}{% endcall %}{% endmacro %}{{ g(1) }}",
    "{% set c = cycler(1) %}" + LOOP + LOOP + "{{ c.next() }}{% endfor %}{% endfor %}",
    # Size.
    "{{ '{:>2000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 2000000000) }}",
    "{{ '{0:{1}}'.format(1, 2000000000) }}",
    "{{ '{:>2000000000}'.format_map({'a': 1}) }}",
    "{{ messages[0].content.format }}{{ '%2000000000d' % 1 }}",
    "{{ '%*d' % (2000000000, 1) }}",
    "{{ '%2000000000s' | format('x') }}",
    "{{ '%.2000000000f' % 1.5 }}",
    "{{ 'x' * 2000000000 }}",
    "{{ 2000000000 * 'x' }}",
    "{{ ['x'] * 2000000000 }}",
    "{{ (1, 2) * 2000000000 }}",
    "{{ 'x'.center(2000000000) }}",
    "{{ 'x'.ljust(2000000000) }}",
    "{{ 'x'.rjust(2000000000) }}",
    "{{ 'x'.zfill(2000000000) }}",
    "{{ '\\t'.expandtabs(2000000000) }}",
    "{{ 'x' | center(2000000000) }}",
    "{{ 'a\nb' | indent(2000000000) }}",
    "{{ [1] | tojson(indent=2000000000) }}",
    "{{ [1] | batch(2000000000, 'x') | list }}",
    "{{ [1] | slice(2000000000) | list }}",
    "{{ 10 ** 1000000000 }}",
    "{{ 1.5 | round(1000000000, 'floor') }}",
    "{{ (1).to_bytes(2000000000, 'big') }}",
    "{{ 'x'.encode().zfill(2000000000) }}",
    "{{ lipsum(n=10000000) }}",
    "{{ range(2000000000) | list }}",
    BIG + "{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    BIG + "{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    BIG + "{% for a in range(99) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}{{ ns.s }}",
    BIG + "{% for a in range(99) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.s = '{}{}'.format(ns.s, ns.s) %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.s = ns.s.join(['a', 'b', 'c']) %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    BIG + "{% for a in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    BIG + "{% for a in range(99) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}"
    "{{ ns.l | tojson }}",
    BIG + "{% for a in range(99) %}{% set ns.l = [ns.l] * 2 %}{% endfor %}{{ '%s' % ns.l }}",
    BIG + "{% for a in range(99) %}{% set ns.l = [ns.l] * 2 %}{% endfor %}{{ ns.l ~ 'x' }}",
    BIG + "{% for a in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
    "{{ ns.l | string | length }}",
    BIG + "{{ [[ns.l] * 1000] | sum(start=[]) | sum(start=[]) | length }}",
    "{% set ns = namespace(n=3) %}{% for a in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set ns = namespace(n=3) %}{% for a in range(99) %}{% set ns.n = ns.n ** 9 %}{% endfor %}",
    BIG + LOOP + LOOP + "{{ ns.s }}{% endfor %}{% endfor %}",
    "{{ 'x'.__class__.__mro__ }}{{ raise_exception('seen') }}",
]


@pytest.mark.slow
def test_hostile_templates_are_stopped() -> None:
    """In a process of its own, so that what they take of memory can be seen."""
    here = Path(__file__).parent
    path = f"import sys; sys.path.append({str(here.parent)!r})"
    code = f"{path}; from test_budget import stopped; print(stopped(range({len(HOSTILE)})))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "[]\n"


def stopped(numbers: range) -> list[str]:
    """What went wrong with which templates."""
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    wrong = []
    for number in numbers:
        began = time.monotonic()
        try:
            ChatTemplate(HOSTILE[number]).render([USER], seconds=0.2)
            wrong.append(f"{number}: was not stopped")
        except L4Error:
            pass
        except BaseException as error:
            wrong.append(f"{number}: {error!r}")
        if time.monotonic() - began > 8:
            wrong.append(f"{number}: took {time.monotonic() - began:.1f} s")
    return wrong


def test_the_error_says_what_happened() -> None:
    with pytest.raises(RequestError, match=r"template was stopped: it runs for more than 0.2 s"):
        ChatTemplate(HOSTILE[4]).render([USER], seconds=0.2)
    with pytest.raises(RequestError, match="template was stopped: it takes more than"):
        ChatTemplate(HOSTILE[0]).render([USER], seconds=60)
    with pytest.raises(RequestError, match="template was stopped: it formats a value with a very"):
        ChatTemplate(HOSTILE[12]).render([USER])


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{{ " + "9" * 100_000 + " }}",
        "{% for a in b %}" * 200 + "{% endfor %}" * 200,
        "{{ " + "not " * 5000 + "x }}",
        "{{ 'x' * 2000000000 }}{% if %}",
        "\0{{",
    ],
)
def test_a_source_that_cannot_be_compiled_is_the_models_fault(source: str) -> None:
    with pytest.raises(ModelError, match="chat template does not compile"):
        ChatTemplate(source)


def test_what_a_template_says_is_one_short_line() -> None:
    with pytest.raises(RequestError) as caught:
        ChatTemplate("{{ raise_exception('a\nb' * 9000) }}").render([USER])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_source_compiles_in_time_that_grows_with_its_length_only() -> None:
    """A chain of 300 attributes took 10 s: each was looked at again for each one behind it."""
    began = time.monotonic()
    with pytest.raises(ModelError):
        ChatTemplate("{{ x" + ".y" * 290 + " }}")
    ChatTemplate("{{ x" + "[1:]" * 200 + " }}")
    assert time.monotonic() - began < 5
    with pytest.raises(ModelError, match="compile: it has more than 50,000 parts"):
        ChatTemplate(("{{ x" + ".y" * 50 + " }}") * 1000)


def test_long_documents_are_within_the_budget() -> None:
    """Forty million characters, which a template cuts, trims and joins."""
    template = ChatTemplate(
        "{% for m in messages %}<|user|>{{ (m.content | trim).split('</think>')[-1] ~ '' }}"
        "{{ '<|end|>' + m.content }}{% endfor %}"
    )
    text = "words and " * 4_000_000
    assert len(template.render([{"role": "user", "content": text}])) > 2 * len(text)


def test_many_messages_are_within_the_budget() -> None:
    template = ChatTemplate(
        "{% set ns = namespace(s='') %}{% for m in messages %}"
        "{% set ns.s = ns.s + '<|' + m.role + '|>' + m.content %}{% endfor %}{{ ns.s }}"
    )
    messages = [{"role": "user", "content": "some words of a conversation"}] * 2000
    assert len(template.render(messages)) == 2000 * 36


def test_templates_of_odd_pieces_are_rendered_or_refused_in_a_line() -> None:
    """`python -m benchmarks.sweep templates` tries thousands."""
    ended = []
    for seed in range(150):
        try:
            ChatTemplate(odd_templates.template(seed)).render(**odd_templates.CONVERSATION)
            ended.append("rendered")
        except L4Error as error:
            ended.append(str(error))
    assert ended.count("rendered") > 5
    assert not any("\n" in line for line in ended)
