"""The page: a form, what is being made, and what was made. The one module that knows Gradio.

Every handler answers at once, from what the server knows of the owner: what takes long is the worker's. So none goes
through Gradio's queue, and no message of one person passes where another could listen. Who asks is told by the cookie
of `mmjax.serving.guard`.
"""

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Route

from mmjax.encoders.prompts import CLASS_WORDS
from mmjax.errors import ConfigError, DataError, MMJaxError, error_text
from mmjax.page_style import environment
from mmjax.serving import browser, cards
from mmjax.serving.address import Address
from mmjax.serving.form import (
    COMPARISONS,
    MAX_LIKENESS,
    NAMES,
    ONE,
    PEOPLE,
    PROMPTS,
    AskedVideo,
    Offer,
    asked_videos,
    checked_form,
    size_text,
    with_trigger,
)
from mmjax.serving.guard import Guard, owner_of
from mmjax.serving.jobs import JobStore
from mmjax.serving.routes import ReadFiles
from mmjax.serving.uploads import Uploads

THEME = gr.themes.Default(
    primary_hue="teal", neutral_hue="gray", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
_HEAD = environment().from_string("""
<h1>mmjax</h1>
<p>One photo of a person and a sentence become a video of that person. {{ model }}</p>
<p class="mm-use">{{ responsible_use }}</p>
""")
_ABOUT = environment().from_string("""
<p class="mm-faint">Pictures and videos are kept on this server for {{ kept }} and then removed. Videos go on being made
when this page is closed, and are here when it is opened again in this browser. {{ more }}</p>
""")
_READS = environment().from_string('<p class="mm-reads mm-faint">The model reads: <b>{{ text }}</b></p>')
_COST = environment().from_string('<p class="mm-reads mm-faint">{{ text }}</p>')
_SESSIONS = 256  # of browsers whose newest list is remembered; of more they are only sent again
_FIELDS = (  # of the form, in the order in which handlers get them
    *("prompt", "class_word", "compare", "second_prompt", "likeness", "frames", "size", "steps", "guidance"),
    *("seed", "negative_prompt", "consent"),
)


@dataclasses.dataclass(frozen=True)
class Served:
    """What the page shows and changes.

    check: what is to be said of prompts. about: sentences on model and server.
    """

    offer: Offer
    uploads: Uploads
    store: JobStore
    read_files: ReadFiles
    check: Callable[[Sequence[AskedVideo]], list[str]]
    responsible_use: str
    model: str
    about: str = ""


def make_page(served: Served) -> gr.Blocks:
    """The page, not yet launched."""
    with gr.Blocks(title="mmjax", analytics_enabled=False, fill_width=True) as page:
        heads = {"model": served.model, "responsible_use": served.responsible_use}
        gr.HTML(_HEAD.render(heads), elem_classes="mm-head", js_on_load=None)
        with gr.Row():
            with gr.Column(min_width=320, scale=1):
                parts = _form(served)
            with gr.Column(min_width=320, scale=1):
                gr.Markdown("### Being made")
                parts["open"] = _buttons("open")
                gr.Markdown("### Your videos")
                parts["closed"] = _buttons("closed")
        about = {"kept": served.offer.limits.kept_for, "more": served.about}
        gr.HTML(_ABOUT.render(about), js_on_load=None)
        _connect(page, parts, served)
    return page


def launched(
    served: Served, routes: Sequence[Route], address: Address, open_browser: bool
) -> tuple[gr.Blocks, str, str | None]:
    """The page with its server, which runs in a thread of its own; its address, and the shared one.

    Raises `ConfigError` where the port is taken.
    """
    page, guard = make_page(served), Middleware(Guard, auth=address.auth, is_local=address.is_local)
    without = dict.fromkeys(("docs_url", "redoc_url", "openapi_url"))
    try:
        _, url, shared = page.launch(
            server_name=address.host,
            server_port=address.port,
            share=address.share,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            theme=THEME,
            css=browser.CSS,
            ssr_mode=False,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            state_session_capacity=_SESSIONS,
            max_file_size=1,  # nothing is uploaded through Gradio
            app_kwargs={"routes": list(routes), "middleware": [guard], **without},
        )
    except OSError as error:
        raise ConfigError(f"--port: expected a free one from 7860 on ({error_text(error)}); name one") from error
    return page, url, shared


def _form(served: Served) -> dict[str, gr.components.Component]:
    offer, parts = served.offer, {}
    if offer.has_identity:
        gr.Markdown("### Who")
        parts["drop_a"] = _drop("a")
        parts["pictures_a"] = _buttons("pictures-a")
    with gr.Group(visible=False) as second:
        if offer.has_identity:
            gr.Markdown("### The second person", padding=True)
            parts["drop_b"] = _drop("b")
            parts["pictures_b"] = _buttons("pictures-b")
    parts["second_person"] = second
    gr.Markdown("### What")
    hint = "Write what is to be seen, in English. The class word gets the trigger img, which says whom it is about."
    parts["prompt"] = gr.Textbox(
        label="Prompt", value="A man is smiling in a park", lines=2, max_lines=4, info=hint, elem_id="mm-prompt"
    )
    parts["class_word"] = gr.Dropdown(list(CLASS_WORDS), value="person", label="Class word, where the prompt has none")
    parts["reads"] = gr.HTML("", js_on_load=None)
    choices = [(text, name) for name, text in COMPARISONS.items() if offer.has_identity or name in (ONE, PROMPTS)]
    parts["compare"] = gr.Radio(choices, value=ONE, label="Side by side, with the same seed")
    parts["second_prompt"] = gr.Textbox(
        "", label="Second prompt", elem_id="mm-second", visible=False, lines=2, max_lines=4
    )
    likeness = "0 shows nobody in particular, 1 is as trained"
    parts["likeness"] = gr.Slider(
        0, MAX_LIKENESS, value=1.0, step=0.05, label="Likeness", info=likeness, visible=offer.has_identity
    )
    with gr.Accordion("More", open=False):
        parts |= _more(offer)
    consent = "I may use these pictures: they show me, or people who agreed"
    parts["consent"] = gr.Checkbox(label=consent if offer.has_identity else "I will not deceive anybody with the video")
    parts["go"] = gr.Button("Make the video", variant="primary", size="lg")
    parts["said"] = gr.HTML("", js_on_load=None)
    return parts


def _more(offer: Offer) -> dict[str, gr.components.Component]:
    sizes = [size_text(size) for size in offer.sizes]
    with gr.Row():
        frames = gr.Dropdown(list(offer.frames), value=offer.frames[-1], label="Frames", min_width=120)
        size = gr.Dropdown(sizes, value=sizes[0], label="Size, height x width", min_width=120)
    steps = gr.Slider(1, offer.limits.steps, value=offer.steps, step=1, label="Steps")
    guidance = gr.Slider(
        1, 20, value=offer.guidance, step=0.1, label="Guidance", info="1 is off, and takes half the time"
    )
    cost = gr.HTML("", js_on_load=None)
    seed = gr.Textbox("", label="Seed", elem_id="mm-seed", info="the same one gives the same video; empty: a new one")
    negative = gr.Textbox("", label="Negative prompt", info="what to steer away from")
    text = "Settings from a file: drop an mp4, a sheet or a record that mmjax made"
    html = browser.DROP.format(text=text, accept="video/mp4,image/png,.json", multiple="", what="a file", camera="")
    given = {"route": "mine/settings", "telling": "reading the file …", "first": False}
    drop = gr.HTML(
        html_template=html, js_on_load=browser.DROP_SCRIPT, elem_classes="mm-give", elem_id="give-settings", **given
    )
    said = gr.HTML("", js_on_load=None)
    found = {"frames": frames, "size": size, "steps": steps, "guidance": guidance, "cost": cost, "seed": seed}
    return found | {"negative_prompt": negative, "drop_settings": drop, "settings_said": said}


def _drop(person: str) -> gr.HTML:
    text = "Drop photos of one person here, paste one, or"
    html = browser.DROP.format(text=text, accept="image/*", multiple="multiple", what="photos", camera=browser.CAMERA)
    given = {"route": f"mine/pictures/{person}", "telling": "looking at the picture …", "first": person == "a"}
    named = {"elem_classes": "mm-give", "elem_id": f"give-{person}"}
    return gr.HTML(html_template=html, js_on_load=browser.DROP_SCRIPT, **named, **given)


def _buttons(name: str) -> gr.HTML:
    return gr.HTML("", js_on_load=browser.BUTTONS_SCRIPT, elem_id=f"mm-{name}")


def _connect(page: gr.Blocks, parts: dict, served: Served) -> None:
    """Which handler answers what."""
    at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    raw = at_once | {"preprocess": False}  # whatever is sent comes to us, who say what is wrong with it
    fields, handlers = [parts[name] for name in _FIELDS], _Handlers(served)
    people = NAMES if served.offer.has_identity else ()
    pictures = [parts[f"pictures_{name}"] for name in people]
    version, timer = gr.State(-1), gr.Timer(1.0)
    lists = [parts["open"], parts["closed"], version]
    reads = {"inputs": [parts["prompt"], parts["class_word"]], "outputs": parts["reads"], **raw}
    costs = [parts[name] for name in ("compare", "likeness", "frames", "size", "steps", "guidance")]
    cost = {"inputs": costs, "outputs": parts["cost"], **raw}
    page.load(handlers.pictures, None, pictures, **at_once).then(handlers.reads, **reads).then(handlers.cost, **cost)
    gr.on([page.load, timer.tick], handlers.lists, version, lists, **at_once)
    for name, show in zip(people, pictures, strict=True):
        changed = [show, parts["said"]]
        gr.on(parts[f"drop_{name}"].upload, handlers.gave(name), None, changed, **at_once).then(handlers.reads, **reads)
        gr.on(show.click, handlers.remove_picture(name), None, changed, **at_once).then(handlers.reads, **reads)
    gr.on([parts["prompt"].change, parts["class_word"].change], handlers.reads, **reads)
    gr.on([each.change for each in [*costs, parts["closed"]]], handlers.cost, **cost)
    shown = [parts["second_prompt"], parts["second_person"], parts["go"]]
    parts["compare"].change(handlers.compare, parts["compare"], shown, **raw)
    made = {"inputs": fields, "outputs": [parts["said"], *lists], **raw}
    gr.on([parts["go"].click, parts["prompt"].submit], handlers.make, **made)
    parts["drop_settings"].upload(handlers.settings, None, [*fields[:-1], parts["settings_said"]], **at_once)
    parts["open"].click(handlers.cancel, None, lists, **at_once)
    parts["closed"].click(handlers.use_or_remove, None, [*fields[:-1], parts["settings_said"], *lists], **at_once)


class _Handlers:
    """What answers the page's events; each is told who asks."""

    def __init__(self, served: Served):
        self._served = served

    def pictures(self, request: gr.Request):
        return [self._pictures(request, name) for name in NAMES] if self._served.offer.has_identity else None

    def gave(self, name: str) -> Callable:
        def answer(event: gr.EventData, request: gr.Request):
            refused = _data(event, "refused")
            return self._pictures(request, name, refused[:600]), ""  # what was said before is said no more

        return answer

    def remove_picture(self, name: str) -> Callable:
        def answer(event: gr.EventData, request: gr.Request):
            self._served.uploads.remove(_owner(request), _data(event, "id"))
            return self._pictures(request, name), ""

        return answer

    def lists(self, version, request: gr.Request):
        store, owner = self._served.store, _owner(request)
        jobs, now = store.of(owner), store.version(owner)
        closed = gr.skip() if version == now else cards.closed_jobs_html(jobs)
        return cards.open_jobs_html(jobs, store), closed, now

    def reads(self, prompt, class_word, request: gr.Request):
        has_pictures = any(self._served.uploads.usable(_owner(request), name) for name in NAMES)
        if not has_pictures or not isinstance(prompt, str) or class_word not in CLASS_WORDS:
            return ""
        return _READS.render(text=with_trigger(prompt[: self._served.offer.limits.letters], class_word))

    def cost(self, compare, likeness, frames, size, steps, guidance):
        values = {"prompt": "-", "second_prompt": "-", "consent": True, "class_word": "person", "seed": 0}
        values |= dict(compare=compare, likeness=likeness, frames=frames, size=size, steps=steps, guidance=guidance)
        try:
            form = checked_form(values, self._served.offer)
        except MMJaxError as error:
            return cards.said_html(str(error))
        return _COST.render(text=self._cost_text(form))

    def compare(self, compare):
        several = gr.Button("Make the video" if compare == ONE else "Make the videos")
        return gr.Textbox(visible=compare == PROMPTS), gr.Group(visible=compare == PEOPLE), several

    def make(self, request: gr.Request, *values):
        served, owner = self._served, _owner(request)
        given, said, notes = dict(zip(_FIELDS, values, strict=True)), "", []
        try:
            if not str(given["seed"]).strip():
                given["seed"] = secrets.randbelow(2**31)
            form = checked_form(given, served.offer)
            people = {name: self._usable(owner, name) for name in NAMES[: 2 if form.compare == PEOPLE else 1]}
            videos = asked_videos(form, people)
            notes = served.check(videos)
            served.store.add(owner, form, videos)
        except MMJaxError as error:
            said = str(error)
        return [cards.said_html(said, notes), *self.lists(None, request)]

    def settings(self, event: gr.EventData, request: gr.Request):
        refused, found = _data(event, "refused"), self._served.read_files.take(_owner(request))
        if refused or found is None:
            return [*[gr.skip()] * (len(_FIELDS) - 1), cards.said_html(refused[:600] or "there was no file")]
        values, said = found
        text = "The form is filled" + "".join(f"; {each}" for each in said) + "."
        return [*(values.get(name, gr.skip()) for name in _FIELDS[:-1]), _COST.render(text=text)]

    def cancel(self, event: gr.EventData, request: gr.Request):
        self._served.store.cancel(_owner(request), _data(event, "id"))
        return self.lists(None, request)

    def use_or_remove(self, event: gr.EventData, request: gr.Request):
        store, owner, identifier = self._served.store, _owner(request), _data(event, "id")
        action, job = _data(event, "action"), store.find(owner, identifier)
        filled = [gr.skip()] * len(_FIELDS)
        if action == "remove":
            store.remove(owner, identifier)
        elif action == "use" and job:
            filled = [getattr(job.form, name) for name in _FIELDS[:-1]]
            filled[_FIELDS.index("size")], filled[_FIELDS.index("seed")] = size_text(job.form.size), str(job.form.seed)
            filled.append("")
        return [*filled, *self.lists(None, request)]

    def _usable(self, owner: str, name: str) -> list[Path]:
        """Pictures of a person. Raises `DataError` where one was refused, which is not to be passed over in silence."""
        pictures = self._served.uploads.of(owner, name)
        if any(each.refused for each in pictures):
            raise DataError("A picture cannot be used, as is said below it: remove it first")
        return [each.path for each in pictures]

    def _pictures(self, request: gr.Request, name: str, refused: str = "") -> str:
        who = {"a": "the person", "b": "the second person"}[name]
        return cards.pictures_html(self._served.uploads.of(_owner(request), name), who, refused)

    def _cost_text(self, form) -> str:
        people = {name: ("-",) for name in NAMES} if self._served.offer.has_identity else {}
        videos, passes = len(asked_videos(form, people)), 1 if form.guidance == 1 else 2
        text = f"{form.steps} steps x {passes} {'pass' if passes == 1 else 'passes'} of the model"
        text += f" x {videos} videos" if videos > 1 else ""
        seconds = self._served.store.seconds_of_one(form)
        if seconds is None:
            return f"{text}; how long that takes here is known after the first video of this size."
        return f"{text}: about {cards.seconds_text(videos * seconds)} here, going by earlier ones."


def _owner(request: gr.Request) -> str:
    return owner_of({name.lower(): value for name, value in request.headers.items()}) or secrets.token_hex(32)


def _data(event: gr.EventData, name: str) -> str:
    """A text of what the browser sends with an event; "" for anything else."""
    found = event._data.get(name) if isinstance(event._data, dict) else None
    return found if isinstance(found, str) else ""
