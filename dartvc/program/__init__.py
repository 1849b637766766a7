"""Positions in unmodified code: where a running program is, and how it goes on from there in another process.

Nothing is compiled into the user's code. A program is stopped at the start of a statement (`stopping`), its frames are read (`frames`,
`capture`) and described against the source (`sources`, `flow`, `places`). To go on, each function on the stack gets a variant of itself
that begins in the middle (`variants`, `resuming`). Suspended generators are positions too (`generators`). What a program does outside
its memory is watched by `effects`.

This room knows Python code and frames, no commits. Main types: `Position` (model), `CapturedFrame`, `Capture`.
"""
