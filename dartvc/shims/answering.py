"""A run that repeats an earlier one: what that printed is printed, and the state at its end is committed as this run's."""

from __future__ import annotations

import sys

from dartvc.errors import DartvcError
from dartvc.history import Repository
from dartvc.history.environment import describe_environment
from dartvc.host.entropy import local_now
from dartvc.lineage.account import write_account
from dartvc.lineage.programs import Answer, recall
from dartvc.model import CommitKind, StagedCommit
from dartvc.sessions import Session
from dartvc.sessions.runs import Run, run_entry

__all__ = ["answer_run"]


def answer_run(repository: Repository, run: Run, text: str) -> bool:
    """Answers a run by an earlier one of which nothing has changed; returns whether there was one."""
    answer = recall(repository, run, text)
    if answer is None:
        return False
    try:
        for name, printed in answer.output:
            stream = getattr(sys, name)
            if stream is not None:  # a process without a terminal may have none
                stream.write(printed)
                stream.flush()
    except (OSError, UnicodeError):
        return False  # the program is to meet what is wrong with its streams
    print(f"dartvc: nothing has changed since run {answer.run_id}: its output and its state stand for those of this one", file=sys.stderr)
    _commit(repository, run, text, answer)
    return True


def _commit(repository: Repository, run: Run, text: str, answer: Answer) -> None:
    session = Session(repository, {})
    try:
        session.commit_staged(_staged(repository, run, text, answer))
        session.flush()
        write_account(repository.path, [answer.site(run)], {"saved_s": answer.cost_s, "answered_by": answer.run_id})
    except (DartvcError, OSError) as failure:
        print(f"dartvc: the end of the run was not committed: {failure}", file=sys.stderr)
    session.close()


def _staged(repository: Repository, run: Run, text: str, answer: Answer) -> StagedCommit:
    """Returns the commit at the end of the earlier run, as one at the end of this: the user's git is what may differ."""
    now, offset = local_now()
    present = describe_environment(repository.root, {})
    remark = f"; approximate: {answer.assembled} results assembled from parts" if answer.assembled else ""
    return StagedCommit(
        message=f"exit 0 (as run {answer.run_id}{remark})",
        kind=CommitKind.END,
        time_s=now,
        utc_offset_min=offset,
        code=text,
        process=(run_entry(run._replace(exit_code=0)),),
        environment={**repository.environment(answer.oid), "git": present["git"], "git_dirty": present["git_dirty"]},
        approximate=answer.assembled,
        run=run.run_id,
        state_of=answer.oid,
    )
