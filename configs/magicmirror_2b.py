"""MagicMirror on CogVideoX-2B: sin-cos positions, a stronger SNR shift, DDIM; 49 frames of 480 x 720.

For records and measures; it trains in `stage1_image.py:2b` and `stage2_video.py:2b`.
"""

from mmjax.models.published import published


def get_config():
    return published("2b").to_config_dict()
