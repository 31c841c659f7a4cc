"""String literals of PromQL: Go's escapes in quotes, none in backticks."""

import re

_SIMPLE = {
    "a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v",
    "\\": b"\\", "'": b"'", '"': b'"',
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<hex>[0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<bad>.?))",
    re.DOTALL,
)
_SPECIAL = re.compile(r"[^ !#-\[\]-~]")  # all that may need an escape in double quotes
_SHORT = {text.decode(): f"\\{letter}" for letter, text in _SIMPLE.items() if letter != "'"}
# How Python keeps a byte that is no part of UTF-8: the byte's value in the low eight bits.
_BYTE = re.compile("[\udc80-\udcff]")


def unquote(literal: str) -> str:
    """Return the text of a string *literal*, or raise `ValueError` for a bad escape.

    Hexadecimal and octal escapes are bytes. What is not UTF-8 together stays as lone surrogates,
    which `quoted` shows and `readable` replaces; nothing else may see them.
    """
    body = literal[1:-1]
    if literal[0] == "`" or "\\" not in body:
        return body
    parts: list[bytes] = []
    position = 0
    for escape in _ESCAPE.finditer(body):
        parts.extend((body[position : escape.start()].encode(), _escaped(escape, literal[0])))
        position = escape.end()
    parts.append(body[position:].encode())
    return b"".join(parts).decode(errors="surrogateescape")


def readable(text: str) -> str:
    """Return *text* with U+FFFD for bytes that are no UTF-8, since no stored label holds them."""
    return _BYTE.sub("\ufffd", text)


def quoted(text: str) -> str:
    """Return *text* as a string literal in double quotes, with the escapes of Go's `%q`."""
    return f'"{_SPECIAL.sub(_shown, text)}"'


def is_label_name(name: str) -> bool:
    """Tell whether a label can be called *name*: any UTF-8 but nothing.

    U+FFFD stands for bytes that are no UTF-8.
    """
    return bool(name) and "\ufffd" not in name


def _shown(character: re.Match[str]) -> str:
    text = character.group()
    if text in _SHORT:
        return _SHORT[text]
    if text.isprintable():
        return text
    code = ord(text)
    if code < 0x80 or _BYTE.fullmatch(text):
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped(escape: re.Match[str], quote: str) -> bytes:
    text = escape.group()
    simple = escape["simple"]
    if simple is not None and (simple not in "'\"" or simple == quote):
        return _SIMPLE[simple]
    number = escape["octal"] or escape["hex"]
    if number is not None:
        value = int(number, 8 if escape["octal"] else 16)
        if value < 256:
            return bytes((value,))
    rune = escape["short"] or escape["long"]
    if rune is not None:
        point = int(rune, 16)
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise ValueError("escape sequence is an invalid Unicode code point")
        return chr(point).encode()
    raise ValueError(f"unknown escape sequence {text}")
