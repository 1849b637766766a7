"""How values came to be, down to single operations: LIMA's lineage traces, for Python as it is written.

A run keeps its code, which way it went through it (`paths`), the files it read and its settings; a trace is not written while the program runs but read from
these, when somebody asks: the code is executed once more over items instead of values. A `LineageItem` says which operation made a value of which others; calls and
loops are items, too, with their own items inside, so that one trace is read at several levels. A `Tracer` makes the items, a `Slice` is the part of the program that a
value needs. Nothing of the user's runs here.
"""
