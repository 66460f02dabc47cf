"""Finding what to convert: a model folder, a pipeline folder, one file, or a repository of the Hugging Face hub."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.conversion import pickles, safetensors_io
from mmjax.conversion.recognise import LORA, PARTS, hub_id, is_adapter
from mmjax.errors import ConversionError

DIFFUSERS = "diffusion_pytorch_model"  # how diffusers names a model's files, before the number and the suffix
TRANSFORMERS = "model"
_PICKLED = {TRANSFORMERS: "pytorch_model"}  # transformers named its pickles otherwise
_FILE = (  # of a model's weights or their index, with its variant where it has one
    r"{stem}(\.(?P<variant>[A-Za-z0-9_]+))?(-\d+-of-\d+)?\.{suffix}(\.index(\.(?P<indexed>[A-Za-z0-9_]+))?\.json)?"
)
_TOKENIZERS = ("spiece.model", "tokenizer.json", "vocab.json")  # any is enough; the last with merges.txt
_TOKENIZER_FILES = (*_TOKENIZERS, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

ReadConfig = Callable[[dict[str, Any], str], Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened source: its configuration record, what tensors it has, and how to read one of them.

    files: what it is made of, for the manifest. tokenizer: the files of the tokenizer that is published with it.
    notes: sentences on a choice that was made among its files.
    """

    name: str
    config: Any
    tensors: Mapping[str, Any]  # key -> something with .shape and .dtype
    read: Callable[[str], np.ndarray]
    files: tuple[Path, ...]
    tokenizer: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def open_diffusers(source: str, subfolder: str, read_config: ReadConfig) -> Source:
    """Opens a model of diffusers: `open_model` with the file names that diffusers gives."""
    return open_model(source, subfolder, read_config, DIFFUSERS)


def open_model(source: str, subfolder: str, read_config: ReadConfig, stem: str = TRANSFORMERS) -> Source:
    """Opens a published model: headers and `config.json` are read, tensors are not.

    Args:
      source: the model's folder, a pipeline's folder that holds it as `subfolder`, one weights file with `config.json`
        beside it, or a hub id such as `zai-org/CogVideoX-5b`.
      subfolder: its name in a pipeline.
      read_config: `(config.json's content, name for messages) -> record`.
      stem: of the names of its files; `STEM.safetensors`, or shards with `STEM.safetensors.index.json`. Torch pickles
        are read when there are no safetensors.

    Raises:
      ConversionError: nothing to read, or something that is damaged.
    """
    path = Path(source)
    if path.is_file():
        folder, files, notes = path.parent, [path], []
    else:
        folder = _model_folder(path if path.is_dir() else _download_model(source, subfolder, stem), subfolder)
        files, notes = None, []
    published = read_json(folder / "config.json")
    config = _record(published, folder, subfolder, read_config)
    if files is None:
        files, notes = _weight_files(folder, stem)
    tensors, read = open_tensors(files)
    return Source(
        name=path.resolve().name if path.exists() else source,
        config=config,
        tensors=tensors,
        read=read,
        files=(folder / "config.json", *files),
        tokenizer=_tokenizer_beside(folder),
        notes=tuple(notes),
    )


def open_tensors(files: list[Path]) -> tuple[Mapping[str, Any], Callable[[str], np.ndarray]]:
    """(every tensor of the files by its key, how to read one). Raises `ConversionError` for a file of no known kind."""
    strange = [file for file in files if file.suffix not in (".safetensors", ".bin", ".pt", ".pth")]
    if strange:
        raise ConversionError(f"{strange[0]}: expected a .safetensors file, or the folder of a model")
    if files[0].suffix == ".safetensors":
        headers = safetensors_io.read_headers(files)
        return headers, lambda key: safetensors_io.read_tensor(headers[key])
    tensors = safetensors_io.merged({file: pickles.tensors(file, pickles.load(file)) for file in files})
    return tensors, lambda key: tensors[key].read()


def download(source: str, patterns: Iterable[str]) -> Path:
    """The files of a hub repository that match, in the hub's cache. Raises `ConversionError` when it has none."""
    if not hub_id(source):
        raise ConversionError(f"{source}: no such file or folder, and no hub id (owner/name) either")
    try:
        import huggingface_hub

        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client lets its HTTP library's errors through, which change between releases
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConversionError(
            f"{source}: no such folder here, and it could not be downloaded from the hub ({reason}). "
            "Check the name and the connection, or download the repository elsewhere and give its folder"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object of a published JSON file. Raises `ConversionError` when it is not there or is none."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file. It says which variant the weights are; put it beside them")
    if safetensors_io.is_lfs_pointer(path):
        raise ConversionError(f"{path}: expected JSON, found a git-lfs pointer. Download the file itself")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: expected JSON: {error}. Download it again") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _model_folder(folder: Path, subfolder: str) -> Path:
    if (folder / "config.json").is_file():
        return folder
    if (folder / subfolder / "config.json").is_file():
        return folder / subfolder
    found = sorted(path.name for path in folder.iterdir())
    hint = f". {LORA}" if any(is_adapter(name) for name in found) else ""
    raise ConversionError(
        f"{folder}: expected config.json, or {subfolder}/config.json as in a pipeline's folder; "
        f"found {', '.join(found) or 'nothing'}{hint}"
    )


def _download_model(source: str, subfolder: str, stem: str) -> Path:
    """A model of a repository, which is a pipeline's or its own; pickles only where there is nothing else."""
    places = [f"{subfolder}/", ""]
    names = ["config.json", f"{stem}*.safetensors", f"{stem}*.index*.json"]
    text = [*_TOKENIZER_FILES, *(f"tokenizer/{name}" for name in _TOKENIZER_FILES)] if stem == TRANSFORMERS else []
    folder = download(source, [place + name for place in places for name in names] + text)
    if any(any((folder / place).glob(f"{stem}*.safetensors")) for place in places):
        return folder
    pickled = _PICKLED.get(stem, stem)
    return download(source, [place + name for place in places for name in (f"{pickled}*.bin", f"{pickled}*.json")])


def _weight_files(folder: Path, stem: str) -> tuple[list[Path], list[str]]:
    """(the model's files, notes on what was chosen): the plain weights, where variants such as fp16 lie beside them."""
    for name, suffix in ((stem, "safetensors"), (_PICKLED.get(stem, stem), "bin")):
        plain, variants = _by_variant(folder, name, suffix)
        if not plain and len(variants) > 1:
            raise ConversionError(
                f"{folder}: found the variants {', '.join(variants)} of the weights and no plain ones; keep the files "
                "of one of them, or give the one file you mean as the source"
            )
        chosen = "" if plain else next(iter(variants), None)
        if chosen is None:
            continue
        stems = {"": name} | {variant: f"{name}.{variant}" for variant in variants}
        files = _named_files(folder, stems[chosen], suffix, chosen)
        left = [variant for variant in variants if variant != chosen]
        if left:
            return files, [f"took the plain weights and left out the variants beside them: {', '.join(left)}"]
        return files, [f"took the {chosen} variant of the weights, the only one there is"] if chosen else []
    raise ConversionError(_nothing_to_read(folder, stem))


def _by_variant(folder: Path, stem: str, suffix: str) -> tuple[bool, list[str]]:
    """(whether there are plain files, the variants of which there are files), of a model's weights and indices.

    diffusers writes STEM.fp16.safetensors, STEM.fp16-00001-of-00002.safetensors and
    STEM.safetensors.index.fp16.json for a variant `fp16`.
    """
    found = set()
    for file in folder.glob(f"{stem}*"):
        match = re.fullmatch(_FILE.format(stem=re.escape(stem), suffix=suffix), file.name)
        if match and file.is_file():  # no folder of that name, no link to nothing
            found.add(match["variant"] or match["indexed"] or "")
    return "" in found, sorted(found - {""})


def _named_files(folder: Path, stem: str, suffix: str, variant: str = "") -> list[Path]:
    """The files of the index, or the only one there is, or none.

    Raises `ConversionError` when shards are missing or when there is a choice.
    """
    name = stem.removesuffix(f".{variant}") if variant else stem
    index = folder / f"{name}.{suffix}.index{f'.{variant}' if variant else ''}.json"
    indices = [path for path in (index, folder / f"{stem}.{suffix}.index.json") if path.is_file()]
    if indices:
        names = sorted(set(safetensors_io.weight_map(indices[0]).values()))
        lost = [name for name in names if not (folder / name).is_file()]
        if lost:
            raise ConversionError(
                f"{folder}: {indices[0].name} names {len(names)} shards, {len(lost)} of them are not there: "
                f"{', '.join(lost)}. The download is incomplete: fetch these files again"
            )
        return [folder / name for name in names]
    whole = folder / f"{stem}.{suffix}"
    files = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-*.{suffix}"))
    if len(files) > 1:
        raise ConversionError(
            f"{folder}: found {', '.join(file.name for file in files)} and no index that says how they belong "
            f"together. Fetch the *.{suffix}.index.json as well, or give the one file you mean as the source"
        )
    return files


def _nothing_to_read(folder: Path, stem: str) -> str:
    found = sorted(path.name for path in folder.iterdir())
    message = f"{folder}: expected {stem}.safetensors or its shards, found {', '.join(found) or 'nothing'}. "
    if any(is_adapter(name) for name in found):
        return message + LORA
    return message + "Give the folder that holds the model's config.json and its weights"


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files of the tokenizer in this folder. Raises `ConversionError` when there is none, or only a pointer."""
    files = tuple(folder / name for name in _TOKENIZER_FILES if (folder / name).is_file())
    if not any(file.name in _TOKENIZERS for file in files):
        found = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no folder"
        raise ConversionError(
            f"{folder}: expected a tokenizer ({' or '.join(_TOKENIZERS[:2])}), found {found or 'nothing'}"
        )
    for file in files:
        if safetensors_io.is_lfs_pointer(file):
            raise ConversionError(f"{file}: expected a tokenizer, found a git-lfs pointer. Download the file itself")
    return files


def _tokenizer_beside(folder: Path) -> tuple[Path, ...]:
    """The tokenizer in a model's folder or, as in a pipeline, beside it; nothing when there is none."""
    for place in (folder / "tokenizer", folder.resolve().parent / "tokenizer", folder):
        if any((place / name).is_file() for name in _TOKENIZERS):
            return tokenizer_files(place)
    return ()


def _record(published: dict[str, Any], folder: Path, subfolder: str, read_config: ReadConfig) -> Any:
    """The record of a published config.json. Raises `ConversionError`, whatever its values are."""
    try:
        _check_part(folder, published, subfolder)
        return read_config(published, str(folder / "config.json"))
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise ConversionError(
            f"{folder / 'config.json'}: expected a model's settings, found values that make none "
            f"({type(error).__name__}: {error}). Download it again"
        ) from error


def _check_part(folder: Path, published: dict[str, Any], subfolder: str) -> None:
    """Refuses another part of the pipeline than the one that is asked for, and names the component it is."""
    name = published.get("_class_name") or next(iter(published.get("architectures") or ()), "")
    part, component = PARTS.get(name, (subfolder, ""))
    if part != subfolder:
        raise ConversionError(
            f"{folder}: expected the {subfolder} of a pipeline, found its {part} ({name}). That is another component: "
            f"python -m mmjax.convert {component} --source {folder}"
        )
