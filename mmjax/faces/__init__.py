"""Photographs of people: where faces are, how good they are, and whose. NumPy, OpenCV and onnxruntime; no JAX.

Begin with `detection.py`: a model pack's detector, and the two crops that encoders take. `packs.py` finds a pack on the
disk, `tracking.py` follows faces through a clip, `masks.py` draws which pixels are face, `embeddings.py` compares
embeddings. `reference_check.py` decides whether pictures may be references of one person, from the measures of
`quality.py` and `damage.py`; `upright.py` turns what lies on its side; `attributes.py` estimates gender and age for
captions.
"""
