"""HTML pages: encodings by the standard's rules, numbers that stay what they are, tables, forms."""

from __future__ import annotations

import pytest

from l4cli.documents.ingest import document_of
from l4cli.errors import InputError


def text(page: str | bytes, name: str = "a.html") -> str:
    data = page.encode() if isinstance(page, str) else page
    return document_of(data, name).text


@pytest.mark.parametrize(
    ("page", "read"),
    [
        ("10<sup>6</sup> cells of H<sub>2</sub>O", "10^6 cells of H_2O"),
        ("10<sup>-6</sup>, 10<sup>2n</sup>, 10<sup>n+1</sup>", "10^-6, 10^2n, 10^(n+1)"),
        ("10<sup>6</sup>7 and 10<sup>6</sup>.5", "10^(6)7 and 10^(6).5"),
        ("2<sup>3<sup>4</sup></sup> x<sub>1</sub><sup>2</sup>", "2^(3^4) x_1^2"),
        ("3<sup>1</sup>/<sub>2</sub> cups", "3 1/2 cups"),
        ("the 1<sup>st</sup>, a<sup>®</sup>", "the 1st, a®"),
        ("<sup>14</sup>C in 1999<sup>1</sup>", "^14C in 1999^1"),
        ("1999<sup><a href='#n1'>1</a></sup>", "1999[1]"),
        ("1999<a href='#n1'><sup>1</sup></a>", "1999[1]"),
        ("1999<a role='doc-noteref' href='#n1'>1</a>", "1999[1]"),
        ("1999<sup class=footnote-ref>[1]</sup>", "1999[1]"),
        ("log<sub>10</sub>100<sup> </sup>x", "log_(10)100 x"),
        ("10<span style='vertical-align: super'>6</span>", "10^6"),
        ("<style>.s, p .t {vertical-align:super}</style>10<i class=t>6</i>", "10^6"),
        ("<sup>Not for sale in 1999.</sup>", "Not for sale in 1999."),
        ("10\ufdd06\ufdd3", "106"),
        (
            "10<math><msup><mn>10</mn><mrow><mo>−</mo><mn>6</mn></mrow></msup></math>3",
            "10 10^−6 3",
        ),
        (
            "<math><mi>x</mi><mo>=</mo><mfrac><mrow><mn>1</mn><mo>+</mo><mi>a</mi></mrow>"
            "<msqrt><mn>2</mn><mi>b</mi></msqrt></mfrac></math>",
            "x = (1 + a)/(sqrt(2 b))",
        ),
        (
            "<math><mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>"
            "</math>",
            "_6^14C",
        ),
        (
            "<span class=katex><math><semantics><mi>x</mi><annotation encoding='application/x-tex'>"
            "x^{2}</annotation></semantics></math><span class=katex-html>x2</span></span>",
            "x^{2}",
        ),
        (
            "<svg><text>10</text><text>20<tspan x=0>30</tspan></text><title>t</title></svg>",
            "10 20 30",
        ),
    ],
)
def test_a_number_never_becomes_another(page: str, read: str) -> None:
    assert text(f"<p>{page}</p>") == read


@pytest.mark.parametrize(
    ("page", "read"),
    [
        ("<option>10</option><option>20</option>", "- 10\n- 20"),
        ("<select><option>10<option selected>20</select>", "- [ ] 10\n- [x] 20"),
        ("<select><optgroup label='G 7'><option>10</select>", "G 7\n\n- 10"),
        ("<details><summary>10</summary>20</details>", "10\n\n20"),
        ("<button>10</button><button>20</button>", "10 20"),
        ("<ruby>10<rt>ten</rt></ruby>", "10(ten)"),
        ("<input type=checkbox checked>yes<input type=radio>no", "[x] yes [ ] no"),
        ("rent<input value='4711'>EUR<input type=hidden value=1>", "rent 4711 EUR"),
        ("<p>was <del>10</del> <s>20</s> 30</p>", "was ~~10~~ ~~20~~ 30"),
        ("<ol start=5><li>a<li value=9>b</ol>", "5. a\n9. b"),
        ("<ol type=a><li>x<li>y</ol><ol reversed><li>x<li>y</ol>", "a. x\nb. y\n\n2. x\n1. y"),
        (
            "<table><tr><td rowspan=2>N<td>1<tr><td>2|3<tr><td colspan=2>4</table>",
            "|  |  |\n| --- | --- |\n| N | 1 |\n|  | 2\\|3 |\n| 4 | |",
        ),
        (
            "<table><tr><td>1<td><table><tr><td>2<td>3</table></table>",
            "1\n\n|  |  |\n| --- | --- |\n| 2 | 3 |",
        ),
    ],
)
def test_what_stands_apart_stays_apart(page: str, read: str) -> None:
    assert text(page) == read


