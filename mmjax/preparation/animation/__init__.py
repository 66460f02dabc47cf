"""Clips drawn from one photograph of a face: the head turns and nods, mouth and eyes move, the camera moves.

Begin with `clip.py`: `animate` makes a clip. `motion.py` draws how everything moves in time, `placing.py` says where
the face is in the photograph, `head.py` turns the head in depth, `mouth.py`, `eyes.py` and `features.py` move the rest.
"""
