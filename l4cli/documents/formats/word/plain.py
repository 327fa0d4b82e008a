"""Rewrites the XML of a Word document so that mammoth, which converts it, loses nothing.

mammoth does not know formulas, list numbers, comments, simple fields or text boxes without a
fallback. Here these become plain paragraphs and runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, SubElement

from l4cli.documents.formats.notation import apart, without_marks
from l4cli.documents.formats.word import omml
from l4cli.documents.formats.word.numbers import Numbering, W
from l4cli.documents.text import printable

MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_BLOCKS = (f"{W}p", f"{W}tbl", f"{W}sdt")
# Elements that stand for their content.
_TRANSPARENT = frozenset(
    W + name for name in ("fldSimple", "dir", "bdo", "ruby", "rubyBase", "smartTag", "customXml")
)
_LEFT_OUT = {f"{W}altChunk": "embedded document", f"{W}subDoc": "embedded document"}
_RAISED_BY, _LOWERED_BY = 4, -3  # half points
_MAX_DEPTH = 400


class Story:
    """Rewrites the document, its footnotes or its endnotes.

    numbering: counts the numbered paragraphs. comments: their texts by id.
    raising: for character styles that raise or lower text, "superscript" or "subscript".
    left_out: counts what is left out, by its name in the singular.
    """

    def __init__(
        self,
        numbering: Numbering,
        comments: Mapping[str, str],
        raising: Mapping[str, str],
        left_out: Counter[str],
    ) -> None:
        self._numbering, self._comments = numbering, comments
        self._raising, self.left_out = raising, left_out

    def rewrite(self, root: Element) -> None:
        """Rewrite everything below `root`. Raises RecursionError if it is nested too deeply."""
        for text in root.iter(f"{W}t"):
            text.text = without_marks(text.text or "")
        self._rewrite(root, 0)

    def _rewrite(self, parent: Element, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise RecursionError
        if parent.tag == f"{W}p":
            self._number(parent)
        children: list[Element] = []
        for child in parent:
            for element in self._replaced(child, depth):
                boxes = _text_boxes(element) if element.tag == f"{W}p" else []
                self._rewrite(element, depth + 1)
                children.append(element)
                for box in boxes:
                    self._rewrite(box, depth + 1)
                    children.extend(block for block in box if block.tag in _BLOCKS)
        parent[:] = children

    def _replaced(self, element: Element, depth: int) -> Iterator[Element]:
        """Yield the elements that stand for `element`."""
        if depth > _MAX_DEPTH:
            raise RecursionError
        tag = element.tag
        if tag == f"{MC}AlternateContent":
            for child in _chosen(element):
                yield from self._replaced(child, depth + 1)
        elif tag in _TRANSPARENT:
            for child in element:
                if not child.tag.endswith("Pr"):
                    yield from self._replaced(child, depth + 1)
        elif tag == f"{W}rt":
            yield _run(f"({''.join(text.text or '' for text in element.iter(f'{W}t'))})")
        elif tag in (f"{omml.M}oMath", f"{omml.M}oMathPara"):
            yield _run(apart(omml.linear(element)))
        elif tag in _LEFT_OUT:
            self.left_out[_LEFT_OUT[tag]] += 1
        elif tag in (f"{W}del", f"{W}moveFrom"):
            self.left_out["deleted passage"] += _has_text(element, "delText") or _has_text(element)
        elif tag == f"{W}r":
            yield from self._runs(element)
        else:
            if tag == f"{W}hyperlink":  # mammoth fails for one that names no target
                element.attrib.pop(f"{_R}id", None)
            yield element

    def _runs(self, run: Element) -> Iterator[Element]:
        """Yield a run, with its script as mammoth knows it; nothing if it is hidden."""
        properties = run.find(f"{W}rPr")
        if properties is not None:
            if _is_on(properties.find(f"{W}vanish")):
                self.left_out["hidden passage"] += _has_text(run)
                return
            self._align(properties)
            if _is_on(properties.find(f"{W}dstrike")):
                SubElement(properties, f"{W}strike")
        for index, child in enumerate(list(run)):
            if child.tag in (f"{W}drawing", f"{W}pict", f"{W}object"):
                run[index] = self._drawing(child)
            elif child.tag in (f"{W}cr", f"{W}br"):
                run[index] = Element(f"{W}br")  # mammoth drops page breaks
            elif child.tag == f"{W}ptab":
                run[index] = Element(f"{W}tab")
            elif child.tag == f"{W}commentReference":
                run[index] = _text(self._comments.get(child.get(f"{W}id", ""), ""))
            elif child.tag == f"{MC}AlternateContent":
                chosen = [
                    self._drawing(part) if part.tag in (f"{W}drawing", f"{W}pict") else part
                    for part in _chosen(child)
                ]
                run[index] = chosen[0] if chosen else _text("")
                for extra in reversed(chosen[1:]):
                    run.insert(index + 1, extra)
        yield run

    def _align(self, properties: Element) -> None:
        """Make a run a superscript or subscript if its style or its position makes it one."""
        if properties.find(f"{W}vertAlign") is not None:
            return
        style, position = properties.find(f"{W}rStyle"), properties.find(f"{W}position")
        align = self._raising.get(style.get(f"{W}val", "")) if style is not None else None
        try:
            by = int(position.get(f"{W}val", "0")) if position is not None else 0
        except ValueError:
            by = 0
        if by >= _RAISED_BY or by <= _LOWERED_BY:
            align = "superscript" if by > 0 else "subscript"
        if align:
            SubElement(properties, f"{W}vertAlign", {f"{W}val": align})

    def _drawing(self, drawing: Element) -> Element:
        """Return the text that stands for a picture; text boxes in it have been taken out."""
        if any(element.tag == f"{W}txbxContent" for element in drawing.iter()):
            return drawing
        described = next(
            (
                element.get("descr") or element.get("alt") or ""
                for element in drawing.iter()
                if element.get("descr") or element.get("alt")
            ),
            "",
        )
        if not described:
            self.left_out["picture"] += _shows_something(drawing)
        return _text(apart(printable(without_marks(described))))

    def _number(self, paragraph: Element) -> None:
        """Write a numbered paragraph's number as text, and state the list of one with a bullet."""
        numbered = self._numbering.count(paragraph)
        properties = paragraph.find(f"{W}pPr")
        if properties is None:
            return
        if (old := properties.find(f"{W}numPr")) is not None:
            properties.remove(old)
        if numbered is None:
            return
        if numbered.label is None:
            stated = SubElement(properties, f"{W}numPr")
            SubElement(stated, f"{W}ilvl", {f"{W}val": str(numbered.level)})
            SubElement(stated, f"{W}numId", {f"{W}val": numbered.list_id})
        elif numbered.label and any(text.text for text in paragraph.iter(f"{W}t")):
            paragraph.insert(list(paragraph).index(properties) + 1, _run(f"{numbered.label} "))


