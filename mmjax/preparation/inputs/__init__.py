"""What a preparation starts from. Begin with `listing.py`, which makes one list of all photos and videos.

`tars.py`, `manifests.py` (with sidecar files), `tfds_examples.py` and `generated.py` (references that a model made) are
the kinds of input. `opening.py` gives the bytes of an item and `decoding.py` its pixels, safe against any file.
"""
