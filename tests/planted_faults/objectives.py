"""Faults of the objective: the identity loss, what judges it, and steps that are not finite."""

from tests.planted_faults.fault import Fault

IDENTITY, TERMS = "mmjax/training/objectives/identity.py", "mmjax/training/objectives/terms.py"
JUDGES, ALIGNMENT = "mmjax/training/objectives/judges.py", "mmjax/models/arcface/alignment.py"
VAE, FINITE, STEP = "mmjax/models/cogvideox/vae.py", "mmjax/training/finite.py", "mmjax/training/step.py"
OPTIMIZER = "mmjax/training/optimizer.py"
MAKING = "mmjax/records/making.py"

_LOSS = "tests/training/test_identity_loss.py"
_COSINE = (f"{_LOSS}::test_the_cosine_is_that_of_the_recogniser_on_the_decoded_frame",)
_PART = (f"{_LOSS}::test_who_has_no_part_in_it",)
_STAND = (f"{_LOSS}::test_a_few_samples_stand_for_those_that_are_not_judged",)
_CHOICE = (f"{_LOSS}::test_the_frame_is_one_that_shows_the_face",)
_EQUAL = (f"{_LOSS}::test_each_visible_frame_is_chosen_as_often",)
_CROP = (f"{_LOSS}::test_a_crop_round_the_face_sees_the_same_face",)
_LATENTS = (f"{_LOSS}::test_latents_are_scaled_decoded_and_judged_at_the_frame",)
_GRADIENT = ("tests/training/test_objective.py::test_the_gradient_is_that_of_finite_differences_in_float64",)
_FRONT = (f"{_LOSS}::test_a_latent_frame_in_front_that_fills_a_patch_is_not_counted",)
_TOLD = (f"{_LOSS}::test_judges_that_are_not_there_or_cannot_judge_are_told",)
_FRAME = ("tests/models/test_vae_frame.py",)
_ALIGNED = ("tests/models/test_arcface_alignment.py",)
_WORKDIR = "tests/training/test_workdir.py"
_SKIPPED = (f"{_WORKDIR}::test_skipped_steps_are_told_written_down_and_stop_the_run_in_a_row_alone",)
_AT_ONCE = (f"{_WORKDIR}::test_weights_that_are_not_finite_stop_the_run_at_once",)
_NOT_FINITE = (
    "tests/training/test_train_cli.py::test_steps_that_are_not_finite_are_skipped_until_there_are_too_many[bad0-False]",
)
_MAKING = ("tests/records/test_making.py",)

