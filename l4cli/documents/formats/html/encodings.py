"""Finds the encoding of a web page as browsers do (https://encoding.spec.whatwg.org).

A byte order mark wins. Otherwise a page says its encoding in its XML declaration, or in a <meta>
tag. Labels are looked up in the standard's table, because pages that say "iso-8859-1", for example,
are in windows-1252.
"""

from __future__ import annotations

import codecs
import re

from l4cli.documents.text import decode, printable
from l4cli.errors import InputError

_PRESCAN = 1024  # bytes in which browsers look for a <meta> tag before they parse
_MAX_HEAD = 1 << 20  # bytes in which the tag is looked for if a page is not UTF-8 otherwise
_XML = re.compile(r"""<\?xml\s[^>]*?\bencoding\s*=\s*["']([^"'>]*)["']""")
_VALUE = r""""[^"]*"|'[^']*'"""
# Comments, elements whose content is text, and tags. A <meta> tag counts only by itself.
_MARKUP = re.compile(
    rf"<!--.*?(?:-->|\Z)|<(script|style|title|textarea)\b.*?(?:</\1|\Z)"
    rf"|<(?P<meta>meta)(?=[\s/])(?P<attributes>(?:{_VALUE}|[^>\"'])*)>"
    rf"|</?[a-z](?:{_VALUE}|[^>\"'])*>",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(rf"([^\s=/\"']+)\s*=\s*({_VALUE}|[^\s\"'>]+)")
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^\s;"']+)""", re.IGNORECASE)
_SIXTEEN = (("<\0", "utf-16le"), ("\0<", "utf-16be"))
# Another codec of the same encoding, with more characters than the standard of its name has.
_WIDER = {"euc-jp": "euc-jis-2004", "iso2022-jp": "iso2022-jp-ext"}
# For each of Python's codecs, the labels that stand for it.
_TABLE = """
utf-8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866: 866 cp866 csibm866 ibm866
iso8859-2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2
  latin2
iso8859-3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3
  latin3
iso8859-4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4
  latin4
iso8859-5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5
  iso_8859-5:1988
iso8859-6: arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6
  iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987
iso8859-7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7
  iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek
iso8859-8: csiso88598e csiso88598i csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-8859-8-i
  iso-ir-138 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 logical visual
iso8859-10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6
iso8859-13: iso-8859-13 iso8859-13 iso885913
iso8859-14: iso-8859-14 iso8859-14 iso885914
iso8859-15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16: iso-8859-16
koi8-r: cskoi8r koi koi8 koi8-r koi8_r
koi8-u: koi8-ru koi8-u
mac-roman: csmacintosh mac macintosh x-mac-roman
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
cp1252: ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1
  iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989
  l5 latin5 windows-1254 x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
mac-cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: chinese csgb2312 csiso58gb231280 gb18030 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc-jp: cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022-jp: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601
  ksc_5601 windows-949
utf-16-be: unicodefffe utf-16be
utf-16-le: csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le
x-user-defined: x-user-defined
iso2022-kr: csiso2022kr iso-2022-kr
hz: hz-gb-2312
"""


def decode_page(data: bytes, name: str) -> str:
    """Decode a page. Raises InputError if it is not in its encoding."""
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode(data, name)
    start = data[:_MAX_HEAD].decode("latin-1")
    label = next((codec for mark, codec in _SIXTEEN if start.startswith(mark)), "")
    label = label or _declared(start[:_PRESCAN])
    if not label and not _is_utf8(data):
        label = _declared(start)
    if not label:
        return decode(data, name)
    codec = _codec_of(label, start)
    if codec == "utf-8":
        return decode(data, name)
    for known in (codec, _WIDER.get(codec or "")):
        try:
            return data.decode(known, "l4-controls") if known else _refuse(name, label)
        except UnicodeError:
            continue
    return _refuse(name, label)


def _refuse(name: str, label: str) -> str:
    raise InputError(
        f"{name}: not in the encoding that it names ({printable(label[:40])}); "
        "convert it to UTF-8 first (iconv)"
    ) from None


def _codec_of(label: str, start: str) -> str | None:
    """Return Python's codec for a label; None if the standard does not know the label."""
    codec = _CODECS.get(label.strip("\t\n\f\r ").lower())
    if codec in ("utf-16-le", "utf-16-be"):
        # The label could be read, so the page is not in UTF-16.
        return codec if "\0" in start[:2] else "utf-8"
    return "cp1252" if codec == "x-user-defined" else codec


def _declared(start: str) -> str:
    """Return the label that a page states, "" if it states none."""
    if found := _XML.match(start.lstrip()):
        return found[1]
    for tag in _MARKUP.finditer(start):
        if tag["meta"]:
            attributes: dict[str, str] = {}
            for attribute in _ATTRIBUTE.finditer(tag["attributes"]):
                attributes.setdefault(attribute[1].lower(), attribute[2].strip("\"'"))
            if "charset" in attributes:
                return attributes["charset"]
            if attributes.get("http-equiv", "").lower() == "content-type":
                content = _CHARSET.search(attributes.get("content", ""))
                if content:
                    return content[1]
    return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _codecs() -> dict[str, str]:
    codecs_by_label = {}
    for line in _TABLE.replace("\n  ", " ").strip().split("\n"):
        codec, _, labels = line.partition(": ")
        codecs_by_label.update(dict.fromkeys(labels.split(), codec))
    return codecs_by_label


def _controls(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes 80 to 9F that an encoding of single bytes does not define as control characters.

    The standard does so. In other encodings such a byte is an error.
    """
    assert isinstance(error, UnicodeDecodeError)
    byte = error.object[error.start]
    if error.encoding == "charmap" and 0x80 <= byte <= 0x9F:
        return chr(byte), error.start + 1
    raise error


_CODECS = _codecs()
codecs.register_error("l4-controls", _controls)
