"""Drawn people: who they are, and how they look on one picture.

A person is an identity vector: one number in [-1, 1] for each trait of `TRAITS`, and nothing else. Everything that
changes between two pictures of the same person (pose, expression, light, clothes, place) is a `Looks`. The pictures
themselves are drawn by `mmjax.synthetic.drawing`; the split between both records is what lets a model be asked for a
*person* in a *new* situation.

Training and held-out people come from disjoint ranges of person numbers, so nobody is ever in both splits. NumPy
only: this module runs in data workers.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from mmjax.encoders.labels import IDENTITY_DIM

TRAITS = (
    *("gender", "child", "face_width", "face_length", "jaw", "skin_tone", "skin_warmth"),
    *("hair_red", "hair_green", "hair_blue", "hair_length", "hair_volume", "fringe", "parting"),
    *("eye_colour", "eye_size", "eye_spacing", "brow", "nose", "mouth_width", "lips"),
    *("glasses", "beard", "moustache"),
)
HELD_OUT_START = 1_000_000  # person numbers from here on are held out, those below may be trained on
BALD = -0.7  # hair_length below this is no hair

HAIR_COLOURS = np.array(
    [
        *((30, 24, 24), (62, 38, 26), (104, 64, 36), (156, 104, 58), (222, 184, 108), (244, 222, 166)),
        *(
            (178, 74, 34),
            (206, 96, 44),
            (150, 150, 156),
            (236, 236, 238),
            (44, 130, 150),
            (222, 108, 160),
            (112, 76, 176),
        ),
    ]
)
CLOTHES = {
    "red": (196, 54, 52), "blue": (52, 92, 186), "green": (54, 140, 84), "yellow": (236, 190, 66),
    "white": (236, 234, 228), "black": (46, 46, 54), "pink": (230, 132, 164), "purple": (124, 84, 172),
    "orange": (232, 128, 54),
}  # fmt: skip
WALLS = {
    "blue": (128, 172, 216), "green": (146, 192, 146), "yellow": (240, 216, 138), "pink": (238, 186, 192),
    "grey": (176, 178, 184), "orange": (240, 176, 120), "purple": (178, 158, 208), "white": (232, 230, 224),
}  # fmt: skip
PLACES = ("wall", "striped wall", "beach", "park", "city", "sunset")
_PLACE_WORDS = {"beach": "on a beach", "park": "in a park", "city": "in a city at night", "sunset": "at sunset"}


@dataclasses.dataclass(frozen=True)
class Looks:
    """How N pictures are taken. Arrays have a leading axis N; angles in radians, lengths in half short sides.

    yaw > 0 turns the face to the viewer's right, pitch > 0 down, roll > 0 clockwise. `eyes` is 1 open, 0 closed.
    """

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    x: np.ndarray  # head centre, right of the picture's centre
    y: np.ndarray  # below it
    scale: np.ndarray  # half height of the head
    smile: np.ndarray  # -0.5 sad .. 1 smiling
    mouth: np.ndarray  # 0 closed .. 1 wide open
    eyes: np.ndarray
    gaze: np.ndarray  # -1 left .. 1 right
    light: np.ndarray  # [N, 3]: direction x, y of the light, and its warmth -1..1
    place: np.ndarray  # [N] index into PLACES
    wall: np.ndarray  # [N, 3] RGB 0..255
    clothes: np.ndarray  # [N, 3] RGB 0..255
    layout: np.ndarray  # [N, 4] uniform 0..1: where things in the background are

    def __len__(self) -> int:
        return len(self.yaw)

    def select(self, index) -> "Looks":
        """The pictures at `index` (anything that indexes an array's first axis)."""
        return Looks(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})

    @staticmethod
    def concatenate(parts: "list[Looks]") -> "Looks":
        names = [f.name for f in dataclasses.fields(Looks)]
        return Looks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def trait(identity: Float[np.ndarray, "*n k"], name: str) -> Float[np.ndarray, "*n"]:
    """One trait, a number in [-1, 1], of identity vectors."""
    return identity[..., TRAITS.index(name)]


