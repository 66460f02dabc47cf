"""Faults of MagicMirror's own parts: the face branch, its fusion with the text, CAN and the cross-attention."""

from tests.planted_faults.fault import Fault

ADAPTER, CAN = "mmjax/models/magicmirror/adapter.py", "mmjax/models/magicmirror/can.py"
CROSS, FACES = "mmjax/models/magicmirror/cross_attention.py", "mmjax/models/magicmirror/face_branch.py"
FUSION = "mmjax/models/magicmirror/fusion.py"
MODEL = "mmjax/models/magicmirror/model.py"

_VELOCITY = "tests/models/test_magicmirror_reference.py::test_velocity_and_conditions"
_REFERENCE = (f"{_VELOCITY}[full-2-rope]",)
_PLAIN_FACES = (f"{_VELOCITY}[without face modulation-2-rope]",)
_FRESH = ("tests/models/test_adapter.py::test_fresh_adapter_moves_the_base_by_the_softmax_share_of_its_keys_alone",)
_FRESH_TEXT = ("tests/models/test_adapter.py::test_fresh_adapter_without_face_tokens_is_the_base_bit_for_bit",)
_LEARNS = ("tests/models/test_adapter.py::test_every_adapter_parameter_gets_a_gradient_within_three_steps",)
_NO_FACES = (f"{_VELOCITY}[without structural branch-2-rope]",)
_ID_PERCEIVER = ("tests/conversion/test_photomaker.py::test_id_perceiver_equals_the_published_code",)

_BLOCKS = (
    Fault(
        "CAN ignores mu1, the block's own shift",
        CAN,
        "for part in (time, shift, identity)]",
        "for part in (time, 0 * shift, identity)]",
        _REFERENCE,
    ),
    Fault(
        "CAN reads its inputs in another order than the weights",
        CAN,
        "for part in (time, shift, identity)]",
        "for part in (identity, time, shift)]",
        _REFERENCE,
    ),
    Fault(
        "CAN is given the video's scale in place of its shift",
        ADAPTER,
        "self.can(time, video.attn.shift, inputs.identity)",
        "self.can(time, video.attn.scale, inputs.identity)",
        _REFERENCE,
    ),
    Fault(
        "CAN is given the text's shift",
        ADAPTER,
        "self.can(time, video.attn.shift, inputs.identity)",
        "self.can(time, text.attn.shift, inputs.identity)",
        _REFERENCE,
    ),
    Fault(
        "CAN's shares of text and video are exchanged",
        CAN,
        "video_attn, text_attn, video_ffn, text_ffn = mods(x, 4)",
        "text_attn, video_attn, text_ffn, video_ffn = mods(x, 4)",
        _REFERENCE,
    ),
    Fault(
        "CAN has no activation between its layers",
        CAN,
        'x = nn.silu(Dense(self.adapter.can_hidden, ("small", "condition"), self.policy, name="in")(x))',
        'x = Dense(self.adapter.can_hidden, ("small", "condition"), self.policy, name="in")(x)',
        _REFERENCE,
    ),
    Fault(
        "CAN does not start at zero",
        CAN,
        'self.policy, kernel_init=ZEROS, name="out")(x)',
        'self.policy, name="out")(x)',
        _FRESH_TEXT,
    ),
    Fault(
        "CAN's residual reaches the video alone",
        ADAPTER,
        "text, video = text + scaled(residual.text, inputs.scale), video",
        "text, video = text, video",
        _REFERENCE,
    ),
    Fault(
        "the identity scale does not reach CAN's residual of the video",
        ADAPTER,
        "video + scaled(residual.video, inputs.scale)",
        "video + residual.video",
        _REFERENCE,
    ),
    Fault(
        "the face stream's modulation reads the time embedding without SiLU",
        CAN,
        "        time = nn.silu(time)\n",
        "",
        _REFERENCE,
    ),
    Fault(
        "the face stream has one modulation for both halves",
        CAN,
        "return BlockMods(attn, ffn)",
        "return BlockMods(attn, attn)",
        _REFERENCE,
    ),
    Fault(
        "without face modulation faces have the video's factors",
        ADAPTER,
        "self.face_modulation(time) if self.settings.face_modulation else text)",
        "self.face_modulation(time) if self.settings.face_modulation else video)",
        _PLAIN_FACES,
    ),
    Fault(
        "cross-attention at half its strength",
        ADAPTER,
        "return scaled(read, adapter.scale)",
        "return scaled(0.5 * read, adapter.scale)",
        _REFERENCE,
    ),
    Fault(
        "the identity scale does not reach the cross-attention",
        ADAPTER,
        "return scaled(read, adapter.scale)",
        "return read",
        _REFERENCE,
    ),
    Fault(
        "cross-attention reads the video in place of the faces",
        ADAPTER,
        "streams.face_of(normed)",
        "streams.video_of(normed)",
        _REFERENCE,
    ),
    Fault(
        "cross-attention's keys pass the odd block's norm",
        ADAPTER,
        "self.even.attn.key_norm)",
        "self.odd.attn.key_norm)",
        _REFERENCE,
    ),
    Fault(
        "the odd block is adapted, not the even one",
        ADAPTER,
        "        x = self.even(x, streams, mods, rotary, self._cross_attention(streams, adapter))\n"
        "        return self.odd(x, streams, self.odd.modulations(time), rotary), None\n",
        "        x = self.even(x, streams, self.even.modulations(time), rotary)\n"
        "        return self.odd(x, streams, mods, rotary, self._cross_attention(streams, adapter)), None\n",
        _REFERENCE,
    ),
    Fault(
        "cross-attention's keys are not normalised",
        CROSS,
        "k = key_norm(self.key(face).reshape(heads)).astype(self.policy.dtype)",
        "k = self.key(face).reshape(heads).astype(self.policy.dtype)",
        _REFERENCE,
    ),
    Fault(
        "cross-attention's values are its keys",
        CROSS,
        "return attention(q, k, self.value(face).reshape(heads), self.policy)",
        "return attention(q, k, self.key(face).reshape(heads), self.policy)",
        _REFERENCE,
    ),
    Fault(
        "cross-attention's values do not start at zero",
        CROSS,
        'self.value = Dense(width, ("embed", "heads"), self.policy, kernel_init=ZEROS)',
        'self.value = Dense(width, ("embed", "heads"), self.policy)',
        _FRESH,
    ),
)

