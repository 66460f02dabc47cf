"""Draws people: identity vectors and `Looks` in, pictures, face masks, boxes and landmarks out.

The head is a ball squeezed into the face's outline. Every pixel of the head is carried back to the ball's own,
unturned coordinates; there the features (eyes, brows, mouth, beard, hairline) are flat shapes given by signed
distances, so that they foreshorten properly when the head turns and their edges are smooth at any size. All pictures
of a call are drawn together, as arrays; NumPy only, for data workers.

Head units: 1 is about half the head's height; x grows to the right, y down.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.synthetic.backgrounds import paint_background
from mmjax.synthetic.people import BALD, Looks, trait

DRAWING_VERSION = 1  # raise it when pictures change, so that prepared data is made anew
_CHUNK = 48 * 1024  # pixels drawn at once: the arrays of one layer stay in the processor's cache
_SKIN = np.array(
    [(255, 222, 198), (244, 200, 166), (226, 172, 130), (192, 132, 92), (142, 90, 60), (92, 58, 42)], float
)
_IRIS = np.array([(74, 44, 26), (112, 74, 36), (92, 120, 62), (82, 138, 176), (112, 156, 206)], float)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """N pictures of h x w pixels with their ground truth."""

    pixels: UInt8[np.ndarray, "n h w 3"]
    mask: Float[np.ndarray, "n h w"]  # the head's share of each pixel, 0..1
    boxes: Float[np.ndarray, "n 4"]  # x0 y0 x1 y1 of the head, pixels, inside the picture
    landmarks: Float[np.ndarray, "n 5 2"]  # eyes (viewer's left, right), nose, mouth corners (left, right): x, y pixels


def draw(identity: Float[np.ndarray, "n k"], looks: Looks, height: int, width: int) -> Drawing:
    """Draws one picture for each identity vector and look.

    Args:
      identity: [N, K] traits in [-1, 1] (`people.make_identity`), one row a picture.
      looks: N looks.
      height, width: of the pictures, pixels.
    """
    step = max(1, _CHUNK // (height * width))
    parts = [
        _draw(identity[i : i + step], looks.select(slice(i, i + step)), height, width)
        for i in range(0, len(looks), step)
    ]
    names = [f.name for f in dataclasses.fields(Drawing)]
    return Drawing(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _draw(identity, looks, height, width) -> Drawing:
    face = _Face(identity, looks)
    canvas = _Canvas(paint_background(looks, height, width))
    view = _View(face, looks, height, width)
    _paint_body(canvas, face, view, looks)
    mask = _paint_head(canvas, face, view)
    _paint_features(canvas, face, view, looks)
    hair = _paint_hair(canvas, face, view)
    _paint_glasses(canvas, face, view)
    canvas.colour *= 1 + looks.light[:, 2].astype(np.float32)[:, None, None, None] * _rgb(0.06, 0.0, -0.08)
    pixels = np.clip(canvas.colour.transpose(0, 2, 3, 1) + 0.5, 0, 255).astype(np.uint8)
    mask = np.maximum(mask, hair * (view.radius < 1.15))
    return Drawing(pixels, mask.astype(np.float32), *_geometry(face, looks, height, width))


class _Face:
    """What the traits mean, as arrays [N, 1, 1] ready to meet pixels."""

    def __init__(self, identity, looks):
        def t(name, low, high):
            return (low + (high - low) * (trait(identity, name) + 1) / 2).astype(np.float32)[:, None, None]

        child = t("child", 0, 1)
        self.half_width = t("face_width", 0.66, 0.84) + 0.04 * child
        self.half_height = t("face_length", 0.92, 1.06) - 0.08 * child
        self.jaw = t("jaw", -0.16, 0.16) - t("gender", -0.04, 0.06)
        self.skin = _mix(_SKIN, t("skin_tone", 0, 1)) + t("skin_warmth", -1, 1)[:, None] * _rgb(8, 0, -10)
        hair = [t(name, 0, 255) for name in ("hair_red", "hair_green", "hair_blue")]
        self.hair = np.stack(hair, 1)
        self.has_hair = (t("hair_length", -1, 1) > BALD).astype(np.float32)
        length = t("hair_length", -1, 1)
        self.hair_end = 0.28 + 1.5 * np.clip(length, -0.3, 1)  # how far down it falls, head units
        self.hair_radius = 1.05 + t("hair_volume", 0.0, 0.22)
        self.hairline = t("fringe", -0.78, -0.36)
        self.parting = t("parting", -0.2, 0.2)
        self.eye_x = t("eye_spacing", 0.25, 0.36)
        self.eye_y = 0.02 + 0.1 * child
        self.eye = t("eye_size", 0.105, 0.155) + 0.02 * child
        self.iris = _mix(_IRIS, t("eye_colour", 0, 1))
        self.brow = t("brow", 0.016, 0.055) * (1 - 0.3 * child)
        self.nose = t("nose", 0.07, 0.14) * (1 - 0.2 * child)
        self.mouth = t("mouth_width", 0.19, 0.32) * (1 - 0.1 * child)
        self.mouth_y = 0.55 + 0.02 * child
        lips = t("lips", 0, 1)[:, None]
        self.lips = self.skin * (0.78 - 0.1 * lips) + lips * _rgb(56, -12, 2)
        self.glasses = (t("glasses", -1, 1) > 0).astype(np.float32)
        self.beard = np.clip(t("beard", -1.4, 1.6), 0, 0.96) * (t("beard", -1, 1) > 0)
        self.moustache = (t("moustache", -1, 1) > 0).astype(np.float32)
        self.smile = looks.smile.astype(np.float32)[:, None, None]
        self.open = looks.mouth.astype(np.float32)[:, None, None]
        self.eyes_open = np.clip(looks.eyes, 0.06, 1).astype(np.float32)[:, None, None]
        self.mouth_lift = 0.11 * self.smile


class _View:
    """Every pixel's place: on the upright body, in the head's outline, and on the unturned head."""

    def __init__(self, face, looks, height, width):
        short = min(height, width)
        column = ((np.arange(width, dtype=np.float32) + 0.5) * 2 - width) / short
        row = ((np.arange(height, dtype=np.float32) + 0.5) * 2 - height) / short
        scale, x, y = _column(looks.scale), _column(looks.x), _column(looks.y)
        self.body_x = (column[None, None, :] - x) / scale
        self.body_y = (row[None, :, None] - y) / scale
        self.pixel = 2 / short / scale  # one pixel in head units
        cos, sin = np.cos(_column(looks.roll)), np.sin(_column(looks.roll))
        u, v = cos * self.body_x + sin * self.body_y, cos * self.body_y - sin * self.body_x
        self.v = v
        self.y = v / face.half_height
        self.x = u / (face.half_width * _outline(self.y, face.jaw))
        self.radius = np.sqrt(self.x**2 + self.y**2)
        self.turn = _Turn(looks)
        self.face_x, self.face_y, self.face_z = self.turn.back(self.x, self.y, 1.0)
        self.depth = np.sqrt(np.maximum(0, 1 - self.radius**2))
        self.fx, self.fy = self.face_x * face.half_width, self.face_y * face.half_height  # head units, unturned
        light_x, light_y = _column(looks.light[:, 0]), _column(looks.light[:, 1])
        lit = 0.80 + 0.22 * self.depth + 0.13 * (self.x * light_x + self.y * light_y)
        self.shade = lit[:, None]  # light from one side above multiplies the skin's colour
        self.front = np.clip(self.face_z * 6, 0, 1) * (self.radius < 1.02)


class _Turn:
    """The head's yaw and pitch, both ways."""

    def __init__(self, looks):
        self.yaw_cos, self.yaw_sin = np.cos(_column(looks.yaw)), np.sin(_column(looks.yaw))
        self.pitch_cos, self.pitch_sin = np.cos(_column(looks.pitch)), np.sin(_column(looks.pitch))

    def back(self, x, y, radius):
        """From the picture onto the unturned ball of that radius: canonical x, y, z in units of the radius."""
        x, y = x / radius, y / radius
        z = np.sqrt(np.maximum(0, 1 - x * x - y * y))
        across = x * self.yaw_sin + z * self.yaw_cos
        return (
            x * self.yaw_cos - z * self.yaw_sin,
            y * self.pitch_cos - across * self.pitch_sin,
            y * self.pitch_sin + across * self.pitch_cos,
        )

    def forth(self, x, y, z):
        """From the unturned ball to the turned one: x, y in the picture, z towards the viewer."""
        y, z = y * self.pitch_cos + z * self.pitch_sin, z * self.pitch_cos - y * self.pitch_sin
        return x * self.yaw_cos + z * self.yaw_sin, y, z * self.yaw_cos - x * self.yaw_sin


