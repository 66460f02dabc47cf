"""Faults of the training step, the optimizer and the state, and of the denoising loop of sampling."""

from tests.planted_faults.fault import Fault

TERMS = "mmjax/training/objectives/terms.py"
STEP, OPTIMIZER = "mmjax/training/step.py", "mmjax/training/optimizer.py"
DIFFUSION = "mmjax/training/tasks/diffusion.py"
CONDITIONING = "mmjax/diffusion/conditioning_dropout.py"
STATE, DENOISER = "mmjax/training/state.py", "mmjax/sampling/denoiser.py"

_STEP = "tests/training/test_step.py"
_GRADIENTS = ("tests/models/test_magicmirror_reference.py::test_loss_and_gradients_under_conditioning_dropout[full]",)
_DROPPED = (f"{_STEP}::test_dropped_conditions_are_replaced",)
_MICRO = (f"{_STEP}::test_micro_batches_give_the_step_of_the_whole_batch",)
_MICRO_GRADIENTS = (f"{_STEP}::test_micro_batches_give_the_gradients_of_the_whole_batch",)
_METRICS = (f"{_STEP}::test_metrics_say_what_they_should",)
_CHANCE = (f"{_STEP}::test_chance_depends_on_the_step_alone",)
_AVERAGE = (f"{_STEP}::test_the_average_forgets_the_start",)
_MOVES = (f"{_STEP}::test_only_trained_leaves_move",)
_VALIDATION = (f"{_STEP}::test_validation_is_the_same_each_time_and_covers_the_schedule",)
_PATCHES = (f"{_STEP}::test_a_picture_trains_a_model_with_temporal_patches",)
_SHARES = (f"{_STEP}::test_every_device_keeps_its_own_samples_of_a_micro_batch",)
_AFTER = (f"{_STEP}::test_average_and_change_are_of_the_new_weights",)
_WHOLE = (f"{_STEP}::test_latents_and_masks_fill_whole_temporal_patches",)
_OPTIMIZER = ("tests/training/test_optim.py",)
_STATE = "tests/training/test_state.py"
_KEYS = (f"{_STATE}::test_each_use_of_chance_has_its_own_key_and_all_depend_on_the_seed",)
_TAKEN = (f"{_STATE}::test_the_average_is_taken_where_there_is_one_and_it_is_asked_for",)
_DENOISER = ("tests/sampling/test_denoiser.py",)
_PAIR = ("tests/models/test_magicmirror_reference.py::test_what_both_halves_of_the_guidance_pair_receive",)
_CLI = "tests/sampling/test_sample_cli.py"
_SEEDS = (f"{_CLI}::test_a_clip_depends_neither_on_its_neighbours_nor_on_the_mesh",)
_CLIP = (f"{_CLI}::test_identity_prompt_and_weights_reach_the_clip",)

