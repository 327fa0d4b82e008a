"""Text that cannot control a terminal, whoever wrote it.

A model's answer, a file's name, a GGUF's metadata or a server's message may hold escape sequences
that move the cursor, change the window's title or the clipboard (OSC 52), and bidirectional
controls that show text in another order than it is stored in ("Trojan Source", CVE-2021-42574).
"""

from __future__ import annotations

_C0 = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t\r"}
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_PICTURES = {
    **_C0,
    **dict.fromkeys((*range(0x80, 0xA0), *_BIDI), 0xFFFD),
    0x7F: 0x2421,
    ord("\r"): None,
}


def harmless(text: str) -> str:
    """Return `text` with visible symbols in place of control characters, fit for a terminal.

    Line feeds and tabs stay; carriage returns are removed.
    """
    return text.translate(_PICTURES)
