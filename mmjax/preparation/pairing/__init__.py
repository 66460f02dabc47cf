"""Questions that are asked of all samples together. Begin with `pairs.py`: who is whose reference.

`duplicates.py` finds copies, `splits.py` says who is kept for validation.
"""
