"""How the devices of a machine share the videos that are to be made.

Guidance makes two forward passes a video, prompt and negative prompt: a pair, whose halves need nothing of each other.
So halves and videos go to devices of their own, along `data`, as far as there are some; the devices that are left split
the tokens of each, along `context`, and send each other keys and values.
"""

import math

from mmjax import config as c
from mmjax.errors import ConfigError
from mmjax.sharding import AXES


def spread(devices: int, guidance: float, videos: int = 1) -> c.Mesh:
    """The mesh on which `videos` videos are made the soonest, by `Sampling.guidance` (1: no pair).

    Counted are the forward passes that a device makes one after the other, those of a last batch that does not fill the
    devices included; among equals the mesh with the fewest devices along `context` is taken.
    """
    meshes = [data for data in range(devices, 0, -1) if devices % data == 0 and at_once(data, guidance) <= videos]
    data = min(meshes, key=lambda data: _rounds(data, devices // data, guidance, videos))
    return c.Mesh(data=data, context=devices // data)


def at_once(shares: int, guidance: float) -> int:
    """The fewest videos whose forward passes divide among the shares of a batch."""
    return shares // math.gcd(shares, _passes(guidance))


def _passes(guidance: float) -> int:
    """Forward passes of a video's step."""
    return 1 if guidance == 1 else 2


def _rounds(data: int, context: int, guidance: float, videos: int) -> float:
    """Forward passes of a device, one after the other, where one that `context` devices share counts as a part."""
    together, each = at_once(data, guidance), _passes(guidance)
    full, left = divmod(videos, together)
    # a batch that the devices along `data` cannot share is computed by all of them
    last = each * left if each * left < data else math.ceil(each * left / data)
    return (full * each * together // data + last) / context


def mesh_of_flag(text: str) -> c.Mesh:
    """The mesh that `--mesh data=2,context=4` asks for; an axis that is not named is 1 long.

    Raises `ConfigError` for other text.
    """
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        axis, _, size = (word.strip() for word in part.partition("="))
        if axis not in sizes or not (size.isdecimal() and int(size)):
            raise ConfigError(
                f'--mesh {text}: expected AXIS=DEVICES, ... with axes {", ".join(AXES)}, such as "data=2,context=4", '
                f'found "{part.strip()}"'
            )
        sizes[axis] = int(size)
    return c.Mesh(**sizes)


def described(mesh, count: int) -> str:
    """A line: which devices do what, for `count` videos at a time.

    Args:
      mesh: `jax.sharding.Mesh`.
    """
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    together = "1 video" if count == 1 else f"{count} videos"
    return f"{mesh.size} devices ({axes}), {together} at a time"