def raising_styles(styles: Element | None) -> dict[str, str]:
    """Return the character styles that raise or lower text."""
    found = {}
    for style in styles.findall(f"{W}style") if styles is not None else ():
        align = style.find(f"{W}rPr/{W}vertAlign")
        value = align.get(f"{W}val") if align is not None else None
        if style.get(f"{W}type") == "character" and value in ("superscript", "subscript"):
            found[style.get(f"{W}styleId", "")] = value
    return found


def comment_texts(comments: Element | None) -> dict[str, str]:
    """Return the comments as they stand in the text, by id."""
    texts = {}
    for comment in comments.iter(f"{W}comment") if comments is not None else ():
        paragraphs = (
            "".join(text.text or "" for text in paragraph.iter(f"{W}t"))
            for paragraph in comment.iter(f"{W}p")
        )
        said = printable(without_marks(" ".join(paragraphs)))
        author = printable(without_marks(comment.get(f"{W}author") or ""))
        by = f" by {author}" if author else ""
        texts[comment.get(f"{W}id", "")] = apart(f" [comment{by}: {said}]") if said else ""
    return texts


def _chosen(alternatives: Element) -> list[Element]:
    """Return the content of the alternative that has text, else of the fallback."""
    choices = [child for child in alternatives if child.tag == f"{MC}Choice"]
    fallback = [child for child in alternatives if child.tag == f"{MC}Fallback"]
    for option in (*choices, *fallback):
        if _has_text(option) or any(part.tag.startswith(omml.M) for part in option.iter()):
            return list(option)
    return next((list(option) for option in (*fallback, *choices) if len(option)), [])


def _text_boxes(paragraph: Element) -> list[Element]:
    """Take the text boxes out of a paragraph; each only once, though Word writes it twice."""
    boxes: list[Element] = []

    def take(parent: Element, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise RecursionError
        if parent.tag == f"{MC}AlternateContent":
            parent[:] = [_wrapped(_chosen(parent))]
        for child in list(parent):
            if child.tag == f"{W}txbxContent":
                boxes.append(child)
                parent.remove(child)
            elif child.tag not in _BLOCKS:
                take(child, depth + 1)

    take(paragraph, 0)
    return boxes


def _wrapped(elements: list[Element]) -> Element:
    choice = Element(f"{MC}Choice")
    choice.extend(elements)
    return choice


def _run(text: str) -> Element:
    run = Element(f"{W}r")
    run.append(_text(text))
    return run


def _text(text: str) -> Element:
    element = Element(f"{W}t", {_SPACE: "preserve"})
    element.text = text
    return element


def _has_text(element: Element, name: str = "t") -> bool:
    return any((text.text or "").strip() for text in element.iter(f"{W}{name}"))


def _is_on(element: Element | None) -> bool:
    """Whether a property is set."""
    return element is not None and element.get(f"{W}val", "1") not in ("0", "false", "off", "none")


def _shows_something(drawing: Element) -> bool:
    """Whether a drawing shows a picture, a chart or an object, and is not only a frame or line."""
    shown = ("blip", "imagedata", "chart", "relIds", "OLEObject")
    return any(element.tag.rpartition("}")[2] in shown for element in drawing.iter())
