"""Faults of the base transformer: its blocks, token streams, positions and patches."""

from tests.planted_faults.fault import Fault

TRANSFORMER, STREAMS = "mmjax/models/cogvideox/transformer.py", "mmjax/models/cogvideox/streams.py"
POSITIONS, PATCHES = "mmjax/models/cogvideox/positions.py", "mmjax/models/cogvideox/patches.py"

_EPSILONS = ("tests/models/test_dit_parity.py::test_epsilons_of_the_norms_where_values_are_as_small",)
_DIT = "tests/models/test_dit_parity.py::test_output_equals_diffusers"
_2B, _5B, _15 = (f"{_DIT}[2b-size0]",), (f"{_DIT}[5b-size4]",), (f"{_DIT}[1.5-5b-size8]",)
_5B_OTHER_SIZE, _5B_TALL = (f"{_DIT}[5b-size6]",), (f"{_DIT}[5b-size7]",)
_REFERENCE = ("tests/models/test_magicmirror_reference.py::test_velocity_and_conditions[full-2-rope]",)
_PADDING = ("tests/training/test_step.py::test_whole_temporal_patches_repeat_the_first_frame_in_front",)
_GRADIENTS = ("tests/models/test_magicmirror_reference.py::test_loss_and_gradients_under_conditioning_dropout[full]",)

_TRANSFORMER = (
    Fault(
        "the sinusoid of the timestep has sines first",
        TRANSFORMER,
        "jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)",
        "jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)",
        _5B,
    ),
    Fault(
        "the sinusoid's exponents run to one, not to just below",
        TRANSFORMER,
        "np.arange(half, dtype=np.float32) / np.float32(half)",
        "np.arange(half, dtype=np.float32) / np.float32(half - 1)",
        _5B,
    ),
    Fault(
        "norms of queries and keys have the epsilon of the blocks",
        TRANSFORMER,
        "QK_NORM_EPS = 1e-6",
        "QK_NORM_EPS = 1e-5",
        _EPSILONS,
    ),
    Fault(
        "norms of the blocks have another epsilon",
        TRANSFORMER,
        "\nNORM_EPS = 1e-5",
        "\nNORM_EPS = 1e-6",
        _EPSILONS,
    ),
    Fault(
        "keys pass the norm of the queries",
        TRANSFORMER,
        "self.key_norm(self._heads(self.key(x)))",
        "self.query_norm(self._heads(self.key(x)))",
        _5B,
    ),
    Fault(
        "keys are not rotated",
        TRANSFORMER,
        "k = self._rotated(self.key_norm(self._heads(self.key(x))), rotary)",
        "k = self._rotated(self.key_norm(self._heads(self.key(x))), None)",
        _5B,
    ),
    Fault(
        "text and video factors of the attention are exchanged",
        TRANSFORMER,
        "video_attn, text_attn = mods(",
        "text_attn, video_attn = mods(",
        _5B,
    ),
    Fault(
        "the feed-forward half is modulated by the factors of the attention",
        TRANSFORMER,
        "ffn = streams.of_tokens(mods.text.ffn, mods.video.ffn, mods.face and mods.face.ffn)",
        "ffn = streams.of_tokens(mods.text.attn, mods.video.attn, mods.face and mods.face.attn)",
        _5B,
    ),
    Fault(
        "the face tokens' feed-forward half has the factors of the attention",
        TRANSFORMER,
        "mods.video.ffn, mods.face and mods.face.ffn)",
        "mods.video.ffn, mods.face and mods.face.attn)",
        _REFERENCE,
    ),
    Fault(
        "the feed-forward half is gated by the attention's gate",
        TRANSFORMER,
        "self.policy.dtype)), ffn)\n",
        "self.policy.dtype)), attn)\n",
        _5B,
    ),
    Fault(
        "the odd block runs before the even one",
        TRANSFORMER,
        "        x = self.even(x, streams, self.even.modulations(time), rotary)\n"
        "        return self.odd(x, streams, self.odd.modulations(time), rotary), None\n",
        "        x = self.odd(x, streams, self.odd.modulations(time), rotary)\n"
        "        return self.even(x, streams, self.even.modulations(time), rotary), None\n",
        _5B,
    ),
    Fault(
        "shift and scale of the last modulation are exchanged",
        TRANSFORMER,
        "shift, scale = jnp.split(factors, 2, axis=-1)",
        "scale, shift = jnp.split(factors, 2, axis=-1)",
        _5B,
    ),
    Fault(
        "the last modulation reads the time embedding without SiLU",
        TRANSFORMER,
        "self.modulation_out(nn.silu(time))",
        "self.modulation_out(time)",
        _5B,
    ),
    Fault(
        "one of the two last norms is left out",
        TRANSFORMER,
        "self.norm_out(self.norm_final(video).astype(dtype))",
        "self.norm_out(video)",
        _5B,
    ),
    Fault(
        "the adapter's cross-attention is added twice",
        TRANSFORMER,
        "attended = attended + cross(q, x)",
        "attended = attended + 2 * cross(q, x)",
        _REFERENCE,
    ),
    Fault(
        "the cross-attention is asked with keys in place of queries",
        TRANSFORMER,
        "attended = attended + cross(q, x)",
        "attended = attended + cross(k, x)",
        _REFERENCE,
    ),
)

