"""MagicMirror on CogVideoX1.5-5B: temporal patches, positions counted from the corner; 81 frames of 768 x 1360.

For records and measures; it trains in `stage1_image.py:1_5_5b` and `stage2_video.py:1_5_5b`.
"""

from mmjax.models.published import published


def get_config():
    return published("1_5_5b").to_config_dict()
