"""Planted faults: does a test notice when somebody makes a mistake?

`python -m tests.planted_faults` plants the faults of `table.py` one at a time in a copy of the repository, runs the
tests that should notice, and lists the faults that survive. CI does not run it (it takes an hour); it only checks, in
`test_table.py`, that every fault can still be planted.
"""
