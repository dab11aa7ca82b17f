"""Numbers about the running proxy, of all its workers: counted in shared memory, told in Prometheus' text format.

`layout.py` says which cell counts what, `cells.py` owns the memory, `meter.py` counts, `vitals.py` publishes what is
measured rather than counted, `exposition.py` makes the text. The route is `api/routes/metrics.py`.
"""
