"""Planted faults: does a test notice when somebody makes a mistake?

`python -m tests.planted_faults` plants the faults of `table.py` one at a time in a copy of the repository, runs the
tests that should notice, and lists the faults that survive. CI does not run it (it takes an hour or two on two cores);
it only checks, in `test_table.py`, that every fault can still be planted. `--only` runs a part, `--resume` goes on.

Where it stands: all 239 faults have been tried. Five are no faults, for the reasons that stand in their rows; the other
234 are found. At first 208 were. Tests were missing for eleven faults in pairing, two in records, two in norms, nine in
the training step, its state and the optimizer, and two in the denoising loop; each has one since.
"""
