"""Python objects as bytes and back: pickling, aliasing, change detection, restore.

Knows objects and nothing of repositories: `WorkingNamespace.stage` turns a living namespace into `dartvc.model.StagedName`
values, `Loader` turns a stored payload back into objects. Everything that is known of numpy, pandas, torch and other guests
sits in `dartvc.state.adapters`; a guest is never imported here, an adapter wakes when its library is in ``sys.modules``.
"""

from __future__ import annotations

__all__: list[str] = []
