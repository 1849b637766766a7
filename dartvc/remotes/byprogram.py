"""A repository that the ``git`` program reaches: over ssh, https or git's own protocol, or in a bundle file."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

from dartvc.errors import NotFoundError, RefConflictError, RemoteError, StorageError
from dartvc.history import RefMove, Repository
from dartvc.host.progress import counting, is_watched
from dartvc.model import Oid
from dartvc.remotes.addresses import Address
from dartvc.remotes.exchange import TRAVELLING, Advertisement, Sent
from dartvc.remotes.workshop import Workshop, last_words, server_messages

__all__ = ["GitPeer"]

_NO_REPOSITORY = ("does not appear to be a git repository", "not a git repository", "not found")
_NO_RIGHTS = ("Authentication failed", "could not read Username", "could not read Password", "returned error: 403", "returned error: 401")
_INCOMING = "refs/incoming/"


class _Arrived:
    """What git received in a workshop."""

    def __init__(self, workshop: Workshop, refs: Mapping[str, Oid]) -> None:
        self._workshop = workshop
        self.refs = refs
        self.objects = -1
        packs = (workshop.path / "objects" / "pack").glob("pack-*.pack")
        self.size_bytes = sum(pack.stat().st_size for pack in packs)

    def admit(self) -> None:
        """Makes it visible, durably."""
        self._workshop.adopt()


class GitPeer:
    """A repository at an address for the git program, which works in a `Workshop` of ``repository``."""

    def __init__(self, address: Address, repository: Repository) -> None:
        self._address = address
        self._repository = repository
        self._urls: Sequence[str] = (str(address.path),) if address.path is not None else address.candidates()
        self._protocols = "file" if address.path is not None else "ssh:https:http:git"

    def advertise(self) -> Advertisement:
        """Asks for refs (git-ls-remote)."""
        with self._workshop() as workshop:
            listed = self._run(workshop, lambda url: ["ls-remote", "--symref", url])
        refs: dict[str, Oid] = {}
        head = None
        for line in listed.stdout.splitlines():
            left, _, name = line.partition("\t")
            if left.startswith("ref: ") and name == "HEAD":
                head = left.removeprefix("ref: ")
            elif left and (name == "HEAD" or name.startswith(TRAVELLING)):
                refs[name.removesuffix("^{}")] = Oid(left)  # the peeled line of a tag object follows its own
        tip = refs.pop("HEAD", None)
        if head is None and tip is not None:
            head = next((name for name, oid in refs.items() if oid == tip and name.startswith("refs/heads/")), None)
        return Advertisement(refs, head)

    @contextlib.contextmanager
    def receive(self, into: Repository, names: Sequence[str] | None) -> Iterator[_Arrived]:
        """Lets git fetch into a workshop."""
        wanted = [f"{prefix}*" for prefix in TRAVELLING] if names is None else names
        given = "".join(f"+{name}:{_INCOMING}{name.removeprefix('refs/')}\n" for name in wanted)
        words = ["fetch", "--no-write-fetch-head", "--no-tags", "--no-auto-gc", "--progress" if is_watched() else "--quiet", "--stdin"]
        with self._workshop() as workshop:
            self._run(workshop, lambda url: [*words, url], given)
            refs = workshop.received(_INCOMING)
            yield _Arrived(workshop, {f"refs/{name}": oid for name, oid in refs.items()})

    def send(self, source: Repository, moves: Sequence[RefMove]) -> Sent:
        """Lets git push; ``--force-with-lease`` is its compare-and-swap."""
        leases = [f"--force-with-lease={move.name}:{move.old or ''}" for move in moves]
        specs = [f"{move.new or ''}:{move.name}" for move in moves]
        with self._workshop() as workshop:
            words = ["push", "--porcelain", "--atomic", "--no-verify", *(["--progress"] if is_watched() else []), *leases]
            done = self._run(workshop, lambda url: [*words, url, *specs], is_judged_by_caller=True)
        if done.returncode != 0:
            raise self._refusal(done)
        return Sent(messages=tuple(server_messages(done)))

    def _refusal(self, done: subprocess.CompletedProcess[str]) -> RemoteError | RefConflictError | StorageError:
        for line in done.stdout.splitlines():
            flag, _, rest = line.partition("\t")
            if flag == "!":
                reason = rest.rpartition("\t")[2]
                if "stale info" in reason or "fetch first" in reason:
                    return RefConflictError(f"{self._address.shown} has moved meanwhile: {rest}", kind="ref-moved", hint="dvc-state fetch")
                if "atomic" not in reason:
                    messages = "; ".join(server_messages(done))
                    why = f"{reason}: {messages}" if messages else reason
                    return RemoteError(
                        f"{self._address.shown} refused: {why}", kind="remote-refused", hint="dvc-state push REMOTE BRANCH:ANOTHER-NAME"
                    )
        return self._failure(done)

    def _failure(self, done: subprocess.CompletedProcess[str]) -> RemoteError | StorageError:
        why = last_words(done)
        if "No space left on device" in done.stderr or "Disk quota exceeded" in done.stderr:
            return StorageError(
                f"cannot write to {self._repository.path}: {why}", kind="write-failed", hint="free some space, or dvc-state gc"
            )
        hint = "dvc-state remote -v shows the addresses"
        if "Permission denied" in done.stderr or "Host key" in done.stderr or "Could not read from remote" in done.stderr:
            hint = "try: ssh HOST true; the address may need a user or a key"
            why = next((line for line in done.stderr.splitlines() if "denied" in line or "ssh:" in line or "Host key" in line), why)
        if any(text in done.stderr for text in _NO_RIGHTS):
            return RemoteError(
                f"{self._address.shown} refuses: {why.strip()}",
                kind="remote-unreachable",
                hint="git's own credential helpers are asked: git credential-store, or a name and a token in the address",
            )
        return RemoteError(f"{self._address.shown} cannot be reached: {why.strip()}", kind="remote-unreachable", hint=hint)

    def _run(
        self, workshop: Workshop, words: Callable[[str], Sequence[str]], given: str = "", *, is_judged_by_caller: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs git with the first of the possible URLs that has a repository, and remembers which that was."""
        for number, url in enumerate(self._urls):
            with counting("talking to the remote"):
                done = workshop.git(*words(url), given=given, protocols=self._protocols)
            is_absent = done.returncode != 0 and any(text in done.stderr for text in _NO_REPOSITORY)
            if is_absent and number + 1 < len(self._urls):
                continue
            if done.returncode == 0:
                self._urls = (url,)
            elif "couldn't find remote ref" in done.stderr:
                name = last_words(done).rpartition(" ")[2]
                raise NotFoundError(
                    f"{self._address.shown} has no {name}", kind="unknown-ref", hint="dvc-state fetch without a branch brings all"
                )
            elif not is_judged_by_caller:
                raise self._failure(done)
            return done
        raise AssertionError("an address has at least one URL")

    def _workshop(self) -> Workshop:
        database = self._repository.database
        return Workshop(database, [oid for _, oid in database.refs.iter_refs()])
