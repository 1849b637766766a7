"""Importing: runs that MLflow, Weights & Biases and FlorDB recorded, as runs of this repository.

`mlflow`, `wandb` and `flordb` each read the files of one tool (none of them needs the tool itself) and yield a `RunSource` a run; `writing` turns the
`ForeignRun` behind it into log records and a commit on ``refs/logs/<id>``, where queries, clones and replays find it like any other. The id follows from what
the tool calls the run, so that importing again adds only what is new. Nothing here unpickles or runs what the tools stored.
"""
