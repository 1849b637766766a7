"""Repository verbs in any order, held against plain dictionaries."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from xxhash import xxh3_128_digest

from dartvc.history import RefMove, Repository
from dartvc.history.fsck import check_repository
from dartvc.history.gc import collect_garbage
from dartvc.history.operations import LOOK
from dartvc.model import ChunkRef, CommitKind, Digest, Oid, Payload, StagedCommit, StagedName
from dartvc.store import Head

names = st.sampled_from(["x", "y", "größe", "a/b", ".git"])
branches = st.sampled_from(["main", "dev", "topic/one"])
State = tuple[dict[str, Oid], str]


class RepositoryMachine(RuleBasedStateMachine):
    """The model: what each commit holds, where refs and HEAD are, and the states that undo and redo go to."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    @initialize()
    def make(self) -> None:
        self.repository = Repository.init(self.folder / "p", key_path=self.folder / "key", trust_path=self.folder / "trusted")
        self.contents: dict[Oid, dict[str, int]] = {}
        self.refs: dict[str, Oid] = {}
        self.branch = "refs/heads/main"
        self.undone: list[State] = []
        self.done: list[State] = []
        self.is_moved = False
        self.unlooked: State | None = None
        self.clock = 1_700_000_000

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _now(self) -> State:
        return dict(self.refs), self.branch

    def _act(self, moves: list[RefMove], head: str | None = None) -> None:
        self.done.append(self._now())
        self.undone.clear()
        self.is_moved, self.unlooked = False, None
        target = None if head is None else Head(head, None)
        self.repository.move_refs(moves, operation="act", description="", head=target)
        for move in moves:
            if move.new is None:
                del self.refs[move.name]
            else:
                self.refs[move.name] = move.new
        self.branch = head or self.branch

    @rule(changed=st.dictionaries(names, st.integers(0, 3), max_size=3), removed=names, is_removing=st.booleans())
    def commit(self, changed: dict[str, int], removed: str, is_removing: bool) -> None:
        parent = self.refs.get(self.branch)
        before = self.contents[parent] if parent else {}
        gone = (removed,) if is_removing and removed in before and removed not in changed else ()
        staged = []
        for name, value in changed.items():
            data = pickle.dumps({name: value})
            payload = Payload((name,), (ChunkRef(Digest(xxh3_128_digest(data)), len(data), data),))
            staged.append(StagedName(name, {"type": "int", "repr": str(value)}, payload))
        self.clock += 1
        commit = StagedCommit(
            "",
            CommitKind.CELL,
            self.clock,
            0,
            changed=tuple(staged),
            added=tuple(name for name in changed if name not in before),
            removed=gone,
        )
        writer = self.repository.writer()
        oid = writer.write(commit, [parent] if parent else [])
        writer.publish()
        self.contents[oid] = {name: value for name, value in {**before, **changed}.items() if name not in gone}
        self._act([RefMove(self.branch, parent, oid)])

    @rule()
    def look(self) -> None:
        parent = self.refs.get(self.branch)
        self.clock += 1
        writer = self.repository.writer()
        oid = writer.write(StagedCommit(f"look {self.clock}", CommitKind.CELL, self.clock, 0), [parent] if parent else [])
        writer.publish()
        self.contents[oid] = self.contents[parent] if parent else {}
        if self.is_moved and self.unlooked is None:
            self.unlooked = self._now()
        self.repository.move_refs([RefMove(self.branch, parent, oid)], operation=LOOK, description="")
        self.refs[self.branch] = oid

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), name=branches, is_tag=st.booleans())
    def name_a_commit(self, data: st.DataObject, name: str, is_tag: bool) -> None:
        oid = self.refs[data.draw(st.sampled_from(sorted(self.refs)))]
        ref = f"refs/tags/{name}" if is_tag else f"refs/heads/{name}"
        self._act([RefMove(ref, self.refs.get(ref), oid)])

    @precondition(lambda self: any(ref != self.branch for ref in self.refs))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(ref for ref in self.refs if ref != self.branch)))
        self._act([RefMove(ref, self.refs[ref], None)])

    @precondition(lambda self: any(ref.startswith("refs/heads/") for ref in self.refs))
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        self._act([], data.draw(st.sampled_from(sorted(ref for ref in self.refs if ref.startswith("refs/heads/")))))

    @precondition(lambda self: self.done)
    @rule()
    def undo(self) -> None:
        self.repository.carry_out(self.repository.operations.plan_undo())
        self.undone.append(self.unlooked or self._now())
        self.refs, self.branch = self.done.pop()
        self.is_moved, self.unlooked = True, None

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        self.repository.carry_out(self.repository.operations.plan_redo())
        self.done.append(self.unlooked or self._now())
        self.refs, self.branch = self.undone.pop()
        self.is_moved, self.unlooked = True, None

    @rule(is_reopened=st.booleans())
    def gc(self, is_reopened: bool) -> None:
        if is_reopened:
            self.repository = Repository.open(self.folder / "p", key_path=self.folder / "key", trust_path=self.folder / "trusted")
        collect_garbage(self.repository, grace_s=-1)

    @rule()
    def lose_a_commit(self) -> None:
        writer = self.repository.writer()
        writer.write(StagedCommit(f"lost {self.clock}", CommitKind.CELL, self.clock, 0), [])
        writer.publish()

    @rule()
    def check(self) -> None:
        assert list(check_repository(self.repository)) == []

    @invariant()
    def agrees(self) -> None:
        refs = self.repository.database.refs
        assert dict(refs.iter_refs()) == self.refs
        assert refs.head() == Head(self.branch, self.refs.get(self.branch))
        for oid in set(self.refs.values()):
            found = {}
            for name, entry in self.repository.names(oid).items():
                assert entry.payload_oid is not None
                found.update({name: pickle.loads(self.repository.payload(entry.payload_oid).read_stream())[name]})
            assert found == self.contents[oid]


TestRepositoryMachine = RepositoryMachine.TestCase
TestRepositoryMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
