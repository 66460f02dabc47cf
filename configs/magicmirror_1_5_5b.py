"""MagicMirror on CogVideoX1.5-5B: temporal patches, positions counted from the corner; 81 frames of 768 x 1360."""

from mmjax import config as c


def get_config():
    return c.Experiment(
        name="magicmirror_1_5_5b",
        model=c.Model(c.Transformer(position="rope_slice", patch_t=2, base_frames=21, base_height=300, base_width=300)),
        data=c.Data(
            sources=("records/images", "records/clips"),
            weights=(0.5, 0.5),
            batches=(64, 8),
            frames=(1, 81),
            height=768,
            width=1360,
            fps=16,
        ),
        encoders=c.Encoders("t5", "photomaker"),  # their folders: --config.encoders.text_encoder=DIR ...
        train=c.Train(steps=35_000, sample_every=0),
    ).to_config_dict()