class _Canvas:
    """Colour planes [N, 3, H, W], 0..255, painted layer over layer."""

    def __init__(self, colour):
        self.colour = colour

    def over(self, colour, alpha):
        """Lays `colour` (broadcast to [N, 3, H, W]) over the canvas with opacity `alpha` [N, H, W]."""
        self.colour += (colour - self.colour) * alpha[:, None]


def _paint_body(canvas, face, view, looks):
    """Hair that falls behind the neck, the neck, and the shoulders."""
    x, y, soft = view.body_x, view.body_y, view.pixel
    back = x + 0.15 * view.turn.yaw_sin
    wide = face.half_width * face.hair_radius
    end = face.hair_end
    fall = _box(back, y - 0.5 * (end - 0.4), wide, 0.5 * (end + 0.4), 0.3)
    canvas.over(face.hair * 0.72, _cover(fall, soft) * face.has_hair * np.clip((end - 0.35) * 6, 0, 1))
    neck = _box(x + 0.06 * view.turn.yaw_sin, y - 1.0, 0.30 + 0.1 * (face.half_width - 0.66), 0.6, 0.1)
    canvas.over(face.skin * 0.8, _cover(neck, soft))
    shoulders = _ellipse(x, y - 2.0, 1.28, 0.86)
    collar = _ellipse(x + 0.06 * view.turn.yaw_sin, y - 1.12, 0.36, 0.20)
    cloth = looks.clothes.astype(np.float32)[:, :, None, None]
    shade = 1 - 0.16 * np.clip(np.abs(x) - 0.5, 0, 1)[:, None]
    canvas.over(cloth * shade, _cover(np.maximum(shoulders, -collar), soft))


