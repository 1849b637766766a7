"""Percent-encoding: any unicode name as a git tree entry, as a word of a list, or as one line of text; always lossless.

Bytes are UTF-8 with lone surrogates passed through, so that every Python string has an encoding (RFC 3986 percent-encoding, with a
wider set of plain characters). The empty string is written as a single percent sign, which no encoding begins otherwise.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["entry_name", "name_of_entry", "quote_line", "quote_words", "shard_of", "unquote", "unquote_words"]

_NOT_IN_ENTRY = frozenset("%/\\:~")
_NOT_IN_WORD = frozenset("%, ")
_NOT_IN_LINE = frozenset("%")
_SEPARATOR = ", "


@lru_cache(maxsize=65536)
def entry_name(name: str) -> str:
    """Returns the tree entry that stands for a name: no slash, no control character, nothing git takes for ``.git``, no leading ``~``."""
    if name.isascii() and name.isidentifier():
        return name
    quoted = _quote(name, _NOT_IN_ENTRY)
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


@lru_cache(maxsize=65536)
def name_of_entry(entry: str) -> str:
    """Returns the name that a tree entry stands for."""
    return unquote(entry)


@lru_cache(maxsize=65536)
def shard_of(name: str) -> str:
    """Returns the folder of a name in a sharded namespace: ``~`` and two hexadecimal digits of xxh3_64."""
    from xxhash import xxh3_64_hexdigest  # `log` reads names and needs no trees

    return "~" + str(xxh3_64_hexdigest(name.encode("utf-8", "surrogatepass")))[:2]


def quote_words(words: tuple[str, ...] | list[str]) -> str:
    """Joins names into one line; commas, blanks and what does not print are percent-encoded."""
    return _SEPARATOR.join([word if word.isascii() and word.isidentifier() else _quote(word, _NOT_IN_WORD) for word in words])


def unquote_words(line: str) -> tuple[str, ...]:
    """Takes apart what `quote_words` joined."""
    if "%" not in line:
        return tuple(line.split(_SEPARATOR)) if line else ()
    return tuple(unquote(word) for word in line.split(_SEPARATOR))


def quote_line(text: str) -> str:
    """Returns text as one line without leading or trailing blanks; blanks inside stay as they are."""
    quoted = _quote(text, _NOT_IN_LINE)
    if quoted.startswith(" "):
        quoted = "%20" + quoted[1:]
    return quoted[:-1] + "%20" if quoted.endswith(" ") else quoted


def unquote(quoted: str) -> str:
    """Decodes what any function of this module encoded; malformed escapes stay as they are."""
    if "%" not in quoted:
        return quoted
    if quoted == "%":
        return ""
    out = bytearray()
    pieces = quoted.split("%")
    out += pieces[0].encode("utf-8", "surrogatepass")
    for piece in pieces[1:]:
        try:
            out.append(int(piece[:2], 16))
        except ValueError:
            out += b"%" + piece.encode("utf-8", "surrogatepass")
        else:
            out += piece[2:].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "surrogatepass") if _is_decodable(out) else quoted


def _is_decodable(data: bytearray) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _quote(text: str, reserved: frozenset[str]) -> str:
    if not text:
        return "%"
    if text.isprintable() and reserved.isdisjoint(text):
        return text
    return "".join(
        [
            char
            if char.isprintable() and char not in reserved
            else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
            for char in text
        ]
    )