def person_number(split: str, index: int) -> int:
    """The number of the index-th person of "train" or "validation"; the two ranges never meet."""
    if not 0 <= index < HELD_OUT_START:
        raise ValueError(f"person index {index}: expected 0 .. {HELD_OUT_START - 1}")
    return index + {"train": 0, "validation": HELD_OUT_START}[split]


def person_name(number: int) -> str:
    return f"drawn-{number:07d}"


def make_identity(number: int) -> Float[np.ndarray, " k"]:
    """The identity vector, float32 in [-1, 1], of person `number`; the same for the same number, always.

    Traits hang together the way they do in a street: beards and moustaches grow on men, women wear their hair longer
    more often, and children have rounder faces. Yes-or-no traits sit at -1 and 1, so a little noise does not flip them.
    """
    rng = np.random.default_rng([20250106, number])
    traits = dict(zip(TRAITS, rng.uniform(-1, 1, IDENTITY_DIM), strict=True))
    woman, child = rng.random() < 0.5, rng.random() < 0.15
    traits["gender"], traits["child"] = (1.0 if woman else -1.0), (1.0 if child else -1.0)
    colour = HAIR_COLOURS[rng.integers(10 if child else len(HAIR_COLOURS))] + rng.normal(0, 6, 3)
    for name, value in zip(("hair_red", "hair_green", "hair_blue"), colour, strict=True):
        traits[name] = value / 127.5 - 1
    traits["hair_length"] = (
        rng.uniform(-0.1, 1) if woman else rng.choice([rng.uniform(-0.5, 0), rng.uniform(0, 0.7)], p=[0.75, 0.25])
    )
    bald = not (woman or child) and rng.random() < 0.18
    if bald:
        traits["hair_length"] = -1.0
    traits["glasses"] = 1.0 if rng.random() < 0.3 else -1.0
    grown_man = not (woman or child)
    traits["beard"] = rng.uniform(0.2, 1) if grown_man and rng.random() < 0.4 else -1.0
    traits["moustache"] = 1.0 if grown_man and (traits["beard"] > 0.6 or rng.random() < 0.2) else -1.0
    traits["lips"] = rng.uniform(0, 1) if woman else rng.uniform(-1, 0)
    return np.clip([traits[name] for name in TRAITS], -1, 1).astype(np.float32)


def class_word(identity: Float[np.ndarray, " k"]) -> str:
    """man, woman, boy or girl: the word that the prompt carries before the trigger."""
    grown, young = ("woman", "girl") if trait(identity, "gender") > 0 else ("man", "boy")
    return young if trait(identity, "child") > 0 else grown


def portrait_looks(rng: np.random.Generator, count: int) -> Looks:
    """Looks of reference pictures: the head fills the picture, faces the viewer more or less, before a plain wall."""
    looks = _still(rng, count)
    return dataclasses.replace(
        looks,
        yaw=looks.yaw * 0.5,
        pitch=looks.pitch * 0.6,
        roll=looks.roll * 0.5,
        x=looks.x * 0.4,
        y=rng.uniform(-0.06, 0.04, count),
        scale=rng.uniform(0.68, 0.76, count),
        mouth=looks.mouth * (rng.random(count) < 0.3),
        eyes=np.ones(count),
        place=np.zeros(count, int),
    )


def picture_looks(rng: np.random.Generator, count: int) -> tuple[Looks, list[str]]:
    """Looks of scenes, and what is to be seen on each ("in red smiling and looking left on a beach")."""
    looks, colours, walls = _scene(rng, count)
    words = [_describe(looks.select([i]), colours[i], walls[i]) for i in range(count)]
    return looks, words


