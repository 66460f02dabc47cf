"""python -m tests.identity_ceiling --folder DIR [--people 100] [FLAGS of evaluate]: real people as if generated.

What could a perfect generator reach? Scores real pictures with `mmjax.evaluate` against real references of the same
people, by every embedder that the flags name, and prints the table. Needs MMJAX_TEST_DATA.

    photos   two photos of a person of LFW as a video of two frames; the references are two other photos
    clips    the second half of a real clip; the references are two frames of its first quarter, so of the same shot:
             easier than a generator has it
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax import evaluate, files, media, video

FPS, CLIP_FRAMES = 8.0, 49


def main(arguments: list[str] | None = None) -> int:
    """The exit status of `mmjax.evaluate`."""
    parser = argparse.ArgumentParser("python -m tests.identity_ceiling", description=__doc__.splitlines()[2])
    parser.add_argument("--folder", type=Path, required=True, help="takes pictures, clips and the report")
    parser.add_argument("--people", type=int, default=100, help="people of LFW with four photos or more")
    given, more = parser.parse_known_args(arguments)
    data = Path(os.environ["MMJAX_TEST_DATA"])
    if not (given.folder / "people.csv").exists():
        rows = [*photos(data, given.folder, given.people), *clips(data, given.folder)]
        files.write_text(given.folder / "people.csv", "\n".join(["path,person", *rows]))
    line = ["--references", str(given.folder / "people.csv"), "--output", str(given.folder / "report")]
    for name in ("photos", "clips"):
        line += ["--videos", f"{name}={given.folder / name}"]
    evaluate.main([*line, *more])
    return 0


def photos(data: Path, folder: Path, count: int) -> list[str]:
    """Writes frames; returns the lines of references. The people are spread over the alphabet."""
    root = next(path for path in (data / "faces" / "lfw").rglob("*") if path.is_dir() and any(path.glob("*_0004.jpg")))
    known = sorted(path for path in root.parent.iterdir() if path.is_dir() and len(list(path.glob("*.jpg"))) >= 4)
    rows = []
    for number in media.spread(count, len(known)):
        own, name = sorted(known[number].glob("*.jpg"))[:4], f"photo{number:03d}"
        for place, path in enumerate(own):
            if place < 2:
                target = folder / "photos" / name / f"{place}.png"
            else:
                target = folder / "references" / name / f"{place}.png"
                rows.append(f"references/{name}/{place}.png,{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("RGB").save(target)
    return rows


def clips(data: Path, folder: Path) -> list[str]:
    """Writes the second halves of the clips, and references; returns the lines."""
    rows = []
    found = sorted(path for path in (data / "videos").rglob("*") if path.suffix in (".mp4", ".mpg"))
    for number, path in enumerate(found):
        with open(path, "rb") as file, video.open_video(file) as opened:
            times = opened.times()
        begin, name = len(times) // 2, f"clip{number:02d}"
        wanted = [begin + each for each in media.spread(CLIP_FRAMES, len(times) - begin)]
        early = [len(times) // 16, len(times) // 4]
        kept = {}
        with open(path, "rb") as file, video.open_video(file) as opened:
            for place, (_, pixels) in enumerate(opened.frames()):
                if place in (*wanted, *early):
                    kept[place] = pixels
        frames = np.stack([kept[place] for place in wanted])
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
        (folder / "clips" / name).mkdir(parents=True, exist_ok=True)
        media.write_video(folder / "clips" / name / "0.mp4", even, FPS)
        for place in early:
            target = folder / "references" / name / f"{place}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(kept[place]).save(target)
            rows.append(f"references/{name}/{place}.png,{name}")
    return rows


if __name__ == "__main__":
    sys.exit(main())
