"""How often the reference check is right, on photographs that its thresholds were not set on.

    MMJAX_MEASURE=1 pytest -s tests/faces/test_reference_calibration.py

prints the figures that are quoted in `mmjax.faces.quality` and `mmjax.faces.reference_check`.
"""

import numpy as np
import pytest

from mmjax.faces import quality, reference_check
from mmjax.faces.detection import Face, align
from mmjax.faces.embeddings import unit
from tests.helpers import face_pictures as fp

pytestmark = [pytest.mark.measures, fp.needs_faces]

COUNT = 200  # photographs; others than those that thresholds were set on
VERSIONS = {
    "as it is": lambda picture, face: picture,
    "blurred by 1.5 pixels": lambda picture, face: fp.blurred(picture, face.landmarks, 1.5),
    "blurred by 2 pixels": lambda picture, face: fp.blurred(picture, face.landmarks, 2),
    "blurred by 3 pixels": lambda picture, face: fp.blurred(picture, face.landmarks, 3),
    "shaken by 12 pixels": lambda picture, face: fp.shaken(picture, face.landmarks, 12),
    "64 pixels": lambda picture, face: fp.shrunk(picture, face, 64),
    "40 pixels": lambda picture, face: fp.shrunk(picture, face, 40),
    "a blue mask": lambda picture, face: fp.masked(picture, face.landmarks, "blue"),
    "a black mask": lambda picture, face: fp.masked(picture, face.landmarks, "black"),
    "a white mask": lambda picture, face: fp.masked(picture, face.landmarks, "white"),
    "dark glasses": lambda picture, face: fp.dark_glasses(picture, face.landmarks),
    "a hand before the mouth": lambda picture, face: fp.hand_before_mouth(picture, face.landmarks),
    "half of the face covered": lambda picture, face: fp.half_covered(picture, face.landmarks),
}
KINDS = {"small": "pixels or more", "blurred": "blurred", "turned": "turned away", "mouth": "the mouth is"}
KINDS |= {"eyes": "the eyes are", "side": "one side of", "grey": "black and white"}
TOLD = {"blurred by 2 pixels": "blurred", "blurred by 3 pixels": "blurred", "shaken by 12 pixels": "blurred"}
TOLD |= {"64 pixels": "small", "40 pixels": "small", "dark glasses": "eyes", "half of the face covered": "side turned"}
TOLD |= {f"a {colour} mask": "mouth" for colour in ("blue", "black", "white")} | {"a hand before the mouth": "mouth"}
LEAST = {"dark glasses": 0.7, "shaken by 12 pixels": 0.7}  # others: 0.9


def photographs() -> list[tuple[np.ndarray, Face]]:
    """`COUNT` of LFW in which the detector finds a single face; the thresholds were set on none of them."""
    found = []
    for path in sorted(fp.LFW.glob("*/*.jpg"))[2::55]:
        picture = fp.read(path)
        faces = fp.tools().detect(picture)
        if len(faces) == 1:
            found.append((picture, faces[0]))
    return found[:COUNT]


def test_what_the_check_says_of_good_and_bad_pictures():
    told, cosines = {name: [] for name in VERSIONS}, {name: [] for name in VERSIONS}
    for picture, face in photographs():
        untouched = quality.measure(picture, face, fp.embed)[2]
        for name, make in VERSIONS.items():
            version = make(picture, face)
            faces = fp.tools().detect(version)
            if not faces:
                told[name].append(({"no face"}, True))
                continue
            figures, _, embedding = quality.measure(version, faces[0], fp.embed)
            cosines[name].append(unit(embedding) @ unit(untouched))
            found = list(quality.remarks(figures))
            kinds = {kind for kind, text in KINDS.items() if any(text in each.text for each in found)}
            told[name].append((kinds, any(each.severe for each in found)))
    rate = {}
    for name, rows in told.items():
        kinds = {kind: np.mean([kind in found for found, _ in rows]) for kind in (*KINDS, "no face")}
        rate[name] = kinds | {"refused": np.mean([severe for _, severe in rows])}
        shown = ", ".join(f"{kind} {value:.1%}" for kind, value in rate[name].items() if value)
        print(f"{len(rows)} photos, {name}: {shown}; cosine {np.mean(cosines[name]):.2f} to the untouched")
    assert len(told["as it is"]) == COUNT
    clean = rate["as it is"]
    assert clean["refused"] <= 0.02
    assert max(clean[kind] for kind in ("blurred", "mouth", "eyes", "side")) <= 0.02
    for name, kinds in TOLD.items():
        found = np.mean([bool(seen & {*kinds.split(), "no face"}) for seen, _ in told[name]])
        assert found >= LEAST.get(name, 0.9), (name, found)
    assert rate["40 pixels"]["refused"] >= 0.95 and rate["blurred by 3 pixels"]["refused"] >= 0.8


def test_portraits_are_let_through():
    people = [each for folder in (fp.PORTRAITS, fp.TIGHT) for each in sorted(folder.iterdir()) if each.is_dir()]
    checked = [
        each for person in people for each in reference_check.check_references(sorted(person.iterdir()), fp.tools())
    ]
    said = [warning for each in checked for warning in each.warnings if "black and white" not in warning]
    print(f"{len(checked)} portraits of {len(people)} people, none refused; said, but of black and white: {said}")
    assert len(checked) == 55 and len(said) <= 2


def test_how_often_two_photographs_are_taken_for_one_person():
    people = [folder for folder in sorted(fp.LFW.iterdir()) if folder.is_dir() and len(list(folder.iterdir())) > 1]
    embeddings, owners, several, turned = [], [], 0, []
    for number, folder in enumerate(people[::2]):
        for path in sorted(folder.glob("*.jpg"))[:2]:
            picture = fp.read(path)
            faces = fp.tools().detect(picture)
            several += len(faces) > 1 and faces[0].area < reference_check.CLEARLY_LARGEST * faces[1].area
            if len(faces) == 1:  # LFW does not say who of several it means
                embeddings.append(fp.embed(align(picture, faces[0].landmarks)[None])[0])
                turned.append(abs(quality.yaw(faces[0].landmarks)))
                owners.append(number)
    cosines, owners, turned = unit(embeddings) @ unit(embeddings).T, np.array(owners), np.array(turned)
    own, turned = owners[:, None] == owners, np.maximum(turned[:, None], turned)
    upper = np.triu(np.ones_like(own), 1)
    same, other = cosines[own & upper], cosines[~own & upper]
    for threshold in (0.15, 0.2, reference_check.SAME_PERSON, 0.25, 0.3, reference_check.SURELY_SAME):
        print(
            f"cosine {threshold}: {np.mean(same < threshold):.2%} of {len(same)} pairs of one person below, "
            f"{np.mean(other >= threshold):.4%} of {len(other)} pairs of two people above"
        )
    for low, high in ((0, 20), (20, 35), (35, 50), (50, 90)):
        found = cosines[own & upper & (turned >= low) & (turned < high)]
        if len(found):
            print(f"one of the two turned by {low} to {high} degrees: cosine {found.mean():.2f}, {len(found)} pairs")
    print(f"several faces of like size in {several} of {2 * len(people[::2])} photos")
    assert np.mean(same < reference_check.SAME_PERSON) < 0.015  # of the six pairs two look like two people
    assert np.mean(other >= reference_check.SAME_PERSON) < 0.002
