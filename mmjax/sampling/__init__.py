"""Videos from a trained model in a few lines of Python.

    sampler = load_sampler("runs/tiny")  # or a folder of converted CogVideoX weights, with adapter="runs/mine"
    clip = sampler.sample([Request("A man img is smiling", references=["face.png"], seed=3)])[0]
    media.write_video("smiling.mp4", clip.frames, fps=8)

A clip depends on its own prompt, references and seed alone, not on the requests sampled beside it nor on the mesh, but
for rounding: its noise is the same to the bit, the products of the model are summed in another order.
"""

from mmjax.sampling.denoiser import Batch, Denoiser, Progress
from mmjax.sampling.estimate import Estimate
from mmjax.sampling.load import load_sampler
from mmjax.sampling.preview import Preview
from mmjax.sampling.size import Size, checked_size, frame_cells
from mmjax.sampling.text_to_video import Clip, Encoded, Request, Sampler

__all__ = [
    "Batch",
    "Clip",
    "Denoiser",
    "Encoded",
    "Estimate",
    "Preview",
    "Progress",
    "Request",
    "Sampler",
    "Size",
    "checked_size",
    "frame_cells",
    "load_sampler",
]
