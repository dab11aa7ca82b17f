"""What people ask of the book: the request log, spend, keys, end users, and one call with its events and its replay.

Reads projections, and events where bytes are wanted. Knows no HTTP. Every read takes a `scope`: the key that asks,
which sees its own calls and spend and nothing of others; None for an administrator. Times are aware and UTC, money is
Decimal.
"""

#: Settings of a session that reads reports. Ten sums of 20,000 names do not fit into the usual 4 MB, and go through the
#: disk; compiling a query takes longer than most reports, and so do workers where calls keep the cores busy: only what
#: reads a large table in whole is worth them.
SESSION = {"statement_timeout": "30s", "work_mem": "32MB", "jit": "off", "parallel_setup_cost": "20000"}
