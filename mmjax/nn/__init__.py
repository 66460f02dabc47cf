"""Parts of networks that belong to no model: dense layers and norms, attention, modulation, the perceiver resampler.

Every layer is given the `Policy` that says how it computes (`mmjax.precision`).
"""
