"""The networks, one place for each, with their sizes (`sizes`, and `mmjax.model_settings` for what experiments train).

`cogvideox` is the frozen base and its VAE, `magicmirror` the paper's own parts; `t5`, `clip`, `arcface` (recognisers)
are the frozen encoders' networks. `build` makes an experiment's model and its parameters as shapes; `flops` counts its
operations; `small` is the model that a CPU trains. Begin with `magicmirror/model.py`.
"""
