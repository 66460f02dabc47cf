"""Models that come with mmjax, each in a folder of its name: three files of weights and a model card.

`names` finds them, `packing` makes them of a run and turns them back into folders to train on
(`python -m mmjax.convert pretrained`), `card` writes the model card. What the files hold: `mmjax.weights.shipped`.
"""
