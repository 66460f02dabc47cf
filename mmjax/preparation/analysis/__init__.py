"""The analysis of items, in worker processes. Begin with `item.py`, which judges one.

`windows.py` cuts a video into windows of a record's length, at the cuts of `cuts.py`; `faces.py` follows the faces of
one, which is turned upright first; `scores.py` measures motion and text. Then, in the main process, `embedding.py`
recognises the faces, and `chunks.py` keeps what was found on disk.
"""
