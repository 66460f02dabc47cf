"""CogVideoX (METHOD 1): `transformer` reads from top to bottom, with `streams`, `patches` and `positions` beside it.

`vae` is the video autoencoder's network, with `vae_layers` and `vae_tiling` (encoding and decoding in tiles).
"""