_BRANCH = (
    Fault(
        "identity tokens are fused in another order",
        FACES,
        "tokens = x_id.reshape(batch, references * adapter.id_tokens, -1)",
        "tokens = x_id.swapaxes(1, 2).reshape(batch, references * adapter.id_tokens, -1)",
        _REFERENCE,
    ),
    Fault(
        "the identity scale does not reach the fusion",
        FACES,
        "text = fused if scale is None else text + scale[:, None, None].astype(policy.dtype) * (fused - text)",
        "text = fused",
        _REFERENCE,
    ),
    Fault(
        "of several pictures the first one conditions CAN",
        FACES,
        "mean = x_id.mean(axis=1).reshape(batch, -1)",
        "mean = x_id[:, 0].reshape(batch, -1)",
        _REFERENCE,
    ),
    Fault(
        "CAN's condition is a sum over pictures",
        FACES,
        "mean = x_id.mean(axis=1).reshape(batch, -1)",
        "mean = x_id.sum(axis=1).reshape(batch, -1)",
        _REFERENCE,
    ),
    Fault(
        "dropped identity keeps its face tokens",
        FACES,
        "face = jnp.where(here, tokens.reshape(batch, references * adapter.queries, -1), 0)",
        "face = tokens.reshape(batch, references * adapter.queries, -1)",
        _REFERENCE,
    ),
    Fault(
        "dropped identity keeps its x_id",
        FACES,
        "x_id = jnp.where(here[..., None], x_id.reshape(batch, references, adapter.id_tokens, -1), 0)",
        "x_id = x_id.reshape(batch, references, adapter.id_tokens, -1)",
        _REFERENCE,
    ),
    Fault(
        "dropped identity is fused with the text all the same",
        FACES,
        "jnp.asarray(class_mask) & here[..., 0])",
        "jnp.asarray(class_mask))",
        _REFERENCE,
    ),
    Fault(
        "the face perceiver reads CLIP's last features",
        FACES,
        "tokens = encoder(_merge(clip_penultimate))",
        "tokens = encoder(_merge(clip_last))",
        _REFERENCE,
    ),
    Fault(
        "the ID perceiver reads CLIP's penultimate features",
        FACES,
        "(_merge(id_embedding), _merge(clip_last))",
        "(_merge(id_embedding), _merge(clip_penultimate))",
        _REFERENCE,
    ),
    Fault(
        "the fusion's positions are those without the mask",
        FUSION,
        "jnp.argsort(~mask, axis=-1, stable=True)",
        "jnp.argsort(mask, axis=-1, stable=True)",
        _REFERENCE,
    ),
    Fault(
        "what is fused replaces other words where a prompt has no class word",
        FUSION,
        "(text, positions, jnp.where(chosen, fused, words))",
        "(text, positions, fused)",
        _REFERENCE,
    ),
    Fault(
        "the fusion reads identity before words",
        FUSION,
        "jnp.concatenate([words, projected], axis=-1)",
        "jnp.concatenate([projected, words], axis=-1)",
        _REFERENCE,
    ),
    Fault(
        "the fusion adds the identity and not the words",
        FUSION,
        "(jnp.concatenate([words, projected], axis=-1), words)",
        "(jnp.concatenate([words, projected], axis=-1), projected)",
        _REFERENCE,
    ),
    Fault(
        "the fusion's second layer has no residual of the first",
        FUSION,
        'name="mlp_residual")(fused, fused)',
        'name="mlp_residual")(fused, words)',
        _REFERENCE,
    ),
    Fault(
        "a residual MLP has no norm",
        FUSION,
        '        x = whole_samples(LayerNorm(axis="text", name="norm")(whole_samples(x)))\n',
        '        LayerNorm(axis="text", name="norm")(x)\n',
        _REFERENCE,
    ),
    Fault(
        "identity tokens forget what they were before the resampler",
        FACES,
        "return tokens + resampler(tokens, features)",
        "return resampler(tokens, features)",
        _ID_PERCEIVER,
    ),
    Fault(
        "identity tokens are not normalised",
        FACES,
        'tokens = whole_samples(LayerNorm(axis="face_width", name="token_norm")(tokens).astype(self.policy.dtype))',
        'LayerNorm(axis="face_width", name="token_norm")(tokens)',
        _ID_PERCEIVER,
    ),
    Fault(
        "the gelu of the identity tokens is the tanh form",
        FACES,
        "        x = whole_samples(nn.gelu(x.astype(jnp.float32), approximate=False))\n",
        "        x = whole_samples(nn.gelu(x.astype(jnp.float32), approximate=True))\n",
        _ID_PERCEIVER,
    ),
    Fault(
        "the face perceiver's queries start at zero and are all alike",
        FACES,
        "partitioned(nn.initializers.normal(a.perceiver_width**-0.5)",
        "partitioned(nn.initializers.zeros_init()",
        _LEARNS + ("tests/training/test_state.py::test_a_converted_base_is_loaded_and_only_the_rest_is_drawn",),
    ),
    Fault(
        "the identity's condition does not reach the blocks",
        MODEL,
        "AdapterInputs(conditions.identity, conditions.scale)",
        "AdapterInputs(None, conditions.scale)",
        _REFERENCE,
    ),
    Fault(
        "the identity scale does not reach the blocks",
        MODEL,
        "AdapterInputs(conditions.identity, conditions.scale)",
        "AdapterInputs(conditions.identity)",
        _REFERENCE,
    ),
    Fault(
        "the batch's dropped identities are not looked at",
        MODEL,
        'keep = batch.get("keep_identity", jnp.ones(len(batch["text"]), bool))',
        'keep = jnp.ones(len(batch["text"]), bool)',
        _REFERENCE,
    ),
    Fault(
        "without identity the faces' modulation is read",
        ADAPTER,
        "with_faces=streams.face > 0)",
        "with_faces=True)",
        _NO_FACES,
    ),
)

MAGICMIRROR = _BLOCKS + _BRANCH
