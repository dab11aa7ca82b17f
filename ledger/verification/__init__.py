"""Looks whether the book is sound: gapless, unaltered, every call ended, every attempt charged once, every sum right.

`book.py` goes through all of it. `stream.py` reads a journal; `journal.py` checks its order and chain, `calls.py` its
calls; `links.py`, `money.py` and `projected.py` what spans journals. `findings.py` holds what was found.
"""
