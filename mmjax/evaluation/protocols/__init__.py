"""What the field's publications fix when they evaluate: frames, detector, embedder, crops, aggregation, columns.

    protocol = find_protocol("opens2v-human", fixed=True)  # of `registry`
    protocol.label  # "opens2v-human 1.1 mended"
    metrics = protocol.metrics(Given(face_models="antelopev2"), known)

Begin with `protocol.py`; each publication has its file. Numbers and constants are those of its public evaluation code.
"""