def _paint_head(canvas, face, view):
    """Ears and the skin of the head, lit from one side. Returns the head's coverage."""
    soft = view.pixel / 0.87
    shade = view.shade
    ears = [(view.turn.forth(side, 0.14, 0.0)) for side in (-1.0, 1.0)]
    covers = [
        _cover(_ellipse((view.x - ex) * face.half_width, (view.y - ey) * face.half_height, 0.1, 0.17), view.pixel)
        for ex, ey, _ in ears
    ]
    for cover in covers:
        canvas.over(face.skin * 0.88 * shade, cover)
    head = _cover(view.radius - 1, soft)
    canvas.over(face.skin * shade, head)
    for cover, (_, _, ez) in zip(covers, ears, strict=True):
        canvas.over(face.skin * 0.86 * shade, cover * np.clip(ez * 4 - 0.3, 0, 1))
    return head


def _paint_features(canvas, face, view, looks):
    """Blush, beard, mouth, nose, eyes and brows, in that order."""
    x, y, soft, front = view.fx, view.fy, view.pixel, view.front
    side = np.abs(x)
    blush = np.exp(-(((side - 0.43) / 0.17) ** 2 + ((y - 0.3) / 0.13) ** 2) * 1.2)
    canvas.over(face.skin * 0.9 + _rgb(40, -16, -8), 0.42 * blush * front)
    _paint_beard(canvas, face, view, side)
    _paint_mouth(canvas, face, view)
    _paint_nose(canvas, face, view)
    _paint_eyes(canvas, face, view, looks, side)
    arch = face.eye_y - 0.235 - 0.04 * np.clip(1 - np.abs(side - face.eye_x) / 0.2, 0, 1) - 0.02 * face.open
    brow = np.maximum(np.abs(y - arch) - face.brow, np.abs(side - face.eye_x) - 0.16)
    canvas.over(face.hair * 0.62, 0.92 * _cover(brow, soft) * front)


def _paint_beard(canvas, face, view, side):
    y, soft = view.fy, view.pixel
    cheeks = _ellipse(view.fx, y + 0.02, face.half_width * 0.80, 0.47)
    grown = np.maximum(-cheeks, 0.05 - y)
    jaw = _cover(view.radius - 1.05, soft) * np.clip(view.face_z * 6 + 1, 0, 1)
    canvas.over(face.hair * 0.86 * view.shade, face.beard * jaw * _cover(grown, 0.06 + soft))
    upper = _ellipse(side - 0.11, y - face.mouth_y + 0.12 - 0.25 * (side - 0.11), 0.15, 0.05)
    canvas.over(face.hair * 0.8, 0.94 * face.moustache * _cover(upper, soft) * view.front)


