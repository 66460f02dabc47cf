"""Where ArcFace networks want a face: the one place that says so, for crops of pictures and inside a jitted step."""

import numpy as np
from jaxtyping import Float

ALIGNED_SIDE = 112  # pixels of the crop that ArcFace networks take
# where the aligned crop has left eye, right eye, nose tip and corners of the mouth, as insightface trains its networks
TEMPLATE: Float[np.ndarray, "5 2"] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
