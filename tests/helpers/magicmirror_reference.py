"""MagicMirror as METHOD.md describes it, in torch and float64: a plain reference to compare other code with.

Everything works on one sample (arrays [tokens, width]); `encode`, `velocity` and `base_velocity` loop over the batch.
Parameters are a flat dict {path: tensor} with the paths of METHOD 7, and gradients come from autograd.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Sizes:
    """The sizes of METHOD 1 to 3, and the switches of table 3 (METHOD 3). Base height and width: latent pixels."""

    layers: int = 42
    heads: int = 48
    head_dim: int = 64
    latent_channels: int = 16
    text_dim: int = 4096
    text_length: int = 226
    time_dim: int = 512
    patch: int = 2
    patch_t: int = 1
    position: str = "rope"
    base_height: int = 60
    base_width: int = 90
    spatial_interpolation: float = 1.875  # of the 2B's table, which is an input here
    temporal_interpolation: float = 1.0
    id_tokens: int = 2
    queries: int = 32
    perceiver_width: int = 2048
    perceiver_depth: int = 4
    perceiver_head_dim: int = 128
    identity_branch: bool = True
    structural_branch: bool = True
    face_modulation: bool = True
    can: bool = True

    @property
    def width(self):
        return self.heads * self.head_dim

    @property
    def has_can(self):
        """CAN needs the identity branch (METHOD 3)."""
        return self.can and self.identity_branch


# ---------------------------------------------------------------------------------------------------- small parts


def subtree(params, prefix, pair=None):
    """The parameters below a path, the path removed; with `pair`, that entry of the leading axis (METHOD 7)."""
    start = prefix + "/"
    found = {path[len(start) :]: value for path, value in params.items() if path.startswith(start)}
    return found if pair is None else {path: value[pair] for path, value in found.items()}


def dense(p, path, x):
    """x W + b, or x W where there is no bias (METHOD, notation)."""
    y = x @ p[f"{path}/kernel"]
    return y + p[f"{path}/bias"] if f"{path}/bias" in p else y


def layer_norm(p, path, x, epsilon=1e-5):
    """LayerNorm with a scale and a bias (METHOD, notation)."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + epsilon) * p[f"{path}/scale"] + p[f"{path}/bias"]


def split_heads(x, head_dim):
    """[n, h k] -> [n, h, k]."""
    return x.reshape(x.shape[0], -1, head_dim)


def attend(q, k, v):
    """Softmax attention, scores q k / sqrt(head dim), for [n, h, k] arrays; the result is [n, h k]."""
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(q.shape[0], -1)


# ------------------------------------------------------------------------------------------ METHOD 1: the base's ends


def time_embedding(p, sizes, timestep):
    """The sinusoid and its two Dense layers (METHOD 1, time)."""
    half = sizes.width // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = float(timestep) * frequencies
    sinusoid = torch.cat([angles.cos(), angles.sin()])
    return dense(p, "time_embed/out", F.silu(dense(p, "time_embed/in", sinusoid)))


