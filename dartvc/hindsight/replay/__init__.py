"""Replay: past runs executed again with today's log statements in their code, for the values that nobody logged then.

`patching` puts the log statements into a run's recorded sources, `scratch` lays out a folder in which the old program can run without touching
the user's, `places` finds recorded positions again in the patched program, `jobs` is what a replaying process is told and what it answers,
`execution` starts such processes and joins their answers, `results` compares and keeps what they found. The process itself is
`dartvc.shims.replaying`; `dartvc.porcelain.replay` is the verb. Nothing here moves HEAD or a branch: records are added beside the run.
"""
