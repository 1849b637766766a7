"""The remotes of a repository, in git's own configuration: ``remote.<name>.url``, ``branch.<name>.remote`` and ``.merge``."""

from __future__ import annotations

from dataclasses import dataclass

from dartvc.errors import NotFoundError, UsageError
from dartvc.history import RefMove, Repository
from dartvc.remotes.addresses import Address, parse_address
from dartvc.store.refs import check_ref_name

__all__ = ["Remote", "Remotes", "Upstream"]


@dataclass(frozen=True, slots=True)
class Remote:
    """A name for an address; ``push_url`` is where `push` goes when that is another one."""

    name: str
    url: str
    push_url: str = ""

    def tracking(self, branch: str) -> str:
        """Returns the ref that remembers where a branch of the remote was."""
        return f"refs/remotes/{self.name}/{branch}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The branch of a remote that a branch of ours follows."""

    remote: str
    branch: str

    @property
    def ref(self) -> str:
        """The ref that remembers where it was."""
        return f"refs/remotes/{self.remote}/{self.branch}"

    @property
    def name(self) -> str:
        """The name for people: ``origin/main``."""
        return f"{self.remote}/{self.branch}"


class Remotes:
    """The remotes of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._config = repository.config

    def known(self) -> list[Remote]:
        """Returns all remotes, by name."""
        names = sorted(name for name in self._config.subsections("remote") if self._config.get(f"remote.{name}.url", ""))
        return [self.get(name) for name in names]

    def get(self, name: str) -> Remote:
        """Returns a remote.

        Raises:
            NotFoundError: there is none of this name.
        """
        url = self._config.get(f"remote.{name}.url", "")
        if not url:
            known = ", ".join(each for each in self._config.subsections("remote")) or "none is known"
            raise NotFoundError(
                f"there is no remote {name!r} ({known})", kind="unknown-remote", hint=f"dvc-state remote add {name} ADDRESS"
            )
        return Remote(name, url, self._config.get(f"remote.{name}.pushurl", ""))

    def find(self, name_or_url: str) -> Remote:
        """Returns a remote by its name, or a nameless one for an address."""
        if self._config.get(f"remote.{name_or_url}.url", ""):
            return self.get(name_or_url)
        if not any(letter in name_or_url for letter in "/:."):
            return self.get(name_or_url)  # raises, and names those that there are
        return Remote("", name_or_url)

    def default(self, branch: str | None = None) -> Remote:
        """Returns the remote of a branch's upstream, else ``origin``, else the only one.

        Raises:
            NotFoundError: there is none, or too many to choose from.
        """
        configured = self._config.get(f"branch.{branch}.remote", "") if branch else ""
        if configured:
            return self.get(configured)
        known = self.known()
        if len(known) == 1 and known[0].name != "origin":
            return known[0]
        return self.get("origin")

    def address(self, remote: Remote, *, is_push: bool = False) -> Address:
        """Returns where a remote is; relative paths start from the project's folder."""
        return parse_address((remote.push_url if is_push else "") or remote.url, self._repository.root)

    def add(self, name: str, url: str) -> Remote:
        """Adds a remote.

        Raises:
            UsageError: the name is taken or not one that git allows, or the address is none.
        """
        self._check_free(name)
        parse_address(url, self._repository.root)
        self._config.update({f"remote.{name}.url": url, f"remote.{name}.fetch": f"+refs/heads/*:refs/remotes/{name}/*"})
        return Remote(name, url)

    def set_url(self, name: str, url: str) -> Remote:
        """Gives a remote another address."""
        self.get(name)
        parse_address(url, self._repository.root)
        self._config.update({f"remote.{name}.url": url})
        return self.get(name)

    def remove(self, name: str) -> list[str]:
        """Forgets a remote and its tracking refs; returns these. `undo` brings the refs back."""
        self.get(name)
        moves = self._tracking(name)
        self._drop_head(name)
        self._config.update({**dict.fromkeys(self._config.keys(f"remote.{name}.")), **dict.fromkeys(self._keys_of_branches(name))})
        if moves:
            self._repository.move_refs(moves, operation="remote remove", description=f"remote remove {name}")
        return [move.name for move in moves]

    def rename(self, old: str, new: str) -> Remote:
        """Gives a remote, and its tracking refs, another name."""
        remote = self.get(old)
        self._check_free(new)
        values: dict[str, str | None] = dict.fromkeys(self._config.keys(f"remote.{old}."))
        values |= {f"remote.{new}.url": remote.url, f"remote.{new}.fetch": f"+refs/heads/*:refs/remotes/{new}/*"}
        if remote.push_url:
            values[f"remote.{new}.pushurl"] = remote.push_url
        for key in self._keys_of_branches(old):
            if key.endswith(".remote"):
                values[key] = new
        self._drop_head(old)
        moves = self._tracking(old)
        fresh = [RefMove(move.name.replace(f"refs/remotes/{old}/", f"refs/remotes/{new}/", 1), None, move.old) for move in moves]
        self._config.update(values)
        if moves:
            self._repository.move_refs([*moves, *fresh], operation="remote rename", description=f"remote rename {old} {new}")
        return self.get(new)

    def upstream(self, branch: str) -> Upstream | None:
        """Returns what a branch follows: what is configured, else the branch of the same name of the default remote."""
        remote = self._config.get(f"branch.{branch}.remote", "")
        merge = self._config.get(f"branch.{branch}.merge", "").removeprefix("refs/heads/")
        if remote and merge:
            return Upstream(remote, merge)
        known = self.known()
        name = next((each.name for each in known if each.name == "origin"), known[0].name if len(known) == 1 else "")
        return Upstream(name, branch) if name else None

    def follow(self, branch: str, upstream: Upstream) -> None:
        """Makes a branch follow one of a remote."""
        self._config.update({f"branch.{branch}.remote": upstream.remote, f"branch.{branch}.merge": f"refs/heads/{upstream.branch}"})

    def _check_free(self, name: str) -> None:
        check_ref_name(f"refs/remotes/{name}/HEAD")
        if not name or name.startswith("-"):
            raise UsageError(f"{name!r} is not a name for a remote", kind="bad-remote-name", hint="dvc-state remote add origin ADDRESS")
        if self._config.get(f"remote.{name}.url", ""):
            raise UsageError(f"there is a remote {name!r} already", kind="remote-exists", hint=f"dvc-state remote set-url {name} ADDRESS")

    def _tracking(self, name: str) -> list[RefMove]:
        refs = self._repository.database.refs.iter_refs(f"refs/remotes/{name}/")
        return [RefMove(ref, oid, None) for ref, oid in refs if ref != f"refs/remotes/{name}/HEAD"]

    def _drop_head(self, name: str) -> None:
        self._repository.database.refs.link(f"refs/remotes/{name}/HEAD", None)

    def _keys_of_branches(self, name: str) -> list[str]:
        branches = [each for each in self._config.subsections("branch") if self._config.get(f"branch.{each}.remote", "") == name]
        return [key for each in branches for key in (f"branch.{each}.remote", f"branch.{each}.merge") if self._config.get(key, "")]
