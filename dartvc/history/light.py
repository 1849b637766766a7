"""Light commits: the state of a commit, with a plan in place of the values that whoever gets it makes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dartvc.errors import DartvcError
from dartvc.history.namespace import BLOB_MODE, TREE_MODE, NamespaceTree
from dartvc.history.trailers import seal_payload, split_seal
from dartvc.history.writing import add_json
from dartvc.model import Oid
from dartvc.store import TreeEntry
from dartvc.store.objects import BLOB

if TYPE_CHECKING:
    from dartvc.history.repository import Repository
    from dartvc.store import ObjectBatch

__all__ = ["write_light"]

_PLAN, _INPUT = "plan", "plan-input"


def write_light(
    repository: Repository,
    oid: Oid,
    reasons: Mapping[str, str],
    plan: Mapping[str, object],
    inputs: Sequence[Oid],
    parents: Sequence[Oid] = (),
) -> Oid:
    """Writes a commit of the same state that lacks some payloads, durably; no ref names it.

    Args:
        repository: where.
        oid: the commit.
        reasons: the names that it lacks, and why.
        plan: how they are made again, as JSON.
        inputs: further payloads that the plan starts from.
        parents: what it follows.

    Raises:
        StorageError: the disk refused.
    """
    database = repository.database
    raw = database.read_commit(oid)
    root = database.read_tree(raw.tree)
    names = NamespaceTree.read(database, root["names"].oid)
    process = NamespaceTree.read(database, root["process"].oid) if "process" in root else NamespaceTree()
    entries = repository.names(oid)
    batch = database.batch()
    try:
        if reasons:
            blob = add_json(batch, {"type": "plan", **plan})
            process.put(_PLAN, _tree(batch, summary=blob))
            for name, reason in reasons.items():
                recipe = {"reason": reason, "path": name, "remedy": "", "recomputable": True, "plan": blob.oid}
                names.put(name, _tree(batch, summary=add_json(batch, repository.summary(entries[name])), recipe=add_json(batch, recipe)))
            for number, payload_oid in enumerate(inputs):
                summary = add_json(batch, {"type": "plan input"})
                process.put(f"{_INPUT}-{number}", _tree(batch, summary=summary, payload=_entry_of(repository, payload_oid)))
        for part, space in (("names", names), ("process", process)):
            written = space.write(batch)
            if written is not None:
                root[part] = TreeEntry(TREE_MODE, written)
        message = f"{split_seal(raw.message)[0]}\nLight-Of: {oid}"
        tree = batch.add_tree(root)
        text = f"{message}\n"
        if repository.is_trusted(oid):
            payload = seal_payload(tree, tuple(parents), raw.time_s, raw.utc_offset_min, message)
            text += f"Seal: {repository.seals.seal(payload)}\n"
        made = batch.add_commit(tree, tuple(parents), text, raw.time_s, raw.utc_offset_min, repository.author())
        batch.publish()
    except (DartvcError, OSError):
        batch.abandon()
        raise
    return made


def _tree(batch: ObjectBatch, **entries: TreeEntry) -> TreeEntry:
    return TreeEntry(TREE_MODE, batch.add_tree(entries))


def _entry_of(repository: Repository, payload_oid: Oid) -> TreeEntry:
    kind, _ = repository.database.read(payload_oid)
    return TreeEntry(BLOB_MODE if kind == BLOB else TREE_MODE, payload_oid)
