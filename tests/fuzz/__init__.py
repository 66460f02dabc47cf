"""Awkward command lines, drawn at random: does every entry point end in one clear line?

`python -m tests.fuzz --count 500 --seed 0` runs 500 command lines for each entry point, built from plausible and broken
parts, over inputs of which many are damaged at random places. What must hold for each: no traceback, no hang, exit
status 0 or 2 (130 and 143 where it was interrupted), and no input that changed. A page that stands is interrupted.
Failures are printed with the line that repeats them, and kept under `--keep`. CI does not run it.

`workspace` makes the inputs, `lines` the command lines, `damage` damages files, `running` runs and judges one line.
"""
