"""A page to try a model: photos in, a prompt, and a video of the person out; several people may use it at once.

    python -m mmjax.demo --model mini
    python -m mmjax.demo --model weights/5b --adapter runs/mine --host 0.0.0.0 --auth me:PASSWORD

It answers on this machine alone, unless --host or --share has it answer others too, for which --auth must be given.
Jobs wait in one queue and go on when the page is closed. From Python:

    mmjax.demo("mini")                                # until Ctrl-C
    with mmjax.demo("mini", block=False) as server:   # or beside other work
        print(server.url)
"""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmjax import callable_command, cli, inspect
from mmjax.credentials import Signer, signer_of_flags
from mmjax.errors import ConfigError, exits_cleanly
from mmjax.sample import RESPONSIBLE_USE
from mmjax.sampling import Sampler, checked_size, load_sampler
from mmjax.sampling.devices import mesh_of_flag
from mmjax.serving.address import LOCAL, Address
from mmjax.serving.engine import Engine
from mmjax.serving.form import offer_of
from mmjax.serving.limits import Limits
from mmjax.serving.residency import CHOICES, chosen_residency
from mmjax.validation import Number

if TYPE_CHECKING:
    from mmjax.serving.server import Server

_MODEL = ("adapter", "weights", "step", "photomaker", "face_models", "precision", "low_memory", "strict", "mesh")


def demo(
    model: str | os.PathLike | Sampler,
    *,
    host: str = LOCAL[0],
    port: int | None = None,
    share: bool = False,
    auth: Mapping[str, str] | None = None,
    keep_minutes: float = 60,
    text_encoder: str = "auto",
    signer: Signer | None = None,
    open_browser: bool = False,
    block: bool = True,
    **loading,
) -> "Server":
    """Serves a page to try a model.

    Args:
      model: what `load_sampler` takes as its folder, or a sampler.
      host, port: where the page answers; by default on this machine alone, at the first free port from 7860 on.
      share: at a public address as well, through Gradio's servers.
      auth: passwords by name, without which nobody is let in; where others could reach the page there must be some.
      keep_minutes: after which pictures and videos of a person are removed.
      text_encoder: "resident" on the device, "released" after each prompt, or "auto": resident where it fits.
      signer: signs videos and sheets (`mmjax.credentials.open_signer`).
      block: serve until the process is interrupted; otherwise `server.close()` ends it.
      **loading: arguments of `load_sampler`, such as `adapter`.

    Raises:
      ConfigError: no Gradio, a page that others reach without a password, a port that is taken.
      CheckpointError: a model that cannot be read.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError('the page needs Gradio: pip install "mmjax[demo]"')
    from mmjax.serving.server import Server  # its libraries come with Gradio

    address = Address(host, port, share, auth)
    address.check()
    sampler = model if isinstance(model, Sampler) else load_sampler(model, **loading)
    offer = offer_of(sampler.config, Limits(keep_seconds=60 * keep_minutes))
    sampler.resident, about = chosen_residency(sampler, text_encoder, checked_size(sampler.config))
    if about:
        print(about, flush=True)
    engine = Engine(sampler, signer)
    engine.warm_up()
    use = RESPONSIBLE_USE.removeprefix("note: ")
    texts = {"responsible_use": use[0].upper() + use[1:], "about": about}
    texts["model"] = f"Model: {os.path.basename(os.fspath(sampler.source.get('model', 'a model')))}."
    server = Server(engine, offer, inspect.settings_of, address, texts, open_browser)
    print(f"open {server.shared_url or server.url} in a browser; Ctrl-C ends it", flush=True)
    if block:
        with server:
            server.wait()
    return server


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Serves the page until it is interrupted. Anything that the user can mend ends in one line and status 2."""
    args = _parser().parse_args(argv)
    auth = _passwords(args.auth)
    cli.keep_compiled_programs(args.compilation_cache)
    signer = signer_of_flags(args.c2pa_cert, args.c2pa_key)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what people left is removed
    loading = {name: getattr(args, name) for name in _MODEL}
    given = {name: getattr(args, name) for name in ("host", "port", "share", "keep_minutes", "text_encoder")}
    demo(args.model, auth=auth, signer=signer, open_browser=args.open, **given, **loading)


def _passwords(given: Sequence[str]) -> Mapping[str, str] | None:
    """Passwords by name, of NAME:PASSWORD. Raises `ConfigError`."""
    found = {}
    for each in given:
        name, _, password = each.partition(":")
        if not name or len(password) < 8:
            raise ConfigError("--auth: expected NAME:PASSWORD, with eight letters of password or more; found less")
        found[name] = password
    return found or None


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = cli.Parser(prog="python -m mmjax.demo", description=__doc__, formatter_class=style)
    add = parser.add_argument_group("model").add_argument
    told = "converted weights, the workdir of a run, or the name of a model that comes with mmjax (default: mini)"
    add("--model", type=cli.path, default="mini", metavar="DIR|NAME", help=told)
    add("--adapter", type=cli.path, metavar="RUN|FILE", help="workdir of a run, or its exported adapter")
    add("--weights", choices=("ema", "raw"), default="ema", help="averaged weights where there are any, or raw ones")
    add("--step", type=cli.checkpoint_step, metavar="N", help="checkpoint to use, or best (default: the last)")
    add("--photomaker", type=cli.path, metavar="DIR", help="converted PhotoMaker V2 weights")
    add("--face-models", type=cli.path, metavar="PACK", help="insightface model pack, by name or folder")
    add("--lenient", dest="strict", action="store_false", help="take pictures that are small, blurred or turned away")
    add("--precision", help="bfloat16 or float32")
    add("--mesh", type=mesh_of_flag, metavar="AXIS=N", help="devices along data, fsdp, tensor and context")
    add("--low-memory", action="store_true", help="weights wait in host memory, the decoder works in tiles; slower")
    told = (
        "resident: it stays on the device; released: it goes after each prompt, and is read again for the next; auto: "
    )
    add("--text-encoder", choices=CHOICES, default="auto", help=told + "resident where it fits (default)")
    kept = "keep compiled programs (default: %(default)s)"
    add("--compilation-cache", type=cli.path, metavar="DIR", default=cli.PROGRAMS, help=kept)
    add = parser.add_argument_group("page").add_argument
    add(
        "--host", default=LOCAL[0], help="address to answer on; 0.0.0.0 is all of this machine's (default: %(default)s)"
    )
    add("--port", type=Number(int, 1, 65535), help="default: the first free one from 7860 on")
    add("--share", action="store_true", help="a public address for 72 hours, through Gradio's servers")
    auth = "who may use the page, once for each; over http a password can be overheard"
    add("--auth", action="append", default=[], metavar="NAME:PASSWORD", help=auth)
    kept = "after which pictures and videos of a person are removed (default: %(default)s)"
    add("--keep-minutes", type=Number(float, 1, 60 * 24 * 365), default=60, metavar="N", help=kept)
    add("--open", action="store_true", help="open the page in a browser")
    add("--c2pa-cert", type=cli.path, metavar="FILE", help="sign videos and sheets: certificate chain in PEM")
    add("--c2pa-key", type=cli.path, metavar="FILE", help="its private key in PEM, without a password")
    return parser


callable_command(__name__)

if __name__ == "__main__":
    main()
