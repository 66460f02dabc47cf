"""Frames of the real clips of MMJAX_TEST_DATA, and what ConsisID says of its training sample."""

import json

import av
import numpy as np
from PIL import Image

from tests.helpers import face_pictures as fp

_CONSISID = fp.DATA / "videos" / "consisid_demo" / "dataname"
_SAMPLE = "81FyMPk-WIS_segment_0_243_noFacePose_0_243"
CONSISID_CLIP = f"consisid_demo/dataname/videos/{_SAMPLE}.mp4"


def frames_of(name: str, count: int, step: int = 1) -> np.ndarray:
    """The first `count` frames of a clip below videos/, RGB, one in `step`."""
    found = []
    with av.open(str(fp.DATA / "videos" / name)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                found.append(frame.to_ndarray(format="rgb24"))
            if len(found) == count:
                break
    return np.stack(found)


def middle_frames(count: int) -> dict[str, np.ndarray]:
    """A frame from the middle of so many clips, by the clips' names below videos/."""
    videos = fp.DATA / "videos"
    files = sorted(path for path in videos.rglob("*") if path.suffix in (".mp4", ".mpg"))
    found = {}
    for file in files[:: len(files) // count][:count]:
        with av.open(str(file)) as container:
            container.seek(container.duration // 2)
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
            found[str(file.relative_to(videos))] = np.ascontiguousarray(frame)  # dlib takes no rows with gaps
    return found


def consisid_boxes() -> np.ndarray:
    """The face's box in each frame of ConsisID's training sample, [244, 4]."""
    frames = json.loads((_CONSISID / "refine_bbox_jsons" / f"{_SAMPLE}.json").read_text())
    boxes = (frames[str(index)]["face"][0]["box"] for index in range(len(frames)))
    return np.array([[box[edge] for edge in ("x1", "y1", "x2", "y2")] for box in boxes])


def consisid_masks() -> np.ndarray:
    """What SAM2 took for the face in each frame, bool [244, 940, 720]."""
    files = sorted((_CONSISID / "track_masks_data" / _SAMPLE / "tracking_mask_results" / "1").glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) == 1 for file in files])
