"""The rows of table 3 (METHOD 3, 6): stage 2 on 5B with a part left out, from a stage 1 that went without it as well.

python -m mmjax.train --config configs/ablations.py:without_can_images ...    # its stage 1, and then
python -m mmjax.train --config configs/ablations.py:without_can ...           # its stage 2

The other settings are those of `stage1_image.py` and `stage2_video.py`. `full` starts from stage 1 itself, and
`without_pretraining` from no pictures at all: it wants --config.train.photomaker, as stage 1 does.
"""

import runpy
from pathlib import Path

from mmjax.validation import chosen

SWITCHES = {  # of `config.Adapter`
    "without_can": {"can": False},
    "without_face_modulation": {"face_modulation": False},
    "identity_branch_alone": {"structural_branch": False, "face_modulation": False, "can": False},
    "structural_branch_alone": {"identity_branch": False, "can": False},
}
STAGES = {
    "full": ("stage2_video", {}, "runs/stage1_image"),
    "without_pretraining": ("stage2_video", {}, ""),
    **{name: ("stage2_video", off, f"runs/ablation_{name}_images") for name, off in SWITCHES.items()},
    **{f"{name}_images": ("stage1_image", off, "") for name, off in SWITCHES.items()},
}
VARIANTS = tuple(STAGES)


def get_config(name=""):
    stage, switches, start = chosen(name, STAGES)
    config = runpy.run_path(str(Path(__file__).with_name(f"{stage}.py")))["get_config"]()
    config.name = f"ablation_{name}"
    config.model.adapter.update(switches)
    config.train.adapter = start
    return config