_TRAINING = (
    Fault(
        "gradients of micro-batches are not divided by their number",
        STEP,
        "jax.tree.map(lambda leaf: leaf / pieces, optimizer.float32(grads))",
        "optimizer.float32(grads)",
        _MICRO_GRADIENTS,
    ),
    Fault(
        "the loss of micro-batches is not divided by their number",
        STEP,
        "return (loss / pieces, jax.tree.map(",
        "return (loss, jax.tree.map(",
        _MICRO,
    ),
    Fault(
        "micro-batches are summed but for the first",
        STEP,
        "jax.lax.scan(lambda total, piece: (jax.tree.map(jnp.add, total, function(piece)), None), zeros, pieces)[0]",
        "jax.lax.scan(lambda total, piece: (function(piece), None), zeros, pieces)[0]",
        _MICRO,
    ),
    Fault(
        "a device gives its samples away in a micro-batch",
        STEP,
        "leaf = leaf.reshape(leaf.shape[0] // pieces, pieces, *leaf.shape[1:]).swapaxes(0, 1)",
        "leaf = leaf.reshape(pieces, leaf.shape[0] // pieces, *leaf.shape[1:])",
        _SHARES,
    ),
    Fault(
        "every training step has the same noise",
        STEP,
        "objective.draw(jax.random.fold_in(key, state.step), batch)",
        "objective.draw(jax.random.fold_in(key, 0), batch)",
        _CHANCE,
    ),
    Fault(
        "the model sees the clean latents",
        DIFFUSION,
        "kept, noisy, t)",
        'kept, batch["latents"], t)',
        _GRADIENTS,
    ),
    Fault(
        "the loss compares with the noise",
        DIFFUSION,
        "schedule, noisy, v, target)",
        "schedule, noisy, v, draws.noise)",
        _GRADIENTS,
    ),
    Fault(
        "the loss does not look at the face region",
        TERMS,
        'prediction.batch["face_mask"], prediction.draws.face_region',
        'prediction.batch["face_mask"], ~prediction.draws.face_region',
        _GRADIENTS,
    ),
    Fault(
        "the empty prompt keeps its class word",
        CONDITIONING,
        'batch["class_mask"] & keep_text[:, None]',
        'batch["class_mask"]',
        _DROPPED,
    ),
    Fault(
        "the text is dropped with the identity",
        CONDITIONING,
        "jnp.where(keep_text[:, None, None]",
        "jnp.where(keep_identity[:, None, None]",
        _DROPPED,
    ),
    Fault(
        "identity is never dropped",
        CONDITIONING,
        ', "keep_identity": keep_identity}',
        "}",
        _DROPPED,
    ),
    Fault(
        "the moving average is of the weights before the step",
        STEP,
        "_average(state.ema, trained, state.step",
        "_average(state.ema, state.trained, state.step",
        _AFTER,
    ),
    Fault(
        "the moving average weighs old and new the wrong way round",
        STEP,
        "decay * old + (1.0 - decay) * new",
        "(1.0 - decay) * old + decay * new",
        _AVERAGE,
    ),
    Fault(
        "the moving average remembers its random start",
        STEP,
        "    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))\n",
        "",
        _AVERAGE,
    ),
    Fault(
        "the step is not counted",
        STEP,
        "step=state.step + 1,",
        "step=state.step,",
        _MOVES,
    ),
    Fault(
        "the optimizer's state is thrown away",
        STEP,
        "opt_state=opt_state",
        "opt_state=state.opt_state",
        _MICRO,
    ),
    Fault(
        "the norm of the gradient is that of the parameters' change",
        STEP,
        '"grad_norm": grad_norm',
        '"grad_norm": optax.tree.norm(updates)',
        _MICRO_GRADIENTS,
    ),
    Fault(
        "the norm of the change is that of the gradient",
        STEP,
        '"update_norm": jnp.where(finite, optax.tree.norm(updates), 0.0)',
        '"update_norm": jnp.where(finite, optax.tree.norm(grads), 0.0)',
        _AFTER,
    ),
    Fault(
        "the norm of the parameters is that of the gradient",
        STEP,
        '"param_norm": optax.tree.norm(weights)',
        '"param_norm": optax.tree.norm(grads)',
        _METRICS,
    ),
    Fault(
        "the learning rate that is reported is that of the next step",
        STEP,
        '"learning_rate": rate(state.step)',
        '"learning_rate": rate(state.step + 1)',
        _METRICS,
    ),
    Fault(
        "latents are padded to whole patches and masks are not",
        DIFFUSION,
        'padded = ("latents", "face_mask")',
        'padded = ("latents",)',
        _WHOLE,
    ),
    Fault(
        "validation draws for a schedule of as many steps as samples",
        DIFFUSION,
        'fixed_draws(key, numbers, total, batch["latents"].shape, steps)',
        'fixed_draws(key, numbers, steps, batch["latents"].shape, steps)',
        _VALIDATION,
    ),
    Fault(
        "gradients are not clipped",
        OPTIMIZER,
        "        optax.clip_by_global_norm(optim.clip_norm),\n",
        "",
        _OPTIMIZER,
    ),
    Fault(
        "gradients are clipped by value",
        OPTIMIZER,
        "optax.clip_by_global_norm(optim.clip_norm)",
        "optax.clip(optim.clip_norm)",
        _OPTIMIZER,
    ),
    Fault(
        "weight decay is for everything",
        OPTIMIZER,
        "        mask=lambda params: trees.match(DECAYED, params),\n",
        "",
        _OPTIMIZER,
    ),
    Fault(
        "the first step has a learning rate of zero",
        OPTIMIZER,
        "optax.linear_schedule(optim.learning_rate / (warmup + 1), optim.learning_rate, warmup)",
        "optax.linear_schedule(0.0, optim.learning_rate, warmup)",
        _OPTIMIZER,
    ),
    Fault(
        "the cosine is as long as the run, not as what is left after the warm-up",
        OPTIMIZER,
        "max(steps - warmup, 1)",
        "max(steps, 1)",
        _OPTIMIZER,
    ),
    Fault(
        "the learning rate falls to zero",
        OPTIMIZER,
        ", alpha=optim.final_fraction)",
        ")",
        _OPTIMIZER,
    ),
    Fault(
        "both moments decay at one rate",
        OPTIMIZER,
        "b2=optim.beta2,",
        "b2=optim.beta1,",
        _OPTIMIZER,
    ),
    Fault(
        "training and validation share a random stream",
        STATE,
        "(*jax.random.split(random_key(seed), ",
        "(*[random_key(seed)] * (",
        _KEYS,
    ),
    Fault(
        "the seed of an experiment is not looked at",
        STATE,
        "jax.random.split(random_key(seed), ",
        "jax.random.split(jax.random.key(0), ",
        _KEYS,
    ),
    Fault(
        "the average begins at zero",
        STATE,
        "average = jax.tree.map(jnp.copy, optimizer.float32(trained))",
        "average = jax.tree.map(jnp.zeros_like, optimizer.float32(trained))",
        (f"{_STATE}::test_the_average_starts_equal_but_shares_no_memory",),
    ),
    Fault(
        "sampling takes the raw weights where the average is asked for",
        STATE,
        "return self.trained if self.ema is None else sharding.on_device(self.ema)",
        "return self.trained",
        _TAKEN,
    ),
    Fault(
        "loaded weights are drawn over",
        STATE,
        "trees.unflatten({**drawn, **known})",
        "trees.unflatten({**known, **drawn})",
        (f"{_STATE}::test_a_converted_base_is_loaded_and_only_the_rest_is_drawn",),
        "only the leaves that are not loaded are drawn, so nothing is there to be drawn over",
    ),
)

