"""Ages, sizes, durations and texts as people read them."""

from __future__ import annotations

__all__ = ["Ages", "format_age", "format_duration", "format_size", "printable"]

_AGES = ((60.0, 1.0, "second"), (3600.0, 60.0, "minute"), (86400.0, 3600.0, "hour"), (1209600.0, 86400.0, "day"),
         (5184000.0, 604800.0, "week"), (63072000.0, 2592000.0, "month"), (float("inf"), 31536000.0, "year"))  # fmt: skip
_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_age(age_s: float) -> str:
    """Returns how long ago something was: ``3 minutes ago``; the future is ``in 3 minutes``."""
    seconds = abs(age_s)
    for limit, unit_s, name in _AGES:
        if seconds < limit:
            count = int(seconds / unit_s)
            text = f"{count} {name}{'' if count == 1 else 's'}"
            return f"{text} ago" if age_s >= 0 or count == 0 else f"in {text}"
    return "some time ago"


class Ages:
    """`format_age` for one moment after another.

    Fast path: commits in a row are mostly of one age, whose text is kept with the ages that have it too.
    """

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._low = self._high = 0.0
        self._text = ""

    def format(self, then_s: float) -> str:
        """Returns how long before ``now_s`` a moment was."""
        age_s = self._now_s - then_s
        if not self._low <= age_s < self._high:
            self._text = format_age(age_s)
            _, unit_s, _ = next(row for row in _AGES if abs(age_s) < row[0])
            count = int(abs(age_s) / unit_s)
            self._low, self._high = (count * unit_s, (count + 1) * unit_s) if age_s >= 0 else (0.0, 0.0)
            limits = [limit for limit, _, _ in _AGES if limit <= self._low]
            self._high = min([self._high, *(limit for limit, _, _ in _AGES if limit > self._low)])
            self._low = max([self._low, *limits])
        return self._text


def format_size(size_bytes: int) -> str:
    """Returns a number of bytes in IEC units: ``512 B``, ``1.5 KiB``, ``20 MiB``."""
    if abs(size_bytes) < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in _SIZES:
        size /= 1024
        if abs(size) < 999.5 or unit == _SIZES[-1]:
            return f"{size:.0f} {unit}" if abs(size) >= 99.95 else f"{size:.1f} {unit}".replace(".0 ", " ")
    return f"{size_bytes} B"


def format_duration(duration_ms: float) -> str:
    """Returns a duration: ``850 us``, ``12 ms``, ``3.2 s``, ``4 min 5 s``, ``2 h 10 min``."""
    if duration_ms < 1:
        return f"{duration_ms * 1000:.0f} us"
    if duration_ms < 999.5:
        return f"{duration_ms:.3g} ms"
    seconds = duration_ms / 1000
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def printable(text: str) -> str:
    """Returns a text for one line of a terminal: control characters and the like are written as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter == "\t" else repr(letter)[1:-1] for letter in text)
