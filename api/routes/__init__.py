"""The HTTP routes beside the hot one: keys, spend, calls and their events, models, health; one module a subject.

Each subject's module has a `router`, which `api/app.py` includes. What they share: `parameters.py` reads queries,
`request_body.py` JSON bodies, `times.py` dates and durations, `reading.py` gives connections, `paths.py` registers. No
SQL here.
"""