OBJECTIVES = (
    Fault("noisy samples are judged", IDENTITY, " & (draws.timesteps < self.settings.timesteps)", "", _PART),
    Fault("samples without identity are judged", IDENTITY, " & draws.keep_identity", "", _PART),
    Fault("samples without a face are judged", IDENTITY, "counts = seen.any(axis=1) & ", "counts = ", _PART),
    Fault(
        "the true landmarks are not asked",
        IDENTITY,
        "jnp.where(counts[:, None, None], landmarks, ",
        "(0 * landmarks + ",
        _COSINE,
    ),
    Fault(
        "the true latents are judged",
        IDENTITY,
        "            prediction.x0[:, -own:],\n",
        '            batch["latents"][:, -own:],\n',
        _COSINE,
    ),
    Fault("the velocity is judged", IDENTITY, "prediction.x0[:, -own:]", "prediction.v[:, -own:]", _COSINE),
    Fault(
        "long embeddings weigh more",
        IDENTITY,
        "person = _unit(sample.embeddings).mean(0)",
        "person = sample.embeddings.mean(0)",
        _COSINE,
    ),
    Fault(
        "the frame's person is the predicted one",
        IDENTITY,
        "self._embedding(judges, sample.truth, sample, later)",
        "self._embedding(judges, sample.x0, sample, later)",
        _COSINE,
    ),
    Fault("pixels keep -1 .. 1", IDENTITY, "pixels = 127.5 * (picture + 1)", "pixels = picture", _COSINE),
    Fault(
        "the loss grows with likeness", IDENTITY, "Judged(1 - cosines, judged", "Judged(1 + cosines, judged", _COSINE
    ),
    Fault("latents are not scaled back", IDENTITY, "latents / self.vae.scaling_factor", "latents", _LATENTS),
    Fault(
        "the first frame is always decoded",
        IDENTITY,
        "scaled, sample.frame, later, self.policy",
        "scaled, 0 * sample.frame, later, self.policy",
        _LATENTS,
    ),
    Fault(
        "the frame in front that fills a patch is decoded",
        IDENTITY,
        "prediction.x0[:, -own:]",
        "prediction.x0[:, :own]",
        _FRONT,
    ),
    Fault(
        "landmarks stay where they were in the whole picture",
        IDENTITY,
        "sample.landmarks - corner",
        "sample.landmarks",
        _CROP,
    ),
    Fault("rows and columns of the crop change places", IDENTITY, "[0][::-1] / unit", "[0] / unit", _CROP),
    Fault(
        "a face that the crop cannot hold is judged",
        IDENTITY,
        "return visible & (aligned_square(safe)[1] <= side * self.autoencoder.spatial)",
        "return visible",
        _CROP,
    ),
    Fault(
        "the last frame is never chosen",
        IDENTITY,
        "jnp.floor(uniform * visible.sum(1))",
        "jnp.floor(uniform * (visible.sum(1) - 1))",
        _EQUAL,
    ),
    Fault(
        "a frame without a face is chosen",
        IDENTITY,
        "jnp.cumsum(visible, axis=1) > rank",
        "jnp.cumsum(visible | True, axis=1) > rank",
        _EQUAL,
    ),
    Fault(
        "the largest is the smallest",
        IDENTITY,
        "jnp.where(visible, spread, -1.0)",
        "jnp.where(visible, -spread, -1e9)",
        _CHOICE,
    ),
    Fault(
        "the gradient is not scaled",
        IDENTITY,
        "cotangent[:, None, None, None, None] * gradients",
        "gradients",
        _GRADIENT,
    ),
    Fault("terms are summed without their weights", TERMS, "total += term.weight *", "total +=", _PART),
    Fault("samples that are judged stand for themselves alone", TERMS, "judged.each_for * counted", "counted", _STAND),
    Fault(
        "of the samples that may be judged those are that must not be",
        IDENTITY,
        "jnp.argsort(~own.counts, stable=True)",
        "jnp.argsort(own.counts, stable=True)",
        _STAND,
    ),
    Fault(
        "another recogniser judges by the records' embeddings",
        JUDGES,
        'if config.loss.identity.target == "reference":',
        "if False:",
        _TOLD,
    ),
    Fault(
        "the warp goes the other way", ALIGNMENT, "/ factor + source\n    rows", "* factor + source\n    rows", _ALIGNED
    ),
    Fault(
        "the square's centre is the landmarks'",
        ALIGNMENT,
        "centre = (middle - target) / factor + source",
        "centre = source",
        _ALIGNED,
    ),
    Fault(
        "a group too few goes before the frame's own",
        VAE,
        "jax.lax.fori_loop(0, own, ",
        "jax.lax.fori_loop(1, own, ",
        _FRAME,
    ),
    Fault(
        "the gradient leaves the frame's own group",
        VAE,
        "step(memory, jax.lax.stop_gradient(group))[0]",
        "step(memory, group)[0]",
        _FRAME,
    ),
    Fault(
        "a frame of a later group is looked for in the first",
        IDENTITY,
        "(1 + (sample.frame >= first))",
        "(1 + (sample.frame > first))",
        ("tests/models/test_vae_frame.py", "tests/training/test_identity_loss.py"),
    ),
    Fault("the first group has a frame more", VAE, "return 1 + vae.temporal", "return 2 + vae.temporal", _FRAME),
    Fault(
        "a step that is not finite changes the weights",
        STEP,
        "trained = optimizer.kept(finite, optax.apply_updates(state.trained, updates), state.trained)",
        "trained = optax.apply_updates(state.trained, updates)",
        _NOT_FINITE,
    ),
    Fault(
        "a step that is not finite changes the moments",
        OPTIMIZER,
        "return kept(finite, _moments_in(dtype, new), state), updates",
        "return _moments_in(dtype, new), updates",
        _NOT_FINITE,
    ),
    Fault(
        "skipped steps are counted though others lie between", FINITE, "            self._in_a_row = 0\n", "", _SKIPPED
    ),
    Fault("weights that are not finite are skipped over", FINITE, 'if "param_norm" in wrong or ', "if ", _AT_ONCE),
    Fault("landmarks outside of the frame are valid", MAKING, "return inside & (", "return (", _MAKING),
)
