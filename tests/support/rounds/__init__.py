"""Kill rounds: processes that are killed under load, clients that keep their own record, and a checker of the promises.

`course.py` runs a plan of rounds, `checks.py` holds the promises against the records of clients and upstream, with SQL
and folds of its own: it trusts nothing that the product says about itself. `mutant.py` starts a proxy with a fault.
"""
