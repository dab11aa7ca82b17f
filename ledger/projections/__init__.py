"""Tables computed from the events, which can be thrown away and rebuilt: keys, prices, calls, spend.

A projection is a fold of events into tables, the same in whatever order journals are read. Its SQL lies in the module
of its name; `fold.py` runs a batch, `projector.py` keeps on folding, `rebuild.py` starts over beside the live tables.
"""
