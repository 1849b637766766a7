"""The verbs, their options and what stands behind each; written by ``python -m dartvc.cli.tabling``."""

from __future__ import annotations

from typing import Literal

__all__ = ["COMMON", "VERBS", "Kind"]

Kind = Literal["branch", "file", "name", "other", "remote", "revision", "run", "setting", "tag", "target"]

COMMON: dict[str, Kind | None] = {
    "--no-pager": None,
    "--quiet": None,
    "--session": "other",
    "-C": "file",
    "-q": None,
}
VERBS: dict[str, tuple[dict[str, Kind | None], tuple[Kind, ...]]] = {  # its options, with what each takes; what its arguments are
    "abort": (
        {"--json": None, "--leave-files": None},
        ("run",),
    ),
    "bisect run": (
        {"--expr": "other", "--json": None},
        (),
    ),
    "blame": (
        {"--json": None},
        ("name",),
    ),
    "branch": (
        {"--delete": None, "--json": None, "--move": None, "--verbose": None, "-D": None, "-a": None, "-d": None, "-m":
         None, "-r": None, "-v": None},
        ("branch", "revision"),
    ),
    "bundle create": (
        {"--bandwidth": "other", "--json": None, "--plan": "other", "--try": None},
        ("file", "revision"),
    ),
    "bundle list": (
        {"--json": None},
        ("file",),
    ),
    "bundle verify": (
        {"--json": None},
        ("file",),
    ),
    "cache clear": (
        {"--all": None},
        (),
    ),
    "cache explain": (
        {"--json": None},
        ("other",),
    ),
    "cache pin": (
        {"--json": None, "--off": None},
        ("other",),
    ),
    "cache stats": (
        {"--json": None},
        (),
    ),
    "checkout": (
        {"--json": None, "--map-device": "other", "--plan": None, "--trust": None, "-b": "other"},
        ("revision", "name"),
    ),
    "cherry-pick": (
        {"--json": None, "--trust": None},
        ("revision", "name"),
    ),
    "clone": (
        {"--bandwidth": "other", "--branch": "other", "--json": None, "--origin": "other", "--plan": None, "--trust":
         None, "-b": "other", "-o": "other"},
        ("other", "file"),
    ),
    "commit": (
        {"--json": None, "--message": "other", "-m": "other"},
        (),
    ),
    "completion": (
        {},
        ("other",),
    ),
    "config": (
        {"--get": None, "--json": None, "--list": None, "--unset": None, "-l": None},
        ("setting", "other"),
    ),
    "diff": (
        {"--exit-code": None, "--json": None},
        ("revision", "revision", "name"),
    ),
    "doctor": (
        {"--json": None},
        (),
    ),
    "du": (
        {"--json": None},
        (),
    ),
    "export": (
        {"--format": "other", "--json": None, "--output": "file", "--trust": None, "-o": "file"},
        ("revision", "name"),
    ),
    "fetch": (
        {"--all": None, "--force": None, "--json": None, "--prune": None, "--trust": None, "-f": None, "-p": None},
        ("remote", "branch"),
    ),
    "fsck": (
        {"--json": None, "--loadable": None, "--repair": None},
        (),
    ),
    "gc": (
        {"--dry-run": None, "--json": None, "--keep-best": "other", "--keep-last": "other", "--keep-within": "other",
         "--prune": "other"},
        (),
    ),
    "import flordb": (
        {"--json": None},
        ("other",),
    ),
    "import mlflow": (
        {"--json": None},
        ("other",),
    ),
    "import wandb": (
        {"--json": None},
        ("other",),
    ),
    "init": (
        {"--json": None},
        ("file",),
    ),
    "jupyter disable": (
        {},
        (),
    ),
    "jupyter enable": (
        {"--kernelspec": None},
        (),
    ),
    "lineage": (
        {"--against": "other", "--depth": "other", "--down": None, "--format": "other", "--json": None, "--level":
         "other", "--recompute": None, "--rev": "revision", "--slice": None, "--trust": None},
        ("other",),
    ),
    "log": (
        {"--all": None, "--graph": None, "--grep": "other", "--json": None, "--oneline": None, "--since": "other",
         "--var": "name", "--where": "other", "-n": "other", "-p": None},
        ("revision",),
    ),
    "ls": (
        {"--json": None},
        ("revision",),
    ),
    "op log": (
        {"--json": None, "-n": "other"},
        (),
    ),
    "op restore": (
        {"--json": None},
        ("other",),
    ),
    "propagate": (
        {"--at": "other", "--json": None, "--output": "file", "-o": "file"},
        ("file", "file"),
    ),
    "pull": (
        {"--json": None, "--no-fetch": None, "--trust": None},
        ("remote", "branch"),
    ),
    "push": (
        {"--all": None, "--bandwidth": "other", "--delete": None, "--force": None, "--json": None, "--plan": None,
         "--prune": None, "--set-upstream": None, "--tags": None, "-d": None, "-f": None, "-u": None},
        ("remote", "branch"),
    ),
    "query": (
        {"--best": "other", "--df": "other", "--engine": "other", "--format": "other", "--json": None, "--latest": None,
         "--limit": "other", "--output": "file", "--run": "run", "--where": "other", "-o": "file"},
        ("other",),
    ),
    "redo": (
        {"--json": None},
        (),
    ),
    "remote": (
        {"--json": None, "-v": None},
        (),
    ),
    "remote add": (
        {},
        ("other", "other"),
    ),
    "remote get-url": (
        {},
        ("remote",),
    ),
    "remote remove": (
        {},
        ("remote",),
    ),
    "remote rename": (
        {},
        ("remote", "other"),
    ),
    "remote set-url": (
        {},
        ("remote", "other"),
    ),
    "replay": (
        {"--all": None, "--dry-run": None, "--executor": "other", "--json": None, "--sample": "other", "--trust": None,
         "--where": "other", "-j": "other"},
        ("name", "revision"),
    ),
    "reset": (
        {"--hard": None, "--json": None, "--trust": None},
        ("revision",),
    ),
    "restore": (
        {"--from": "revision", "--json": None, "--trust": None},
        ("name",),
    ),
    "resume": (
        {"--code": "other", "--every": "other", "--force": None, "--grace": "other", "--map-device": "other",
         "--max-overhead": "other", "--partial-reuse": None, "--reuse": None, "--set": "other", "--trust": None},
        ("revision",),
    ),
    "reuse": (
        {"--partial": None},
        ("other",),
    ),
    "revert": (
        {"--json": None, "--trust": None},
        ("revision",),
    ),
    "run": (
        {"--atomic": None, "--every": "other", "--grace": "other", "--kills": "other", "--max-overhead": "other",
         "--partial-reuse": None, "--reuse": None, "--set": "other", "--verify-resume": None, "-m": "other"},
        ("file", "file"),
    ),
    "runs": (
        {"--json": None},
        (),
    ),
    "shell": (
        {"--frame": "other", "--map-device": "other", "--trust": None, "-c": "other"},
        ("revision",),
    ),
    "show": (
        {"--json": None},
        ("target",),
    ),
    "stash": (
        {},
        (),
    ),
    "stash drop": (
        {},
        (),
    ),
    "stash list": (
        {"--json": None},
        (),
    ),
    "stash pop": (
        {},
        (),
    ),
    "status": (
        {"--json": None},
        (),
    ),
    "switch": (
        {"--create": None, "--json": None, "--trust": None, "-c": None},
        ("branch", "revision"),
    ),
    "tag": (
        {"--json": None, "-d": None},
        ("tag", "revision"),
    ),
    "trust": (
        {},
        ("revision",),
    ),
    "undo": (
        {"--json": None},
        (),
    ),
    "why": (
        {"--all": None, "--json": None, "--rev": "revision"},
        ("other",),
    ),
}
