"""Pages and texts by seed in encodings that they state in every way, rightly, twice or wrongly.

name, data, text = member(seed)

`text` is what must be read, by the rules of WHATWG's encoding standard; None where the member is
damaged, so that it may be refused.
"""

from __future__ import annotations

import codecs
import random

# An encoding by its labels of the standard, Python's codec of it, and words that it has.
_ENCODINGS: tuple[tuple[str, str, str], ...] = (
    ("utf-8 utf8 unicode-1-1-utf-8 x-unicode20utf8", "utf-8", "Grüße 水泵 🙂 ½"),
    ("iso-8859-1 latin1 l1 ascii us-ascii cp819 windows-1252 x-cp1252", "cp1252", "naïve “café” €"),
    ("windows-1250 cp1250 x-cp1250", "cp1250", "Čerpadlo žluté"),
    ("iso-8859-2 latin2 l2 iso_8859-2:1987", "iso8859-2", "Čerpadlo žluté"),
    ("windows-1251 cp1251 x-cp1251", "cp1251", "Насос №"),
    ("koi8-r koi koi8 cskoi8r", "koi8-r", "Насос"),
    ("koi8-u koi8-ru", "koi8-u", "Насос їґ"),
    ("ibm866 866 cp866", "cp866", "Насос"),
    ("iso-8859-5 cyrillic", "iso8859-5", "Насос"),
    ("windows-1253 cp1253", "cp1253", "Αντλία €"),
    ("iso-8859-7 greek8 sun_eu_greek", "iso8859-7", "Αντλία"),
    ("iso-8859-9 latin5 l5 windows-1254", "cp1254", "pompası ş €"),
    ("windows-1255 cp1255", "cp1255", "משאבה ₪"),
    ("iso-8859-8 hebrew visual logical", "iso8859-8", "משאבה"),
    ("windows-1256 x-cp1256", "cp1256", "مضخة"),
    ("windows-1257 cp1257", "cp1257", "sūknis žalias"),
    ("windows-1258 cp1258", "cp1258", "bơm đ ₫"),
    ("tis-620 windows-874 dos-874 iso-8859-11", "cp874", "ปั๊ม €"),
    ("iso-8859-15 l9 csisolatin9 iso_8859-15", "iso8859-15", "café €"),
    ("macintosh mac x-mac-roman", "mac-roman", "café † ∞"),
    ("gb2312 gbk gb18030 chinese iso-ir-58 x-gbk", "gb18030", "水泵 㐀 €"),
    ("big5 big5-hkscs cn-big5 x-x-big5", "big5hkscs", "水泵 閥門"),
    ("shift_jis sjis ms_kanji windows-31j x-sjis", "cp932", "ポンプ ① ～"),
    ("euc-jp x-euc-jp", "euc-jp", "ポンプ 弁"),
    ("iso-2022-jp csiso2022jp", "iso2022-jp", "ポンプ 弁"),
    ("euc-kr ks_c_5601-1987 korean windows-949", "cp949", "펌프 똠방"),
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE,
    "utf-16-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
)  # fmt: skip
_DECOYS = (
    "<!-- <meta charset={}> -->", "<script>'<meta charset={}>'</script>",
    "<title><meta charset={}></title>",
    "<a title='<meta charset={}>'>", "<metadata charset={}>", "<meta name=charset content={}>",
    "<style>/*<meta charset={}>*/</style>", "<meta data-charset={}>",
    "<textarea><meta charset={}></textarea>",
)  # fmt: skip


def member(seed: int) -> tuple[str, bytes, str | None]:
    """The name and the bytes of the member with this seed, and the text that must be read."""
    dice = random.Random(seed)
    make = dice.choice((_page, _page, _page, _marked_page, _sixteen, _plain))
    kind, data, text = make(dice)
    if dice.random() < 0.25:
        data, text = _damaged(dice, data), None
    return f"{seed}.{kind}", data, text


