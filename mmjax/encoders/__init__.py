"""Frozen encoders: prompts, faces and videos to the features that the model is trained on, and latents back to videos.

Begin with `interface` (what an encoder is) and `build` (which one an experiment names, and how it is made). Then

    t5, prompts                       text: T5, and the class word and trigger that carry an identity
    photomaker, photographs, arcface  faces on photographs: CLIP, the check of pictures, the recogniser
    vae, pixel                        videos: the CogVideoX autoencoder, and none at all
    placeholders, labels              untrained text and face encoders for small experiments
    fingerprints, expected            which encoder made these features, and which ones an experiment expects
"""
