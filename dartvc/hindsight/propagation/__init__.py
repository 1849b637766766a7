"""Log statement propagation: the log statements of NEW, at their equivalent places in OLD.

A value's way through the room: `SourceText` parses, `Version` makes statements and scopes of it, `align` finds which statement of NEW is which of
OLD (`Alignment`) and what the names are called there (`Votes`), `find_travelling` finds what belongs to the new log statements (guards, helpers,
variables and imports that only they use), `Placer` finds the one certain place of each or says why there is none (`Uncertain`), and `insert_at` adds
the text. OLD is only ever added to. The room reads no files and knows no repository.
"""
