"""The reference check: are these pictures fit to show one person? Asked before anything slow starts.

    tools = FaceTools(load_detector("models/antelopev2"), embed)
    for reference in check_references(["a.jpg", "b.jpg"], tools):
        print(*reference.warnings, sep="\\n")

A picture is refused when it cannot be read, when no face is found in it, or several without one that is clearly the
largest; and, unless `strict` is off, when its only face is too small, too blurred or turned too far to recognise
anybody (`mmjax.faces.quality`). Pictures of several people are refused together. One that does not stand upright is
turned (`mmjax.faces.upright`). That and everything else is a warning.

Two pictures are taken to show one person when the cosine of their embeddings is at least `SAME_PERSON`, directly or
over a third picture. Measured with w600k_mbf on LFW, single faces of 840 people: 1.0 % of 585 pairs of one person are
refused (6 pairs, of which two look like two people's), 0.16 % of 955,068 pairs of two people pass; under `SURELY_SAME`,
where a warning is given, lie 2.7 % and 99.9995 %
(`MMJAX_MEASURE=1 pytest -s tests/faces/test_reference_calibration.py`).
LFW's are press photographs, and 14 % of them show several faces of like size.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import pictures
from mmjax.errors import DataError
from mmjax.faces.detection import Face
from mmjax.faces.embeddings import cosine_similarity
from mmjax.faces.quality import Embed, Quality, Remark, measure, remarks
from mmjax.faces.upright import find_upright
from mmjax.media import Picture

SAME_PERSON, SURELY_SAME = 0.22, 0.35  # cosine; between them a warning
CLEARLY_LARGEST = 4.0  # area of the largest face by that of the next one


@dataclasses.dataclass(frozen=True)
class FaceTools:
    """What the check works with: a detector, and a recogniser of aligned faces."""

    detect: Callable[[UInt8[np.ndarray, "h w 3"]], list[Face]]
    embed: Embed


@dataclasses.dataclass(frozen=True, eq=False)
class CheckedReference:
    """A reference that may be used. `warnings` are whole sentences, each naming the picture.

    picture: upright (`mmjax.faces.upright`); `face` is where it is in that.
    """

    name: str
    picture: UInt8[np.ndarray, "h w 3"]
    face: Face
    aligned: UInt8[np.ndarray, "112 112 3"]
    embedding: Float[np.ndarray, " width"]  # raw
    quality: Quality
    warnings: tuple[str, ...]


def check_references(pictures: Sequence[Picture], tools: FaceTools, strict: bool = True) -> list[CheckedReference]:
    """Finds, measures and compares the faces of one person's reference pictures.

    Args:
      pictures: files, or pictures in memory.
      strict: refuse faces that are too small, too blurred or turned too far; otherwise warn of them too.

    Returns:
      one entry for each picture, in their order, with warnings.

    Raises:
      DataError: names every picture that is refused, each with what was expected, what was found and what to do.
    """
    if not pictures:
        raise DataError("references: expected a picture or more, found none; give one")
    checked: list[CheckedReference] = []
    refused: list[str] = []
    for number, picture in enumerate(pictures, 1):
        name = f"picture {number} in memory" if isinstance(picture, Image.Image) else str(picture)
        try:
            checked.append(_check(picture, name, tools, strict))
        except DataError as error:
            refused.append(str(error))
    if refused:
        raise DataError.of_several(refused, len(pictures))
    return _one_person(checked)


def _check(picture: Picture, name: str, tools: FaceTools, strict: bool) -> CheckedReference:
    image = pictures.to_rgb(picture) if isinstance(picture, Image.Image) else pictures.read_picture(picture)
    upright = find_upright(np.asarray(image), tools.detect)
    pixels = upright.picture
    face, notes = _main_face(upright.faces, name, image.size)
    if upright.remark:
        notes = [Remark(upright.remark), *notes]
    quality, aligned, embedding = measure(pixels, face, tools.embed)
    found = [*notes, *remarks(quality)]
    severe = [each.text for each in found if each.severe and strict]
    if severe:
        raise DataError(f"reference {name}: " + ". Also ".join(severe))
    warnings = tuple(f"reference {name}: {each.text}" for each in found)
    return CheckedReference(name, pixels, face, aligned, embedding, quality, warnings)


def _main_face(faces: list[Face], name: str, size: tuple[int, int]) -> tuple[Face, list[Remark]]:
    """The face that a picture is about, with a note where there are others. Raises `DataError`."""
    if not faces:
        raise DataError(
            f"reference {name}: expected a face, found none in {size[0]}x{size[1]} pixels; use an upright photograph "
            "in which the face is large and not covered"
        )
    largest, *others = faces
    if not others:
        return largest, []
    if largest.area < CLEARLY_LARGEST * others[0].area:
        boxes = "; ".join("{:.0f},{:.0f} to {:.0f},{:.0f}".format(*face.box) for face in faces[:6])
        more = ", ..." if len(faces) > 6 else ""
        raise DataError(
            f"reference {name}: expected one person, found {len(faces)} faces of like size (boxes from x,y to x,y: "
            f"{boxes}{more}); cut the picture to the person who is meant"
        )
    count = len(faces)
    return largest, [Remark(f"{count} faces; the largest is taken, cut the picture if another person is meant")]


def _one_person(checked: list[CheckedReference]) -> list[CheckedReference]:
    """Refuses several people, and adds warnings where it is not sure. Raises `DataError`."""
    if len(checked) == 1:
        return checked
    embeddings = np.stack([each.embedding for each in checked])
    cosines = cosine_similarity(embeddings, embeddings)
    np.fill_diagonal(cosines, -1)
    groups = _groups(cosines >= SAME_PERSON)
    if len(groups) > 1:
        people = "; ".join(f"person {n}: {_names(checked, group)}" for n, group in enumerate(groups, 1))
        nearest = max(cosines[i, j] for a in groups for b in groups if a is not b for i in a for j in b)
        raise DataError(
            f"references: expected pictures of one person, found {len(groups)} people ({people}); their embeddings "
            f"have a cosine of {nearest:.2f} at most, one person's {SAME_PERSON} or more; keep one person's pictures"
        )
    warned = []
    for reference, nearest in zip(checked, cosines.max(axis=1), strict=True):
        text = (
            f"reference {reference.name}: perhaps another person than the rest: its embedding has a cosine of "
            f"{nearest:.2f} to the most similar one, one person's mostly {SURELY_SAME} or more; look at it again"
        )
        doubt = (text,) if nearest < SURELY_SAME else ()
        warned.append(dataclasses.replace(reference, warnings=(*reference.warnings, *doubt)))
    return warned


def _groups(linked: np.ndarray) -> list[list[int]]:
    """Pictures that links join, directly or over others; groups in the order of their first picture."""
    groups: list[list[int]] = []
    for index in range(len(linked)):
        joined = [group for group in groups if any(linked[index, other] for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append(sorted([index, *(other for group in joined for other in group)]))
    return sorted(groups)


def _names(checked: list[CheckedReference], group: list[int]) -> str:
    return ", ".join(checked[index].name for index in group)