def clip_looks(rng: np.random.Generator, frames: int) -> tuple[Looks, str]:
    """Looks of the frames of one clip, and its words: the head moves smoothly, the mouth opens, the eyes blink."""
    start, colours, walls = _scene(rng, 1)
    looks = start.select(np.zeros(frames, int))
    time = np.linspace(0, 1, frames)
    sway = np.sin(2 * np.pi * (rng.uniform(0.4, 0.9) * time + rng.random()))
    nod = np.sin(2 * np.pi * (rng.uniform(0.5, 1.2) * time + rng.random()))
    action = rng.choice(["talking", "turning", "nodding", "smiling"])
    turn = 0.5 * rng.choice([-1, 1]) * _ease(time) if action == "turning" else 0.22 * sway
    mouth = (
        np.abs(np.sin(2 * np.pi * (rng.uniform(1, 2) * time + rng.random())))
        if action == "talking"
        else 0.12 * (1 + nod)
    )
    blink = np.exp(-(((time - rng.uniform(0.2, 0.8)) / 0.07) ** 2))
    looks = dataclasses.replace(
        looks,
        yaw=np.clip((0.3 if action == "turning" else 0.7) * looks.yaw + turn, -0.75, 0.75),
        pitch=0.5 * looks.pitch + (0.22 if action == "nodding" else 0.05) * nod,
        roll=looks.roll + 0.05 * sway,
        x=looks.x + 0.05 * sway,
        y=looks.y + 0.02 * nod,
        smile=0.2 + 0.8 * _ease(time) if action == "smiling" else 0.5 * looks.smile,
        mouth=mouth,
        eyes=1 - blink,
    )
    left_or_right = " left" if turn[-1] < turn[0] else " right"
    doing = str(action) + (left_or_right if action == "turning" else "")
    return looks, f"in {colours[0]} {doing} {_where(looks, walls[0])}"


def caption(identity: Float[np.ndarray, " k"], words: str) -> str:
    """The prompt for what `words` say. Beside the class word nothing in it tells who the person is."""
    return f"A {class_word(identity)} img {words}"


def _still(rng, count) -> Looks:
    def normal(sd, limit):
        return np.clip(rng.normal(0, sd, count), -limit, limit)

    walls, clothes = np.array(list(WALLS.values())), np.array(list(CLOTHES.values()))
    return Looks(
        yaw=normal(0.33, 0.7),
        pitch=normal(0.13, 0.3),
        roll=normal(0.09, 0.22),
        x=normal(0.08, 0.18),
        y=rng.uniform(-0.12, 0.08, count),
        scale=rng.uniform(0.56, 0.70, count),
        smile=rng.choice([-0.35, 0.1, 0.9], count, p=[0.15, 0.4, 0.45]) + normal(0.06, 0.1),
        mouth=rng.choice([0.0, 0.8], count, p=[0.65, 0.35]) * rng.uniform(0.6, 1, count),
        eyes=(rng.random(count) > 0.1).astype(float),
        gaze=normal(0.4, 1),
        light=np.stack([rng.uniform(-1, 1, count), rng.uniform(-1, -0.1, count), rng.uniform(-1, 1, count)], -1),
        place=np.zeros(count, int),
        wall=walls[rng.integers(len(walls), size=count)].astype(float),
        clothes=clothes[rng.integers(len(clothes), size=count)].astype(float),
        layout=rng.random((count, 4)),
    )


def _scene(rng, count) -> tuple[Looks, list[str], list[str]]:
    colours, walls = rng.choice(list(CLOTHES), count), rng.choice(list(WALLS), count)
    looks = dataclasses.replace(
        _still(rng, count),
        place=rng.choice(len(PLACES), count, p=[0.4, 0.12, 0.12, 0.12, 0.12, 0.12]),
        wall=np.array([WALLS[name] for name in walls], float),
        clothes=np.array([CLOTHES[name] for name in colours], float),
    )
    return looks, list(colours), list(walls)


def _describe(looks: Looks, colour: str, wall: str) -> str:
    smile, mouth = looks.smile[0], looks.mouth[0]
    mood = "laughing" if smile > 0.5 and mouth > 0.4 else "smiling" if smile > 0.5 else "talking" if mouth > 0.4 else ""
    mood = mood or ("sad" if smile < -0.2 else "serious")
    turn = " and looking left" if looks.yaw[0] < -0.3 else " and looking right" if looks.yaw[0] > 0.3 else ""
    shut = " with eyes closed" if looks.eyes[0] < 0.5 and not turn else ""
    return f"in {colour} {mood}{turn}{shut} {_where(looks, wall)}"


def _where(looks: Looks, wall: str) -> str:
    place = PLACES[looks.place[0]]
    article = "an" if place == "wall" and wall[0] in "aeiou" else "a"
    return _PLACE_WORDS.get(place) or f"in front of {article} {'striped ' * (place == 'striped wall')}{wall} wall"


def _ease(time):
    return time * time * (3 - 2 * time)