def _paint_mouth(canvas, face, view):
    x, soft, front = view.fx, view.pixel, view.front
    wide = face.mouth * (1 + 0.18 * np.maximum(face.smile, 0) - 0.2 * face.open)
    across = np.clip(x / wide, -1.3, 1.3)
    y = view.fy - face.mouth_y + face.mouth_lift * (across**2 - 0.35) - 0.05 * face.open
    lips = _ellipse(x, y, wide, 0.05 + 0.15 * face.open)
    canvas.over(face.lips * view.shade, _cover(lips, soft) * front)
    inside = _ellipse(x, y, wide * 0.84, 0.010 + 0.125 * face.open)
    gap = _cover(inside, soft) * front
    canvas.over(_rgb(88, 26, 30), gap)
    teeth = _cover(y + 0.045 * face.open, soft) * gap * np.clip(face.open * 3, 0, 1)
    canvas.over(_rgb(248, 244, 238), teeth)
    tongue = _ellipse(x, y - 0.11 * face.open, wide * 0.5, 0.06 * face.open + 1e-3)
    canvas.over(_rgb(206, 92, 92), _cover(tongue, soft) * gap * np.clip(face.open * 3 - 0.5, 0, 1))


def _paint_nose(canvas, face, view):
    """The nose stands out of the ball, so it moves further than the face when the head turns."""
    tip_x, tip_y, _ = view.turn.forth(0.0, 0.27, 0.96)
    x, y = (view.x - 1.14 * tip_x) * face.half_width, (view.y - 1.04 * tip_y) * face.half_height
    soft = view.pixel
    wing = _ellipse(np.abs(x) - face.nose * 0.62, y - 0.015, face.nose * 0.5, 0.055)
    canvas.over(face.skin * 0.76 * view.shade, 0.75 * _cover(wing, soft))
    bridge_x, _, _ = view.turn.forth(0.0, -0.1, 1.0)
    lean = (1.14 * tip_x - bridge_x) * face.half_width
    ridge = _box(x + lean * np.clip(-y / 0.36, 0, 1) * 1.0, y + 0.16, face.nose * 0.42, 0.2, 0.04)
    canvas.over(face.skin * 1.05 * view.shade, 0.5 * _cover(ridge, soft + 0.03))
    tip = _ellipse(x, y, face.nose * 0.85, 0.072)
    canvas.over(face.skin * 1.02 * view.shade, _cover(tip, soft) * 0.9)
    under = np.maximum(_ellipse(x, y, face.nose * 0.9, 0.085), 0.03 - y)
    canvas.over(face.skin * 0.66, 0.7 * _cover(under, soft))


def _paint_eyes(canvas, face, view, looks, side):
    y, soft, front = view.fy - face.eye_y, view.pixel, view.front
    x = np.sign(view.fx) * (side - face.eye_x)
    lid = face.eye * 0.82 * face.eyes_open
    eye = _ellipse(x, y, face.eye * 1.12, lid)
    white = _cover(eye, soft) * front
    canvas.over(_rgb(250, 249, 246), white)
    gx = x - 0.035 * _column(looks.gaze)
    iris = np.sqrt(gx**2 + y**2)
    canvas.over(face.iris, white * _cover(iris - face.eye * 0.62, soft))
    canvas.over(_rgb(22, 18, 20), white * _cover(iris - face.eye * 0.32, soft))
    glint = np.sqrt((gx + face.eye * 0.24) ** 2 + (y + face.eye * 0.26) ** 2) - face.eye * 0.17
    canvas.over(_rgb(255, 255, 255), white * _cover(glint, soft))
    thick = 0.017
    lash = np.maximum(np.maximum(np.abs(eye) - thick, y - 0.25 * lid - 0.006), np.abs(x) - 1.2 * face.eye)
    canvas.over(_rgb(40, 28, 28), 0.85 * _cover(lash, soft) * front)


def _paint_hair(canvas, face, view):
    """Hair lies on the head and stands off it by its volume, with a window for the face. Returns its coverage."""
    lifted = np.hypot(view.x, view.y + 0.05)
    x, y, z = view.turn.back(view.x, view.y, np.maximum(1, view.radius))
    short = 1 - np.clip((face.hair_end - 0.35) * 5, 0, 1)
    taper = (1 - short * np.clip((y - face.hair_end + 0.55) / 0.5, 0, 1)) * (1 - np.clip((view.y - 0.4) / 0.4, 0, 1))
    ball = lifted - 1 - (face.hair_radius - 1) * taper
    line = face.hairline + face.parting * x + 0.12 * x * x
    window = np.where(y < 0.5, _ellipse(x, y - 0.5, 0.86 + 0.06 * short, 0.5 - line), np.abs(x) - 0.86)
    window = np.where(z > -0.1, window, 1.0)
    low = (y * face.half_height - np.minimum(face.hair_end, 0.3 + 0.7 * (1 - short))) + 0.08 * short * z
    cover = _cover(np.maximum(ball, np.maximum(-window, low)), view.pixel / 0.87) * face.has_hair
    gloss = 0.86 + 0.30 * np.exp(-(((y + 0.62 - 0.2 * x) / 0.2) ** 2)) + 0.05 * np.sin(26 * (x + 0.35 * y * np.sign(x)))
    canvas.over(face.hair * (gloss * (0.6 + 0.4 * view.shade[:, 0]))[:, None], cover)
    return cover