def _page(dice: random.Random) -> tuple[str, bytes, str | None]:
    """A page in an encoding that it states, perhaps after things that look like it."""
    labels, codec, words = dice.choice(_ENCODINGS)
    head = "".join(_decoy(dice) for _ in range(dice.choice((0, 0, 1, 2))))
    head += _declaration(dice, dice.choice(labels.split()))
    head += "".join(_declaration(dice, _label(dice)) for _ in range(dice.choice((0, 0, 1))))
    if dice.random() < 0.15 and codec not in ("utf-8", "iso2022-jp"):
        head = f"<!--{'-' * dice.choice((900, 1020, 5000, 70_000))}-->{head}"
    text = _text(dice, words)
    return "html", f"<html><head>{head}</head><body><p>{text}</p>".encode(codec), text


def _marked_page(dice: random.Random) -> tuple[str, bytes, str | None]:
    """A page with a byte order mark, which wins over what it states."""
    mark, codec = dice.choice(_BOMS[:3])
    text = _text(dice, dice.choice(_ENCODINGS)[2])
    page = f"{_declaration(dice, _label(dice))}<p>{text}</p>"
    return dice.choice(("html", "xhtml")), mark + page.encode(codec), text


def _sixteen(dice: random.Random) -> tuple[str, bytes, str | None]:
    """A page of UTF-8 that says it is in UTF-16, which it cannot be, as one could read that."""
    text = _text(dice, dice.choice(_ENCODINGS)[2])
    label = dice.choice(("utf-16", "utf-16le", "UTF-16BE", "unicode", "ucs-2", "csunicode"))
    return "html", f"<meta charset={label}><p>{text}</p>".encode(), text


def _plain(dice: random.Random) -> tuple[str, bytes, str | None]:
    """A file of text: UTF-8, or marked. One in another encoding may be refused."""
    kind = dice.choice(("txt", "md", "csv"))
    text = _text(dice, dice.choice(_ENCODINGS)[2])
    if dice.random() < 0.6:
        mark, codec = dice.choice(((b"", "utf-8"), *_BOMS))
        return kind, mark + text.encode(codec), text
    codec = dice.choice(("utf-16-le", "utf-16-be", "utf-7", *(each[1] for each in _ENCODINGS)))
    return kind, text.encode(codec, "replace"), None


def _declaration(dice: random.Random, label: str) -> str:
    label = dice.choice((label, label.upper(), f" {label} ", f"\t{label}"))
    quoted = dice.choice((f'"{label}"', f"'{label}'", label.strip()))
    bare = label.strip()
    return dice.choice(
        (
            f"<meta charset={quoted}>", f"<META CharSet={quoted} />", f"<meta\ncharset = {quoted}>",
            f"<meta name=a charset={quoted} charset=hz>",
            f'<meta http-equiv="Content-Type" content="text/html; charset={bare}">',
            f'<meta content="text/html;charset={bare}" HTTP-EQUIV=content-type>',
        )
    )  # fmt: skip


def _decoy(dice: random.Random) -> str:
    return dice.choice(_DECOYS).replace("{}", _label(dice))


def _label(dice: random.Random) -> str:
    return dice.choice(
        (*dice.choice(_ENCODINGS)[0].split(), "klingon", "", "utf-32", "utf-7", "x" * 300)
    )


def _text(dice: random.Random, words: str) -> str:
    """One line of words that the encoding has, between numbers."""
    parts = dice.choices(words.split(), k=dice.randint(1, 30))
    return f"{dice.randint(0, 999)} {' '.join(parts)} {dice.randint(0, 999)}"


def _damaged(dice: random.Random, data: bytes) -> bytes:
    """`data` cut in the middle of a character, or with a byte changed, left out or put in."""
    at = dice.randrange(len(data))
    byte = bytes([dice.choice((0, 0x1B, 0x80, 0x8E, 0xA0, 0xFF, dice.randrange(256)))])
    return dice.choice(
        (data[:at], data[: -dice.randint(1, 3)], data[:at] + byte + data[at + 1 :],
        data[:at] + data[at + 1 :],
         data[:at] + byte + data[at:], data + byte, data + b"\xe6\xb0")
    )  # fmt: skip
