"""The face mask lies on the face: on that of SAM2 in ConsisID's sample, and on jaws that insightface draws."""

import numpy as np
import pytest

from mmjax.faces.masks import face_masks
from mmjax.faces.tracking import track_faces
from mmjax.records.making import mask_on_latents
from tests.helpers import face_pictures as fp
from tests.helpers import real_clips

LANDMARKS = np.array([[85, 100], [115, 100], [100, 118], [88, 135], [112, 135]], np.float32)
BOX = np.array([65, 60, 135, 155], np.float32)


def mask_of(landmarks, box, height=200, width=200):
    return face_masks(landmarks[None], box[None], height, width)[0]


def test_an_upright_face_fills_its_box():
    mask = mask_of(LANDMARKS, BOX)
    rows, columns = np.nonzero(mask > 0.5)
    assert mask.dtype == np.float32 and mask.min() == 0 and mask.max() == 1
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(edges, BOX, atol=5)
    assert mask[[100, 118, 135], [85, 100, 112]].min() == 1  # eye, nose, mouth
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=0.06)  # ArcFace's template is a trifle uneven


def test_the_edge_is_soft():
    values = mask_of(LANDMARKS, BOX)[107, 100:]  # from the middle to the side
    edge = values[(values > 0) & (values < 1)]
    assert len(edge) >= 3 and (np.diff(values) <= 0).all()


def test_the_oval_tilts_with_the_head():
    """By 30 degrees; the area does not change, and the tilted mask is the upright one turned."""
    turn = np.radians(30)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = (BOX[:2] + BOX[2:]) / 2
    tilted = mask_of(((LANDMARKS - middle) @ matrix.T + middle).astype(np.float32), BOX)
    upright = mask_of(LANDMARKS, BOX)
    assert tilted.sum() == pytest.approx(upright.sum(), rel=0.01)
    chin = np.array([0, 55.0])  # below the middle, where only the longer axis reaches
    x, y = np.round(middle + matrix @ chin).astype(int)
    assert upright[int(middle[1]) + 45, int(middle[0])] > 0.5 and tilted[y - 8, x + 4] > 0.5
    assert tilted[int(middle[1]) + 50, int(middle[0])] < 0.5


def test_masks_follow_every_frame_and_stop_at_the_edges():
    boxes = np.stack([BOX, BOX + 80, BOX - 300]).astype(np.float32)
    landmarks = np.stack([LANDMARKS, LANDMARKS + 80, LANDMARKS - 300])
    masks = face_masks(landmarks, boxes, 160, 180)
    assert masks.shape == (3, 160, 180)
    np.testing.assert_allclose(masks[1, 80:, 80:], masks[0, :80, :100], atol=1e-5)
    assert masks[1].max() == 1 and masks[2].max() == 0


def overlap(a, b):
    """Intersection over union in each frame."""
    return np.minimum(a, b).sum((1, 2)) / np.maximum(a, b).sum((1, 2))


@fp.needs_faces
def test_the_mask_is_that_of_sam2():
    truth = real_clips.consisid_masks()[:49]
    frames = real_clips.frames_of(real_clips.CONSISID_CLIP, 49)
    track = track_faces(frames, fp.tools().detect, 4)[0]
    masks = face_masks(track.landmarks, track.boxes, *frames.shape[1:3])
    pixels = overlap(masks > 0.5, truth)
    small, real = (
        mask_on_latents(mask[:, :936].astype(np.float32), (13, 117, 90)) > 0.5  # 940 is no multiple of 8
        for mask in (masks, truth)
    )
    cells = overlap(small, real)
    print(f"SAM2's mask: IoU {pixels.mean():.3f} on pixels, at least {pixels.min():.3f}; {cells.mean():.3f} on latents")
    assert pixels.mean() > 0.92 and cells.mean() > 0.92


@fp.needs_faces
def test_the_mask_covers_brows_jaw_and_chin():
    """On 20 people of LFW, against the hull of 106 points by a network that the mask does not know."""
    from insightface.app.common import Face as Found
    from insightface.model_zoo import get_model

    network = get_model(str(fp.PACK / "2d106det.onnx"), providers=["CPUExecutionProvider"])
    network.prepare(ctx_id=0)
    shares = []
    for path in sorted(fp.LFW.glob("*/*_0001.jpg"))[::290][:20]:
        picture = fp.read(path)
        face = fp.main_face(picture)
        points = network.get(np.ascontiguousarray(picture[..., ::-1]), Found(bbox=face.box))[:, :2]
        mask = mask_of(face.landmarks, face.box, *picture.shape[:2])
        columns, rows = np.round(points).astype(int).clip(0, 249).T
        shares.append(np.mean(mask[rows, columns] > 0.25))
    print(f"points inside: {np.mean(shares):.3f}, at least {np.min(shares):.3f}")
    assert len(shares) > 15 and np.mean(shares) > 0.97
