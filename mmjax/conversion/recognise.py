"""What lies at a path that holds something else than was asked for, and what to do about it.

The likeliest mistakes by name: published weights where converted ones are wanted, the hub's cache or a web address in
place of a model, links whose targets are gone, the original SAT checkpoint, a LoRA alone.
"""

import json
import re
from pathlib import Path

from mmjax.errors import ConversionError

MANIFEST = "mmjax.json"
PIPELINE = "cogvideox"  # transformer, VAE and text encoder together; see `mmjax.conversion.pipeline`
ADAPTER = "adapter"  # a trained adapter of ours, which `mmjax.weights.export` writes
PRETRAINED = "pretrained"  # a whole model of ours to give away, which `mmjax.pretrained.packing` writes
PARTS = {  # class of a published config.json -> (folder in a pipeline, our component)
    "CogVideoXTransformer3DModel": ("transformer", "transformer"),
    "AutoencoderKLCogVideoX": ("vae", "vae"),
    "T5EncoderModel": ("text_encoder", "text-encoder"),
    "T5ForConditionalGeneration": ("text_encoder", "text-encoder"),
    "CLIPModel": ("clip", "clip"),
}
LORA = "This looks like a LoRA adapter; its base model is what can be converted"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WEB = re.compile(
    r"(?:https?:/+)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/([\w.-]+/[\w.-]+)|hf:/+([\w.-]+/[\w.-]+)"
)
_NEEDED = {".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".onnx"}
_SAT = ("mp_rank_*_model_states.pt", "*/mp_rank_*_model_states.pt", "transformer/*/mp_rank_*_model_states.pt")
_SAT_VAE = ("3d-vae.pt", "vae/3d-vae.pt")
ADAPTER_FORMAT = "mmjax adapter"  # in the metadata of an exported one's file
_HEAD = 2**16  # bytes at the beginning of a file, which tell what it is
_LORA_KEY = re.compile(rb'"[^"]*(?:lora_[AB]|lora\.(?:up|down)|lora_(?:up|down))[^"]*"')


def hub_id(source: str) -> bool:
    """Whether the text has the form OWNER/NAME of a repository of the hub."""
    return bool(_HUB_ID.fullmatch(source))


def is_adapter(name: str) -> bool:
    """Whether a file of this name is a LoRA adapter's."""
    return "lora" in name or name.startswith("adapter_")


def is_lora(path: Path) -> bool:
    """Whether the file of tensors is a LoRA's, by its name or its keys."""
    return (is_adapter(path.name) and not is_exported_adapter(path)) or bool(_LORA_KEY.search(_head(path)))


def is_exported_adapter(path: Path) -> bool:
    """Whether the file is one that `python -m mmjax.convert adapter` wrote, by its first bytes."""
    return path.is_file() and path.suffix == ".safetensors" and ADAPTER_FORMAT.encode() in _head(path)


def check_source(source: str) -> None:
    """Refuses what cannot be converted as it is named, with what to give instead (`ConversionError`)."""
    path = Path(source)
    if not path.exists() and (name := _WEB.match(source)):
        raise ConversionError(f"{source}: expected a folder or a hub id, found a web address; its id is {name[1]}")
    wrong = _dead_link(path) or _in_the_cache(path) or _sat(path) or _lora(path)
    if not wrong and is_exported_adapter(path):
        wrong = f"expected published weights, found an adapter that mmjax exported: python -m mmjax.convert {ADAPTER}"
    if not wrong and (path / MANIFEST).is_file():
        wrong = "expected published weights, found a folder that mmjax.convert wrote; --reverse writes it as published"
    if wrong:
        raise ConversionError(f"{source}: {wrong}")


def advice(path: str | Path, component: str | None = None) -> str:
    """What lies there and the command that makes converted weights of it; "" where nothing is recognised.

    Args:
      component: which one is wanted, where that is known; it names the command where only its kind is recognised.
    """
    path, text = Path(path), str(path)
    if not path.exists() and not path.is_symlink():
        return _absent(text, component)
    if wrong := _dead_link(path) or _in_the_cache(path) or _sat(path) or _lora(path):
        return wrong
    if found := _converted(path):
        return f"it is a converted {found}"
    if is_exported_adapter(path):
        return "it is an adapter that mmjax exported; give it as --adapter, or as train.adapter"
    what, kind = _published(path)
    if not what:
        return ""
    return f"it is {what}, not converted yet: {_command(kind or component or PIPELINE, text)}"


def _absent(text: str, component: str | None) -> str:
    if name := _WEB.match(text):
        return f"it is a web address; convert what is there first: {_command(component or PIPELINE, name[1])}"
    if hub_id(text) and not Path(text).parent.exists():
        command = _command(component or PIPELINE, text)
        return f"there is no such folder; the weights of a hub id are converted first: {command}"
    return "there is no such folder"


def _command(component: str, source: str) -> str:
    return f"python -m mmjax.convert {component} --source {source} --output DIR"


def _dead_link(path: Path) -> str:
    """Of the path itself, or of a file that conversion would need in it or one folder below."""
    places = [path] if path.is_symlink() else []
    if path.is_dir():
        places += [each for each in sorted((*path.glob("*"), *path.glob("*/*"))) if each.suffix in _NEEDED]
    lost = [each for each in places if each.is_symlink() and not each.exists()]
    if not lost:
        return ""
    return (
        f"expected files, found links without targets, such as {lost[0].name} -> {lost[0].readlink()}: a snapshot that "
        "was copied out of the hub's cache without its blobs. Copy it with cp -rL, or download it again"
    )


def _in_the_cache(path: Path) -> str:
    """Of the hub's cache as a whole, or of one repository in it, whose files lie under snapshots/."""
    if path.name.startswith("models--") and (path / "snapshots").is_dir():
        there = sorted(each for each in (path / "snapshots").iterdir() if each.is_dir())
        give = f"give the snapshot in it: {there[-1]}" if there else "it holds no snapshot: download it again"
        return f"expected a model, found a repository in the hub's cache; {give}"
    if path.is_dir() and (there := sorted(path.glob("models--*"))):
        names = ", ".join(each.name.removeprefix("models--").replace("--", "/") for each in there[:5])
        return f"expected a model, found the hub's cache; give one of its repositories by id: {names}"
    return ""


def _sat(path: Path) -> str:
    """Of the original checkpoint as THUDM published it, of DeepSpeed's or its autoencoder's files."""
    file = path.is_file() and re.fullmatch(r"mp_rank_\d+_model_states\.pt|3d-vae\.pt", path.name)
    folder = path.is_dir() and any(any(path.glob(pattern)) for pattern in (*_SAT, *_SAT_VAE))
    if not (file or folder):
        return ""
    return (
        "expected diffusers' layout, found the original SAT checkpoint, whose weights are laid out otherwise; take the "
        "diffusers folder of the same model: zai-org/CogVideoX-2b, CogVideoX-5b or CogVideoX1.5-5B on the hub"
    )


def _lora(path: Path) -> str:
    """Of a LoRA's file, by its name or its keys, or a folder that holds nothing but one."""
    if path.is_dir():
        there = sorted(path.iterdir())
        weights = [each for each in there if each.is_dir() or each.suffix in (".safetensors", ".bin")]
        alone = any(is_adapter(each.name) for each in there) and all(is_adapter(each.name) for each in weights)
        return f"found {', '.join(each.name for each in there)}. {LORA}" if alone else ""
    if not path.is_file() or path.suffix != ".safetensors":
        return ""
    return f"found a LoRA's tensors. {LORA}" if is_lora(path) else ""


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _converted(path: Path) -> str:
    """The component of a converted folder."""
    values = _json(path / MANIFEST)
    return str(values.get("component", "something")) if values else ""


def _published(path: Path) -> tuple[str, str]:
    """(what it is, the component that it is converted as, "" where the file does not say)."""
    if path.is_file():
        name = path.name.lower()
        if "photomaker" in name:
            return "PhotoMaker's published file", "photomaker"
        if path.suffix == ".onnx":
            return "an ONNX file", "arcface"
        return ("a weights file" if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".ckpt") else "", "")
    if (path / "model_index.json").is_file():
        kind = _json(path / "model_index.json").get("_class_name", "diffusers")
        return f"a published {kind}", PIPELINE
    config = _json(path / "config.json")
    for name in (config.get("_class_name"), *_listed(config.get("architectures"))):
        if isinstance(name, str) and name in PARTS:
            return f"a published {name}", PARTS[name][1]
    if config.get("_class_name") or config.get("architectures") or config.get("model_type"):
        return "another published model", ""
    if any(path.glob("photomaker*.bin")) or any(path.glob("photomaker*.safetensors")):
        return "PhotoMaker's published folder", "photomaker"
    return "", ""


def _listed(value) -> list:
    return value if isinstance(value, list) else []


def _json(path: Path) -> dict:
    """The object of a JSON file, {} where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