LABELS = {
    **dict.fromkeys(("iso8859-1", "l1", "cp819", " Latin1 ", "us-ascii"), "cp1252"),
    **dict.fromkeys(("iso-8859-9", "l5"), "cp1254"),
    **dict.fromkeys(("tis-620", "iso-8859-11"), "cp874"),
    **dict.fromkeys(("gb2312", "GBK", "x-gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "x-sjis", "ms_kanji"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987"), "cp949"),
    **dict.fromkeys(("big5", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("utf-16", "ucs-2", "unicode", "utf8"), "utf-8"),
    "x-user-defined": "cp1252",
    "koi8": "koi8-r",
    "iso-2022-jp": "iso2022-jp",
    "macintosh": "mac-roman",
}
SAMPLES = {
    "cp1252": "“€”",
    "cp1254": "“ğ”",
    "cp874": "“ก”",
    "gb18030": "“鎔㐀”",
    "cp932": "①髙",
    "cp949": "똠방",
    "big5hkscs": "嘅",
    "utf-8": "ü“",
    "koi8-r": "Ж",
    "iso2022-jp": "日本",
    "mac-roman": "“Ω”",
}


@pytest.mark.parametrize("label", LABELS)
def test_labels_mean_what_browsers_take_them_for(label: str) -> None:
    codec = LABELS[label]
    page = f'<meta http-equiv=Content-Type content="text/html; charset={label}"><p>{SAMPLES[codec]}'
    assert text(page.encode(codec)) == SAMPLES[codec]


@pytest.mark.parametrize(
    ("page", "read"),
    [
        (b"<!-- <meta charset=koi8-r> --><p>\xc3\xbc", "ü"),
        (b"<script>'<meta charset=koi8-r>'</script><p>\xc3\xbc", "ü"),
        (b"<i title='<meta charset=koi8-r>'></i><p>\xc3\xbc", "ü"),
        (b"<meta name=x content='charset=koi8-r'><p>\xc3\xbc", "ü"),
        (b" " * 1024 + b"<meta charset=koi8-r><p>\xc3\xbc", "ü"),
        (b" " * 1024 + b"<meta charset=koi8-r><p>\xc3", "ц"),
        (b"\xef\xbb\xbf<meta charset=koi8-r><p>\xc3\xbc", "ü"),
        ("<meta charset=koi8-r><p>ü".encode("utf-16"), "ü"),
        ("<p>ü".encode("utf-16-be"), "ü"),
        (b'<?xml version="1.0" encoding="utf-16"?><html><p>\xc3\xbc</p></html>', "ü"),
        (b"<?xml version='1.0' encoding='iso-8859-1'?><html><p>\xfc</p></html>", "ü"),
        (b"<meta charset=windows-1252><p>\x81", "\x81"),
    ],
)
def test_where_a_page_says_its_encoding(page: bytes, read: str) -> None:
    assert text(page) == read


def test_utf16_without_a_mark_is_named() -> None:
    with pytest.raises(InputError, match=r"a\.txt: looks like UTF-16 .*iconv -f UTF-16LE"):
        text("Grüße\n".encode("utf-16-le"), "a.txt")
    with pytest.raises(InputError, match="iconv -f UTF-16BE"):
        text("Grüße\n".encode("utf-16-be"), "a.txt")