def _paint_glasses(canvas, face, view):
    side, soft = np.abs(view.fx), view.pixel
    y = view.fy - face.eye_y - 0.01
    lens = _ellipse(side - face.eye_x, y, 0.215, 0.185)
    rim = np.abs(lens) - 0.021
    bridge = np.maximum(side - (face.eye_x - 0.2), np.abs(y + 0.03) - 0.02)
    temple = np.maximum(face.eye_x + 0.2 - side, np.abs(y + 0.03) - 0.022)
    glass = _cover(lens, soft) * view.front * face.glasses
    canvas.over(_rgb(226, 240, 250), 0.16 * glass)
    canvas.over(
        _rgb(44, 36, 40), 0.95 * _cover(np.minimum(np.minimum(rim, bridge), temple), soft) * view.front * face.glasses
    )


def _geometry(face, looks, height, width):
    """Boxes [N, 4] and landmarks [N, 5, 2] in pixels, from the same geometry as the pixels."""
    turn, one = _Turn(looks), np.ones_like(face.half_width)
    lift = face.mouth_lift * 0.65
    points = [
        (-face.eye_x, face.eye_y),
        (face.eye_x, face.eye_y),
        (0 * one, 0.27 * face.half_height),
        (-face.mouth, face.mouth_y - lift),
        (face.mouth, face.mouth_y - lift),
    ]
    x = np.concatenate([px * one / face.half_width for px, _ in points], 1)
    y = np.concatenate([py * one / face.half_height for _, py in points], 1)
    x, y, _ = turn.forth(x, y, np.sqrt(np.maximum(0, 1 - x * x - y * y)))
    landmarks = _to_pixels(face, looks, x, y, height, width)
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False, dtype=np.float32)[None, :, None]
    outline = _to_pixels(face, looks, np.cos(around) * one, np.sin(around) * one, height, width)
    limit = np.array([width, height], np.float32)
    low, high = np.clip(outline.min(1), 0, limit), np.clip(outline.max(1), 0, limit)
    return np.concatenate([low, high], -1), landmarks


def _to_pixels(face, looks, x, y, height, width):
    u, v = x * face.half_width * _outline(y, face.jaw), y * face.half_height
    cos, sin, scale = np.cos(_column(looks.roll)), np.sin(_column(looks.roll)), _column(looks.scale)
    right = _column(looks.x) + scale * (cos * u - sin * v)
    down = _column(looks.y) + scale * (sin * u + cos * v)
    short = min(height, width)
    return np.concatenate([right * short + width, down * short + height], -1).astype(np.float32) / 2


def _outline(y, jaw):
    """Half width of the face at height y, as a share of the ball's; a negative jaw is pointed, a positive square."""
    down = np.clip(y, 0, 1)
    return 1 + jaw * down * down - 0.05 * np.clip(-y, 0, 1) ** 2


def _mix(stops, position):
    """Colour [N, 3, 1, 1] at `position` (0..1) along a list of colours."""
    at = position.reshape(-1) * (len(stops) - 1)
    mixed = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.stack(mixed, -1).astype(np.float32)[:, :, None, None]


def _rgb(red, green, blue):
    return np.array([red, green, blue], np.float32)[None, :, None, None]


def _column(values):
    return np.asarray(values, np.float32)[:, None, None]


def _cover(distance, soft):
    """Share of a pixel inside a shape: `distance` is negative inside, `soft` the width of the edge."""
    return np.clip(0.5 - distance / soft, 0, 1)


def _ellipse(x, y, rx, ry):
    """Signed distance, to first order, to the ellipse with radii rx, ry at the origin."""
    p, q = x / rx, y / ry
    k = np.sqrt(p * p + q * q)
    return k * (k - 1) / (np.sqrt((p / rx) ** 2 + (q / ry) ** 2) + 1e-6)


def _box(x, y, half_width, half_height, corner):
    """Signed distance to a rounded rectangle around the origin."""
    dx, dy = np.abs(x) - half_width + corner, np.abs(y) - half_height + corner
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner
