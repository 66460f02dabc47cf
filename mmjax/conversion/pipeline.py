"""A whole CogVideoX pipeline, both ways: transformer, VAE, text encoder, tokenizer and scheduler in one folder.

    OUTPUT/transformer  OUTPUT/vae  OUTPUT/text_encoder     folders as `convert` writes each
    OUTPUT/text_encoder/tokenizer                           the tokenizer's own files
    OUTPUT/mmjax.json                                       schedule, sampling, sizes; written last

All parts are checked before any is written, and the folder takes its name when all are there.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.config import Sampling, Schedule, Transformer
from mmjax.conversion import folders, plans, scheduler, store
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.recognise import advice, check_source
from mmjax.conversion.registry import PIPELINE, component
from mmjax.conversion.source import download, read_json
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.files import write_json
from mmjax.model_settings import VAE
from mmjax.models.sizes import T5
from mmjax.validation import validated_record
from mmjax.versions import versions

PARTS = {"transformer": "transformer", "vae": "vae", "text_encoder": "text-encoder"}  # folder -> component
_CLASS_NAME = "CogVideoXPipeline"
_INDEX = "model_index.json"
_SCHEDULER = "scheduler/scheduler_config.json"
_PUBLISHED = {  # `model_index.json` of a folder that is written back
    "_class_name": _CLASS_NAME,
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLCogVideoX"],
}
_FPS = {"sincos": 8, "rope": 8, "rope_slice": 16}  # by the transformer's positions; METHOD 1
_LARGEST = {"rope_slice": (768, 1360)}  # of 1.5, whose position grid has more room than its videos take


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What a converted pipeline is made of, without its weights.

    schedule, sampling: as its scheduler says. frames, height, width (pixels), fps: of the videos it was trained on.
    folders: where each part lies, for `load_component`: "transformer", "vae", "text_encoder", and "tokenizer".
    """

    transformer: Transformer
    vae: VAE
    text_encoder: T5
    schedule: Schedule
    sampling: Sampling
    frames: int
    height: int
    width: int
    fps: int
    folders: Mapping[str, Path]


