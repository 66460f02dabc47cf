"""What the paper adds to CogVideoX (METHOD 2, 3): `model` composes it, `inputs` says what it is given of a sample.

`face_branch` has the two perceivers (eq. 3, 4), `fusion` writes the identity into the text (eq. 5), `can` predicts
modulations (eq. 6, 7), `cross_attention` reads the face tokens (eq. 8), `adapter` puts the last two into a block.
"""