_STREAMS = (
    Fault(
        "face tokens of a plain block take part in its attention",
        STREAMS,
        "return self.base if mods.face is None else self.total",
        "return self.total",
        _REFERENCE,
    ),
    Fault(
        "face tokens are no keys of an adapted block",
        STREAMS,
        "return self.base if mods.face is None else self.total",
        "return self.base",
        _REFERENCE,
    ),
    Fault(
        "faces that take no part have the text's factors",
        STREAMS,
        "jax.tree.map(jnp.zeros_like, text) if face is None else face",
        "text if face is None else face",
        _REFERENCE,
    ),
    Fault(
        "text tokens turn with the first video tokens' angles",
        STREAMS,
        "around = ((self.text, self.face), (0, 0))",
        "around = ((0, self.text + self.face), (0, 0))",
        _5B,
    ),
    Fault(
        "tokens without a position are multiplied by nothing",
        STREAMS,
        "np.pad(cos, around, constant_values=1)",
        "np.pad(cos, around)",
        _5B,
    ),
    Fault(
        "the gradient of a stream's factors is a mean over the tokens",
        STREAMS,
        "jnp.where(mask, gradient, 0).sum(1)",
        "jnp.where(mask, gradient, 0).mean(1)",
        _GRADIENTS,
    ),
    Fault(
        "the gradients of the video's factors and of the faces' are exchanged",
        STREAMS,
        "(streams.numbers == np.arange(3)[:, None])",
        "(streams.numbers == np.array([0, 2, 1])[:, None])",
        _GRADIENTS,
    ),
)

_POSITIONS = (
    Fault(
        "rows and columns turn each other's share of a head",
        POSITIONS,
        "_on_grid(_angles(times, quarter), _angles(rows, eighths), _angles(columns, eighths))",
        "_on_grid(_angles(times, quarter), _angles(columns, eighths), _angles(rows, eighths))",
        _5B,
    ),
    Fault(
        "the rotary grid ends at the base's edge, not a token before",
        POSITIONS,
        "np.linspace(top, bottom * (height - 1) / height, height, dtype=np.float32)",
        "np.linspace(top, bottom, height, dtype=np.float32)",
        _5B,
    ),
    Fault(
        "the sine of the rotary embedding has the other sign",
        POSITIONS,
        "np.stack([-sin, sin], axis=-1)",
        "np.stack([sin, -sin], axis=-1)",
        _5B,
    ),
    Fault(
        "halves of a head are rotated, not neighbours",
        POSITIONS,
        "return np.repeat(cos, 2, axis=-1), np",
        "return np.tile(cos, 2), np",
        _5B,
    ),
    Fault(
        "the crop of the rotary grid is not centred",
        POSITIONS,
        "int(round((base_height - size[0]) / 2.0)), int(round((base_width - size[1]) / 2.0))",
        "0, 0",
        _5B_TALL,
    ),
    Fault(
        "the aspect ratio of the rotary crop is compared the wrong way",
        POSITIONS,
        "if height / width > base_height / base_width:",
        "if height / width < base_height / base_width:",
        _5B_OTHER_SIZE,
    ),
    Fault(
        "2B's positions stand in the order time, height, width",
        POSITIONS,
        "on_grid[:, :time_end], on_grid[:, rows_end:], on_grid[:, time_end:rows_end]",
        "on_grid[:, :time_end], on_grid[:, time_end:rows_end], on_grid[:, rows_end:]",
        _2B,
    ),
    Fault(
        "2B's positions have cosines first",
        POSITIONS,
        "np.concatenate([np.sin(angles), np.cos(angles)], axis=1)",
        "np.concatenate([np.cos(angles), np.sin(angles)], axis=1)",
        _2B,
    ),
    Fault(
        "2B's width is not interpolated",
        POSITIONS,
        "_sincos(np.arange(width) / model.spatial_interpolation,",
        "_sincos(np.arange(width) * 1.0,",
        _2B,
    ),
)

_PATCHES = (
    Fault(
        "rows of a patch run over time before channels",
        PATCHES,
        "x.transpose(0, 1, 3, 5, 7, 2, 4, 6)",
        "x.transpose(0, 1, 3, 5, 2, 7, 4, 6)",
        _15,
    ),
    Fault(
        "height and width of a patch are exchanged",
        PATCHES,
        "x.transpose(0, 1, 3, 5, 7, 2, 4, 6)",
        "x.transpose(0, 1, 3, 5, 7, 2, 6, 4)",
        _5B,
    ),
    Fault(
        "patches are put back with height and width exchanged",
        PATCHES,
        ".transpose(0, 1, 5, 2, 6, 3, 7, 4)",
        ".transpose(0, 1, 5, 2, 7, 3, 6, 4)",
        _5B,
    ),
    Fault(
        "latent frames are padded with the last one",
        PATCHES,
        "[*[x[:, :1]] * (",
        "[*[x[:, -1:]] * (",
        _PADDING,
    ),
)

BASE = _TRANSFORMER + _STREAMS + _POSITIONS + _PATCHES
