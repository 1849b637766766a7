"""The reference in docs/ is what the application says."""

from __future__ import annotations

from pathlib import Path

from dartvc.cli.reference import reference


def test_the_reference_has_not_drifted() -> None:
    written = Path(__file__).parents[3] / "docs" / "cli.md"
    assert written.read_text() == reference() + "\n", "python -m dartvc.cli.reference > docs/cli.md"
