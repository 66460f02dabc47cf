"""People who do not exist, for small experiments and tests. Begin with `people.py`: an identity is a vector of traits.

`drawing.py` draws them before `backgrounds.py`; `portraits.py` and `galleries.py` have pictures of them, `records.py`
and `builders.py` training records; `fisherfaces.py` is a recogniser that knows them. Their encoders are placeholders
of `mmjax.encoders`.
"""