_SAMPLING = (
    Fault(
        "the unconditional half keeps its identity",
        DENOISER,
        '"keep_identity": np.zeros_like(positive["keep_identity"])',
        '"keep_identity": positive["keep_identity"]',
        _PAIR,
    ),
    Fault(
        "the unconditional half keeps its text",
        DENOISER,
        'np.broadcast_to(null_text, positive["text"].shape)',
        'np.broadcast_to(positive["text"], positive["text"].shape)',
        _PAIR,
    ),
    Fault(
        "the unconditional half has a class word",
        DENOISER,
        '"class_mask": np.zeros_like(positive["class_mask"])',
        '"class_mask": positive["class_mask"]',
        _PAIR,
        "its identity is dropped, and the fusion asks both",
    ),
    Fault(
        "the unconditional half is as weak as the identity",
        DENOISER,
        'nothing["identity_scale"] = np.ones(count, np.float32)',
        'nothing["identity_scale"] = positive["identity_scale"]',
        _PAIR,
    ),
    Fault(
        "the identity scale is not handed on",
        DENOISER,
        "if self.config.sampling.identity_scale != 1:",
        "if self.config.sampling.identity_scale > 1:",
        _PAIR,
    ),
    Fault(
        "the halves are handed to guidance in the other order",
        DENOISER,
        "guidance.guided(predict, negative, positive, self.config.sampling)",
        "guidance.guided(predict, positive, negative, self.config.sampling)",
        _PAIR,
    ),
    Fault(
        "both halves are the positive one",
        DENOISER,
        "return positive, positive | nothing",
        "return positive, nothing | positive",
        _PAIR,
    ),
    Fault(
        "samples without identity have theirs all the same",
        DENOISER,
        'np.asarray(batch.get("keep_identity", np.ones(count, bool)))',
        "np.ones(count, bool)",
        _DENOISER,
    ),
    Fault(
        "all samples have the first one's seed",
        DENOISER,
        "samplers.sample_keys(seed, np.arange(1))[0] for seed in seeds]",
        "samplers.sample_keys(seeds[0], np.arange(1))[0] for seed in seeds]",
        _SEEDS,
    ),
    Fault(
        "a sample's noise depends on its place in the batch",
        DENOISER,
        "samplers.sample_keys(seed, np.arange(1))[0] for seed in seeds]",
        "samplers.sample_keys(seed, np.arange(9))[number % 9] for number, seed in enumerate(seeds)]",
        _SEEDS,
    ),
    Fault(
        "starting noise that is given is not looked at",
        DENOISER,
        "samplers.starting_noise(keys, shape) if noise is None else self._checked(",
        "samplers.starting_noise(keys, shape) if noise is not None else self._checked(",
        _PAIR,
    ),
    Fault(
        "the frames added for whole patches are cut off at the end",
        DENOISER,
        "return np.asarray(latents)[:, first:]",
        "return np.asarray(latents)[:, : latents.shape[1] - first]",
        _DENOISER,
    ),
    Fault(
        "the last denoising step is not made",
        DENOISER,
        "for done, step in enumerate(self._steps, 1):",
        "for done, step in enumerate(self._steps[:-1] or self._steps, 1):",
        (f"{_CLI}::test_progress_does_not_change_the_clip",),
    ),
    Fault(
        "every step is the first one",
        DENOISER,
        "state = advance(params, step, state, positive, negative, keys)",
        "state = advance(params, self._steps[0], state, positive, negative, keys)",
        ("tests/sampling/test_photo_to_video.py::test_a_prompt_gives_the_frames_of_diffusers",),
    ),
)

TRAINING, SAMPLING = _TRAINING, _SAMPLING
