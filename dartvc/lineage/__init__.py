"""Work that was done is not done again: calls and operations whose code and inputs were seen are answered from memory or the repository.

`Reuse` is one run's engine: it decides which functions to watch, proves at run time that a call had no effect but its result, keeps results
as long as they pay, and gives up sites that do not. `Fingerprint` is what an input is known by: its content, never its identity. Nothing here
makes commits; results lie under ``refs/cache/``.
"""
