"""Measurements of the whole on one machine in one run: `scripts/bench`.

Each module measures one thing and returns its figures; `report` prints them, `__main__` chooses and fails where a
promise does not hold. Nothing of the product imports from here.
"""
