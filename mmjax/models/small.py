"""The small model of the experiments that a CPU trains: tiny, overfit and faces."""

from mmjax import config as c


def small_model(*, height: int, width: int, text_length: int = 20, id_dim: int = 32) -> c.Model:
    """A model of 1.8 M parameters for clips of nine frames of height x width pixels, which a CPU trains in minutes.

    Latents are pixels (`Autoencoder("pixel")`); text and patches come from placeholder encoders.
    """
    transformer = c.Transformer(
        layers=4,
        heads=2,
        head_dim=64,
        latent_channels=3,
        text_dim=32,
        text_length=text_length,
        time_dim=64,
        patch=4,
        base_frames=9,
        base_height=height,
        base_width=width,
    )
    adapter = c.Adapter(
        id_dim=id_dim,
        clip_dim=64,
        clip_tokens=17,
        perceiver_width=64,
        perceiver_depth=1,
        perceiver_head_dim=32,
        queries=8,
        can_condition_dim=64,
        can_hidden=64,
    )
    return c.Model(transformer, adapter)
