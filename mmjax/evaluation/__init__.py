"""Figures of what a model made: embeddings of videos and references in, numbers out. NumPy only, no model is run here.

Begin with `retrieval.py`: how often a clip is recognised as the person of its reference; `identity.py`: how alike they
are. Embeddings come from whoever calls: `mmjax.faces` and `mmjax.encoders` for photographs, `mmjax.synthetic` for drawn
people.
"""
