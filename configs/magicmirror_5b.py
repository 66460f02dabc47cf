"""MagicMirror on CogVideoX-5B, the paper's model: 49 frames of 480 x 720, base frozen in bfloat16.

For records (`mmjax.prepare`) and measures (`mmjax.bench`); it trains in `stage1_image.py` and `stage2_video.py`.
"""

from mmjax.models.published import published


def get_config():
    return published("5b").to_config_dict()