def grid_of(sizes, latents):
    """Tokens over time, height and width of latents [T, H, W, C]."""
    steps = (sizes.patch_t, sizes.patch, sizes.patch)
    if any(n % s for n, s in zip(latents.shape[:3], steps, strict=True)):
        raise ValueError(f"latents {tuple(latents.shape[:3])} do not divide into patches {steps}")
    return tuple(n // s for n, s in zip(latents.shape[:3], steps, strict=True))


def to_patches(sizes, latents):
    """Latents [T, H, W, C] -> [V, values], values in the order channel, time, height, width (METHOD 1, patches)."""
    (t, h, w), a, s = grid_of(sizes, latents), sizes.patch_t, sizes.patch
    x = latents.reshape(t, a, h, s, w, s, sizes.latent_channels)
    return x.permute(0, 2, 4, 6, 1, 3, 5).reshape(t * h * w, -1)


def from_patches(sizes, rows, grid):
    """The inverse of `to_patches`."""
    (t, h, w), a, s = grid, sizes.patch_t, sizes.patch
    x = rows.reshape(t, h, w, sizes.latent_channels, a, s, s)
    return x.permute(0, 4, 1, 5, 2, 6, 3).reshape(t * a, h * s, w * s, sizes.latent_channels)


def grid_positions(sizes, grid):
    """The positions along time, height and width (METHOD 1, rotation)."""
    t, h, w = grid
    if sizes.position == "rope_slice":
        return [torch.arange(n, dtype=torch.float64) for n in grid]
    base_h, base_w = sizes.base_height // sizes.patch, sizes.base_width // sizes.patch
    if h / w > base_h / base_w:
        tall, wide = base_h, round(base_h / h * w)
    else:
        tall, wide = round(base_w / w * h), base_w
    top, left = round((base_h - tall) / 2), round((base_w - wide) / 2)
    rows = torch.linspace(top, (top + tall) * (h - 1) / h, h, dtype=torch.float64)
    columns = torch.linspace(left, (left + wide) * (w - 1) / w, w, dtype=torch.float64)
    return [torch.arange(t, dtype=torch.float64), rows, columns]


def rotation_angles(sizes, grid):
    """Angles [V, head dim / 2]: a quarter of the channels for time, three eighths each for rows, columns (METHOD 1)."""
    times, rows, columns = grid_positions(sizes, grid)
    parts = (sizes.head_dim // 4, sizes.head_dim // 8 * 3, sizes.head_dim // 8 * 3)
    speeds = [10000.0 ** (-torch.arange(0, c, 2, dtype=torch.float64) / c) for c in parts]
    turns = [(t, row, column) for t in times for row in rows for column in columns]
    return torch.stack([torch.cat([x * speed for x, speed in zip(turn, speeds, strict=True)]) for turn in turns])


def rotate(x, angles):
    """Turns channels 2i and 2i + 1 of x [V, h, k] (METHOD 1, rotation)."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).reshape(x.shape)


def final_layers(p, video, time):
    """From the last block's video tokens to patches of v (METHOD 1, end)."""
    shift, scale = dense(p, "modulation_out", F.silu(time)).chunk(2)
    h = layer_norm(p, "norm_out", layer_norm(p, "norm_final", video)) * (1 + scale) + shift
    return dense(p, "proj_out", h)


# --------------------------------------------------------------------------------------------- METHOD 1: the blocks


def base_factors(p, half, time):
    """phi_vid and phi_txt of one half ("attn" or "ffn"): (shift, scale, gate) for each stream (METHOD 1, block)."""
    six = dense(p, f"modulation_{half}", F.silu(time)).chunk(6)
    return {"video": six[:3], "text": six[3:]}


def modulated(p, half, streams, factors):
    """LayerNorm(x) (1 + scale) + shift of every stream."""
    out = {}
    for name, x in streams.items():
        shift, scale, _ = factors[name]
        out[name] = layer_norm(p, f"norm_{half}", x) * (1 + scale) + shift
    return out


def attention(p, cross, sizes, hidden, angles, identity_scale):
    """Joint attention over all streams, plus T_CA (eq. 8) where `cross` holds its weights (METHOD 1 and 3)."""
    queries, keys, values = [], [], []
    for name, h in hidden.items():
        q = layer_norm(p, "attn/query_norm", split_heads(dense(p, "attn/query", h), sizes.head_dim), 1e-6)
        k = layer_norm(p, "attn/key_norm", split_heads(dense(p, "attn/key", h), sizes.head_dim), 1e-6)
        if name == "video" and angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        queries.append(q)
        keys.append(k)
        values.append(split_heads(dense(p, "attn/value", h), sizes.head_dim))
    q = torch.cat(queries)
    mixed = attend(q, torch.cat(keys), torch.cat(values))
    if cross is not None:
        mixed = mixed + identity_scale * cross_attention(p, cross, sizes, q, hidden["faces"])
    parts = dense(p, "attn/out", mixed).split([h.shape[0] for h in hidden.values()])
    return dict(zip(hidden, parts, strict=True))


def cross_attention(p, cross, sizes, q, faces):
    """T_CA of eq. 8: the joint queries read the face tokens through keys and values of its own (METHOD 3)."""
    k = layer_norm(p, "attn/key_norm", split_heads(dense(cross, "key", faces), sizes.head_dim), 1e-6)
    return attend(q, k, split_heads(dense(cross, "value", faces), sizes.head_dim))


def block(p, cross, sizes, streams, attn, ffn, angles, identity_scale):
    """The two halves of a block, with the factors `attn` and `ffn` for each stream (METHOD 1, block)."""
    update = attention(p, cross, sizes, modulated(p, "attn", streams, attn), angles, identity_scale)
    streams = {name: x + attn[name][2] * update[name] for name, x in streams.items()}
    hidden = modulated(p, "ffn", streams, ffn)
    update = {n: dense(p, "ffn/out", F.gelu(dense(p, "ffn/in", h), approximate="tanh")) for n, h in hidden.items()}
    return {name: x + ffn[name][2] * update[name] for name, x in streams.items()}


def plain_block(p, sizes, streams, time, angles):
    """A block without the adapter: face tokens pass unchanged and unseen (METHOD 3)."""
    seen = {name: x for name, x in streams.items() if name != "faces"}
    attn, ffn = base_factors(p, "attn", time), base_factors(p, "ffn", time)
    return {**streams, **block(p, None, sizes, seen, attn, ffn, angles, 1.0)}


# ------------------------------------------------------------------------------------------ METHOD 2: the face branch


def resampler(p, sizes, latents, features):
    """The part that both perceivers share: latents [k, w] read features [n, c] (METHOD 2)."""
    features = dense(p, "in", features)
    for i in range(sizes.perceiver_depth):
        x = layer_norm(p, f"attn_{i}/norm_latents", latents)
        context = torch.cat([layer_norm(p, f"attn_{i}/norm_features", features), x])
        key, value = dense(p, f"attn_{i}/key_value", context).chunk(2, dim=-1)
        q, k, v = (split_heads(y, sizes.perceiver_head_dim) for y in (dense(p, f"attn_{i}/query", x), key, value))
        latents = latents + dense(p, f"attn_{i}/out", attend(q, k, v))
        x = layer_norm(p, f"norm_ffn_{i}", latents)
        latents = latents + dense(p, f"ffn_{i}/out", F.gelu(dense(p, f"ffn_{i}/in", x)))
    return layer_norm(p, "norm_out", dense(p, "out", latents))


def id_perceiver(p, sizes, id_embedding, clip_last):
    """eq. 3: x_id [id tokens, w] of one image, from its q_id [i] and last hidden state [n, c] (METHOD 2)."""
    tokens = dense(p, "token_out", F.gelu(dense(p, "token_in", id_embedding)))
    tokens = layer_norm(p, "token_norm", tokens.reshape(sizes.id_tokens, sizes.perceiver_width))
    return tokens + resampler(subtree(p, "resampler"), sizes, tokens, clip_last)


def face_perceiver(p, sizes, clip_penultimate):
    """eq. 4: x_face [F, d] of one image, from its penultimate layer [n, c] (METHOD 2)."""
    return dense(p, "out", resampler(subtree(p, "resampler"), sizes, p["queries"], clip_penultimate))


def fusion_mlp(p, x):
    """LayerNorm, Dense, GELU, Dense (METHOD 2, fusion)."""
    return dense(p, "out", F.gelu(dense(p, "in", layer_norm(p, "norm", x))))


def fusion(p, text, class_mask, x_id):
    """eq. 5: the k-th marked position of text [L, e] is fused with the k-th row of x_id [2 R, w] (METHOD 2)."""
    marked = class_mask.nonzero()[:, 0].tolist()
    if len(marked) > len(x_id):
        raise ValueError(f"{len(marked)} marked positions, but {len(x_id)} ID tokens")
    rows = list(text)
    for position, token in zip(marked, x_id, strict=False):
        word = text[position]
        h = word + fusion_mlp(subtree(p, "mlp"), torch.cat([word, dense(p, "project", token)]))
        rows[position] = h + fusion_mlp(subtree(p, "mlp_residual"), h)
    return torch.stack(rows)


def encode_sample(params, sizes, sample, keep_identity, identity_scale):
    """Fused text, face tokens or None, CAN's projected condition or None, of one sample (METHOD 2 and 3)."""
    text, faces, projected = sample["text"], None, None
    if sizes.identity_branch:
        p = subtree(params, "face_encoder/id_perceiver")
        images = zip(sample["id_embedding"], sample["clip_last"], strict=True)
        x_id = torch.stack([id_perceiver(p, sizes, q, f) for q, f in images])  # [R, id tokens, w]
        if keep_identity:
            fused = fusion(subtree(params, "face_encoder/fusion"), text, sample["class_mask"], x_id.flatten(0, 1))
            text = text + identity_scale * (fused - text)
        else:
            x_id = torch.zeros_like(x_id)
        if sizes.has_can:
            projected = dense(params, "face_encoder/can_project", x_id.flatten(1).mean(0))
    if sizes.structural_branch:
        p = subtree(params, "face_encoder/face_perceiver")
        faces = torch.cat([face_perceiver(p, sizes, f) for f in sample["clip_penultimate"]])
        faces = faces if keep_identity else torch.zeros_like(faces)
    return text, faces, projected


# ---------------------------------------------------------------------------------- METHOD 3: the cross-modal adapter


def face_modulation(adapter, half, time):
    """eq. 6: m_face = phi_face(t, l), (shift, scale, gate) of one half (METHOD 3)."""
    return dense(adapter, f"face_modulation/{half}", F.silu(time)).chunk(3)


def can(adapter, time, video_shift, projected):
    """eq. 7: the 12 factors, for each half and stream the residuals of (shift, scale, gate) (METHOD 3)."""
    x = torch.cat([time, video_shift, projected])
    f = dense(adapter, "can/out", F.silu(dense(adapter, "can/in", x))).chunk(12)
    return {"attn": {"video": f[0:3], "text": f[3:6]}, "ffn": {"video": f[6:9], "text": f[9:12]}}


def adapted_block(p, adapter, sizes, streams, time, angles, projected, identity_scale):
    """A block with the adapter (METHOD 3): CAN's residuals, face modulation, joint attention and T_CA."""
    factors = {half: base_factors(p, half, time) for half in ("attn", "ffn")}
    if projected is not None:
        residual = can(adapter, time, factors["attn"]["video"][0], projected)
        for half, name in (("attn", "video"), ("attn", "text"), ("ffn", "video"), ("ffn", "text")):
            pairs = zip(factors[half][name], residual[half][name], strict=True)
            factors[half][name] = tuple(base + identity_scale * extra for base, extra in pairs)
    cross = None
    if "faces" in streams:
        cross = subtree(adapter, "cross")
        for half in ("attn", "ffn"):
            own = sizes.face_modulation
            factors[half]["faces"] = face_modulation(adapter, half, time) if own else factors[half]["text"]
    return block(p, cross, sizes, streams, factors["attn"], factors["ffn"], angles, identity_scale)


# ------------------------------------------------------------------------------------------------- the whole forward


def transformer_sample(params, sizes, text, faces, projected, latents, timestep, identity_scale, positions):
    """v of one sample; without faces and projected condition the adapter does nothing: the base (METHOD 1 to 3)."""
    p = subtree(params, "transformer")
    grid = grid_of(sizes, latents)
    time = time_embedding(p, sizes, timestep)
    streams = {"text": dense(p, "text_embed", text), "video": dense(p, "patch_embed", to_patches(sizes, latents))}
    if faces is not None:
        streams["faces"] = faces
    angles = None
    if sizes.position == "sincos":
        streams["video"] = streams["video"] + positions
    else:
        angles = rotation_angles(sizes, grid)
    for i in range(sizes.layers // 2):
        even, odd = subtree(p, "blocks/even", i), subtree(p, "blocks/odd", i)
        adapter = subtree(p, "blocks/adapter", i)
        streams = adapted_block(even, adapter, sizes, streams, time, angles, projected, identity_scale)
        streams = plain_block(odd, sizes, streams, time, angles)
    return from_patches(sizes, final_layers(p, streams["video"], time), grid)


def per_sample(value, default, count):
    """A list of one number for each sample, from None, a number, a list or an array [b]."""
    value = default if value is None else value
    value = value.tolist() if hasattr(value, "tolist") else value
    return value if isinstance(value, list) else [value] * count


def encode(params, sizes, batch, keep_identity=None, identity_scale=None):
    """Fused text [b, L, e], face tokens [b, R F, d] or None, CAN's projected condition [b, c1] or None."""
    samples = [{name: value[i] for name, value in batch.items()} for i in range(len(batch["text"]))]
    keep, scale = per_sample(keep_identity, True, len(samples)), per_sample(identity_scale, 1.0, len(samples))
    out = [encode_sample(params, sizes, *inputs) for inputs in zip(samples, keep, scale, strict=True)]
    return tuple(None if parts[0] is None else torch.stack(parts) for parts in zip(*out, strict=True))


def velocity(params, sizes, batch, latents, timesteps, keep_identity=None, identity_scale=None, positions=None):
    """v [b, T, H, W, C] of base, face branch and adapter; `positions` [V, d] is the table of position "sincos"."""
    text, faces, projected = encode(params, sizes, batch, keep_identity, identity_scale)
    scale = per_sample(identity_scale, 1.0, len(latents))
    out = []
    for i in range(len(latents)):
        conditions = (text[i], None if faces is None else faces[i], None if projected is None else projected[i])
        out.append(transformer_sample(params, sizes, *conditions, latents[i], timesteps[i], scale[i], positions))
    return torch.stack(out)


def base_velocity(params, sizes, text, latents, timesteps, positions=None):
    """v of the base alone: no face tokens, no CAN (METHOD 1)."""
    inputs = zip(text, latents, timesteps, strict=True)
    return torch.stack([transformer_sample(params, sizes, x, None, None, z, t, 1.0, positions) for x, z, t in inputs])


# --------------------------------------------------------------------------------- METHOD 4 and 5: training, sampling


def drop_conditions(batch, keep_text, keep_identity, null_text):
    """Keyword arguments of `velocity` after conditioning dropout; keep_* are bool [b] (METHOD 4)."""
    text = torch.where(keep_text[:, None, None], batch["text"], null_text)
    class_mask = batch["class_mask"] & (keep_text & keep_identity)[:, None]
    return {"batch": {**batch, "text": text, "class_mask": class_mask}, "keep_identity": keep_identity}


def guidance_pair(batch, negative_text, identity_scale):
    """Keyword arguments of `velocity` for the negative and for the positive half (METHOD 5)."""
    nobody = torch.zeros(len(batch["text"]), dtype=torch.bool)
    negative = {**drop_conditions(batch, nobody, nobody, negative_text), "identity_scale": 1.0}
    return negative, {"batch": batch, "keep_identity": ~nobody, "identity_scale": identity_scale}


def guided(v_negative, v_positive, scale):
    """v of the guidance pair (METHOD 5)."""
    return v_negative + scale * (v_positive - v_negative)


def training_loss(v, target, face_mask, face_region):
    """Losses [b]: the MSE of v, for samples with `face_region` weighted by the mask [b, T, H, W] (METHOD 4)."""
    losses = []
    for i in range(len(v)):
        error = ((v[i] - target[i]) ** 2).mean(-1)
        weight = face_mask[i].to(error.dtype).reshape(error.shape)
        if not face_region[i] or weight.sum() == 0:
            weight = torch.ones_like(error)
        losses.append((weight * error).sum() / weight.sum())
    return torch.stack(losses)


def trainable(path):
    """Only the face branch and the adapter are trained (METHOD 4)."""
    return path.startswith(("face_encoder/", "transformer/blocks/adapter/"))


def batch_gradient(loss_of_sample, params, samples, of=trainable):
    """The mean over samples of the gradient of loss_of_sample(params, sample), {path: gradient} (METHOD 4)."""
    total = {path: torch.zeros_like(value) for path, value in params.items() if of(path)}
    for sample in samples:
        leaves = {path: params[path].detach().clone().requires_grad_() for path in total}
        loss = loss_of_sample({**params, **leaves}, sample)
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for path, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                total[path] += gradient / len(samples)
    return total


# --------------------------------------------------------------------------------------------- METHOD 7: the shapes


def dense_shapes(layers, bias=True):
    """Shapes of Dense layers {path: (in, out)}."""
    kernels = {f"{path}/kernel": shape for path, shape in layers.items()}
    return kernels | ({f"{path}/bias": shape[1:] for path, shape in layers.items()} if bias else {})


def norm_shapes(width, *paths):
    """Shapes of LayerNorms of one width."""
    return {f"{path}/{leaf}": (width,) for path in paths for leaf in ("scale", "bias")}


def below(path, found, lead=()):
    """The shapes under a path, with leading axes."""
    return {f"{path}/{name}": (*lead, *shape) for name, shape in found.items()}


def resampler_shapes(sizes, clip_dim):
    """Shapes of METHOD 2's resampler."""
    w = sizes.perceiver_width
    out = dense_shapes({"in": (clip_dim, w), "out": (w, w)}) | norm_shapes(w, "norm_out")
    for i in range(sizes.perceiver_depth):
        attn, ffn = f"attn_{i}", f"ffn_{i}"
        out |= norm_shapes(w, f"{attn}/norm_latents", f"{attn}/norm_features", f"norm_{ffn}")
        layers = {f"{attn}/query": (w, w), f"{attn}/key_value": (w, 2 * w), f"{attn}/out": (w, w)}
        out |= dense_shapes(layers | {f"{ffn}/in": (w, 4 * w), f"{ffn}/out": (4 * w, w)}, bias=False)
    return out


def shapes(sizes, clip_dim=1024, id_dim=512, can_width=512, can_hidden=512):
    """{path: shape} of METHOD 7; what an ablation does not use is absent."""
    d, k, t, e, w = sizes.width, sizes.head_dim, sizes.time_dim, sizes.text_dim, sizes.perceiver_width
    values = sizes.latent_channels * sizes.patch_t * sizes.patch**2
    ends = {"patch_embed": (values, d), "text_embed": (e, d), "time_embed/in": (d, t), "time_embed/out": (t, t)}
    ends |= {"modulation_out": (t, 2 * d), "proj_out": (d, values)}
    one = {f"attn/{name}": (d, d) for name in ("query", "key", "value", "out")}
    one |= {"ffn/in": (d, 4 * d), "ffn/out": (4 * d, d), "modulation_attn": (t, 6 * d), "modulation_ffn": (t, 6 * d)}
    norms = norm_shapes(d, "norm_attn", "norm_ffn") | norm_shapes(k, "attn/query_norm", "attn/key_norm")
    adapter, face, out = {}, {}, below("transformer", dense_shapes(ends) | norm_shapes(d, "norm_final", "norm_out"))
    if sizes.structural_branch:
        adapter |= {"cross/key": (d, d), "cross/value": (d, d)}
        if sizes.face_modulation:
            adapter |= {"face_modulation/attn": (t, 3 * d), "face_modulation/ffn": (t, 3 * d)}
        face |= dense_shapes({"face_perceiver/out": (w, d)}) | {"face_perceiver/queries": (sizes.queries, w)}
        face |= below("face_perceiver/resampler", resampler_shapes(sizes, clip_dim))
    if sizes.has_can:
        adapter |= {"can/in": (t + d + can_width, can_hidden), "can/out": (can_hidden, 12 * d)}
        face |= dense_shapes({"can_project": (sizes.id_tokens * w, can_width)})
    if sizes.identity_branch:
        tokens = dense_shapes({"token_in": (id_dim, w), "token_out": (w, sizes.id_tokens * w)})
        face |= below("id_perceiver", tokens | norm_shapes(w, "token_norm"))
        face |= below("id_perceiver/resampler", resampler_shapes(sizes, clip_dim))
        fuse = {"project": (w, e), "mlp/in": (2 * e, e), "mlp/out": (e, e)}
        fuse = dense_shapes(fuse | {"mlp_residual/in": (e, e), "mlp_residual/out": (e, e)})
        face |= below("fusion", fuse | norm_shapes(2 * e, "mlp/norm") | norm_shapes(e, "mlp_residual/norm"))
    for name, found in (("even", dense_shapes(one) | norms), ("odd", dense_shapes(one) | norms)):
        out |= below(f"transformer/blocks/{name}", found, (sizes.layers // 2,))
    out |= below("transformer/blocks/adapter", dense_shapes(adapter), (sizes.layers // 2,))
    return out | below("face_encoder", face)
