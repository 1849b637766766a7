"""Hindsight: what programs log, the loops that they log it in, and all of it as relations that can be queried.

`recording` is what ``dartvc.log`` runs into: a `Recorder` hands its records to the session's next commit and keeps them in a journal until
then. `segments` reads them back from a repository's objects, `index` keeps the relations, `pivot` answers queries. Nothing here unpickles.
"""