def convert_pipeline(
    source: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> plans.Report:
    """Converts a published CogVideoX pipeline, a diffusers folder or hub id, into a folder that `read_pipeline` reads.

    Arguments as for `convert`. A hub id is downloaded once. Raises `ConversionError` with all that does not fit in any
    part, before anything large is read. Nothing is left behind.
    """
    started, output = time.monotonic(), Path(output)
    check_source(str(source))
    folder = Path(source) if Path(source).exists() else download(str(source), _patterns())
    _check_index(folder)
    parts, settings, notes = _planned(folder, str(source), dtype, tokenizer)
    plans.not_onto_itself(folder, output)
    manifest = {
        "component": PIPELINE,
        **settings,
        "source": {"name": _name(source), "sha256": plans.sha256([folder / _INDEX, folder / _SCHEDULER], folder)},
        "versions": versions(),
        "parts": list(parts),
    }
    with new_folder(output, sum(plan.nbytes for plan in parts.values()), overwrite, PIPELINE) as partial:
        _write_parts(partial, parts, lambda plan, place, written: plan.write(place, written), "converting")
        store.write_manifest(partial, manifest, [partial / part / store.MANIFEST for part in parts])
    notes += [f"{part}: {note}" for part, plan in parts.items() for note in plan.notes()]
    return plans.report(output, parts.values(), time.monotonic() - started, notes)


def convert_pipeline_back(
    source: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = folders.MAX_SHARD_BYTES,
) -> plans.Report:
    """Writes a converted pipeline as a folder that diffusers' `CogVideoXPipeline.from_pretrained` reads.

    Raises `CheckpointError` for a folder that is not complete, `ConversionError` for an output that is taken.
    """
    started, source, output = time.monotonic(), Path(source), Path(output)
    pipeline = read_pipeline(source)
    parts = {part: folders.open_backward(pipeline.folders[part], name, dtype) for part, name in PARTS.items()}
    plans.not_onto_itself(source, output)
    published = scheduler.write_scheduler(pipeline.schedule, pipeline.sampling)
    index = _PUBLISHED | {"scheduler": ["diffusers", published["_class_name"]]}
    nbytes = sum(plan.nbytes for plan in parts.values())
    with new_folder(output, nbytes, overwrite, PIPELINE, published=True) as partial:
        _write_parts(partial, parts, lambda plan, place, done: plan.write(place, done, max_shard_bytes), "writing")
        for file in parts["text_encoder"].tokenizer:
            plans.copy_file(file, partial / plans.TOKENIZER / file.name)
        write_json(partial / _SCHEDULER, published)
        write_json(partial / _INDEX, dict(sorted(index.items())))
    return plans.report(output, parts.values(), time.monotonic() - started)


def read_pipeline(folder: str | Path) -> Pipeline:
    """What a folder of `convert_pipeline` holds; weights are not read.

    Raises:
      CheckpointError: it, or one of its parts, is incomplete or something else.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder, PIPELINE)
    if manifest["component"] != PIPELINE:
        raise CheckpointError(
            f"{folder}: expected a whole converted {PIPELINE}, found a {manifest['component']}; convert all of it: "
            f"python -m mmjax.convert {PIPELINE} --source DIR --output DIR"
        )
    where = {part: folder / part for part in PARTS}
    records = {part: folders.read_record(where[part], name) for part, name in PARTS.items()}
    try:
        return Pipeline(
            **records,
            schedule=validated_record(Schedule, manifest["schedule"]),
            sampling=validated_record(Sampling, manifest["sampling"]),
            **manifest["video"],
            folders=where | {"tokenizer": where["text_encoder"] / plans.TOKENIZER},
        )
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: written by another version of mmjax ({error}); convert it again") from error


def _planned(
    folder: Path, source: str, dtype: str | None, tokenizer: str | Path | None
) -> tuple[dict[str, plans.Forward], dict[str, Any], list[str]]:
    """(each part's plan, the manifest's settings, notes). Raises with the problems of all parts in one error."""
    plans.dtype_of(dtype)
    wrong: list[str] = []

    def attempt(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except ConversionError as error:
            wrong.append(str(error))

    def part_plan(part: str) -> plans.Forward:
        own = tokenizer if part == "text_encoder" else None
        plan = plans.forward(component(PARTS[part]), str(folder / part), dtype, own, f"{_name(source)}/{part}")
        if plan.kind.tokenizer and not plan.source.tokenizer:
            where = folder / plans.TOKENIZER
            raise ConversionError(f"{where}: expected a tokenizer, found none; fetch it, or name one: --tokenizer DIR")
        return plan

    parts = {part: attempt(lambda part=part: part_plan(part)) for part in PARTS}
    schedule = attempt(lambda: _schedule(folder / _SCHEDULER))
    if not wrong:
        records = {part: plan.source.config for part, plan in parts.items()}
        wrong += _apart(**records)
    if wrong:
        raise ConversionError("\n".join([f"{source} as {PIPELINE} does not fit:", *wrong]))
    settings = {
        "schedule": dataclasses.asdict(schedule[0]),
        "sampling": dataclasses.asdict(schedule[1]),
        "video": _video(records["transformer"], records["vae"]),
    }
    return parts, settings, schedule[2]


def _schedule(path: Path) -> tuple[Schedule, Sampling, list[str]]:
    try:
        return scheduler.read_scheduler(read_json(path), str(path))
    except (TypeError, ValueError, AttributeError) as error:
        raise ConversionError(f"{path}: expected a scheduler's settings, found other values ({error})") from error


def _apart(transformer: Transformer, vae: VAE, text_encoder: T5) -> list[str]:
    """How sound parts do not belong together."""
    pairs = [
        ("channels of the latents", "transformer", transformer.latent_channels, "vae", vae.latent_channels),
        ("width of the text", "transformer", transformer.text_dim, "text_encoder", text_encoder.width),
    ]
    return [
        f"{what}: the {one} takes {wanted}, the {other} gives {given}: they are parts of different models"
        for what, one, wanted, other, given in pairs
        if wanted != given
    ]


def _video(transformer: Transformer, vae: VAE) -> dict[str, int]:
    """Size in pixels, frames and frames a second of the videos that the model was trained on."""
    height, width = (side * vae.spatial_compression for side in (transformer.base_height, transformer.base_width))
    most = _LARGEST.get(transformer.position, (height, width))
    return {
        "frames": (transformer.base_frames - 1) * vae.temporal_compression + 1,
        "height": min(height, most[0]),
        "width": min(width, most[1]),
        "fps": _FPS[transformer.position],
    }


def _write_parts(folder: Path, parts: Mapping[str, Any], write: Callable, doing: str) -> None:
    for part, plan in parts.items():
        (folder / part).mkdir()
        with plans.progress(f"{doing} {part}", plan.nbytes) as bar:
            write(plan, folder / part, bar.update)


def _check_index(folder: Path) -> None:
    """Refuses a folder that holds no text-to-video CogVideoX pipeline."""
    if not (folder / _INDEX).is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "a file"
        known = advice(folder) or "a single model is converted by its own name: " + ", ".join(PARTS.values())
        raise ConversionError(
            f"{folder}: expected a pipeline's folder, with {_INDEX}; found {names or 'nothing'}; {known}"
        )
    name = read_json(folder / _INDEX).get("_class_name")
    if name != _CLASS_NAME:
        why = "; image-to-video models take other inputs and are not built" if "ImageToVideo" in str(name) else ""
        raise ConversionError(f"{folder / _INDEX}: expected a {_CLASS_NAME}, found a {name}{why}")


def _patterns() -> list[str]:
    weights = [f"{part}/{name}" for part in PARTS for name in ("config.json", "*.safetensors", "*.index*.json")]
    return [_INDEX, _SCHEDULER, "tokenizer/*", *weights]


def _name(source: str | Path) -> str:
    return Path(source).resolve().name if Path(source).exists() else str(source)
