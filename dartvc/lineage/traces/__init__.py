"""What a run with reuse left of the way that it took: which statements ran, how often its loops turned, and on which paths.

`Paths` reads the streams of decisions that `dartvc.lineage.decisions` records into the last commit of a run. It says what is known for
certain, and None where something may be missing: work that was answered from an earlier run, other processes, streams that were dropped.
Nothing here executes anything.
"""
