"""The page in a real Chromium, round a model of a few thousand weights; it skips where there is no Chromium."""

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from mmjax import inspect
from mmjax.serving.routes import ReadFiles
from tests.serving.fakes import OFFER

SENT = "A man is happy ${1+1} {{1}} <svg onload=alert(1)>"
MADE = "A man img is happy ${1+1} {{1}} <svg onload=alert(1)>"


@pytest.fixture
def page(browser, server):
    """A new visitor's page; whatever goes wrong in it, or leaves the machine, is told."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(40_000)  # of a busy machine
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("dialog", lambda dialog: page.wrong.append(f"a dialog: {dialog.message}"))
    page.on("request", lambda request: _is_here(request.url, server) or page.wrong.append(request.url))
    page.goto(server.url)
    page.get_by_role("button", name="Make the video").wait_for()
    page.get_by_text("Nothing just now").wait_for()  # the page has asked the server
    yield page
    assert not page.wrong
    context.close()


def _is_here(url, server):
    return url.startswith((server.url, "data:", "blob:"))


def give(page, path, where="a"):
    page.set_input_files(f"#give-{where} input[type=file]", path)


def field(page, name):
    return page.locator(f"#mm-{name} :is(input, textarea)")


def make(page, **fields):
    """Fills fields in and presses the button.

    Twice: on a busy machine the button once came before what had been typed an instant earlier. Nobody types so fast.
    """
    for _ in range(2):
        for name, value in fields.items():
            field(page, name).fill(value)
        page.wait_for_timeout(300 if fields else 0)
    page.get_by_role("button", name=re.compile("Make the video")).click()


@pytest.mark.slow
def test_from_a_picture_to_a_video_and_back_to_its_settings(page, server, faces, tmp_path):
    use = page.get_by_text("Use pictures of yourself or of people who agreed")
    assert use.is_visible()
    consent = page.get_by_label("I may use these pictures")
    assert not consent.is_checked()
    give(page, faces[0])
    page.get_by_text("Picture 1 can be used").wait_for()
    make(page, prompt=SENT)
    page.get_by_text("is not ticked").wait_for()
    page.get_by_text(f"The model reads: {MADE}").wait_for()
    consent.check()
    page.get_by_text("More", exact=True).click()
    make(page, seed="5")
    video = page.locator(".mm-result video")
    video.wait_for()
    page.wait_for_function("document.querySelector('.mm-result video').videoWidth == 16")
    page.get_by_text(re.compile("4 steps x 2 passes of the model: about .* here, going by earlier ones")).wait_for()
    assert page.locator(".mm-result").get_by_text(MADE).first.is_visible()
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="mp4").click()
    downloaded.value.save_as(clip := tmp_path / "anything.mp4")
    assert inspect.settings_of(clip)["seed"] == 5 and inspect.settings_of(clip)["prompt"] == MADE

    page.reload()
    video.wait_for()  # the gallery and the picture are there again; the form is new
    page.get_by_text("Picture 1 can be used").wait_for()
    assert field(page, "prompt").input_value() != SENT
    page.get_by_text("More", exact=True).click()
    give(page, clip, "settings")
    page.get_by_text("The form is filled; the picture of the person did not travel").wait_for()
    assert field(page, "prompt").input_value() == MADE
    assert field(page, "seed").input_value() == "5"
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_text("Your videos will be here").wait_for()


@pytest.mark.slow
def test_refusals_cancelling_and_side_by_side_by_keyboard(page, server, faces, tmp_path):
    (tmp_path / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    give(page, tmp_path / "drawing.png")
    page.get_by_text("Not taken. picture: expected a PNG, JPEG, WebP or the like").wait_for()
    page.get_by_text("More", exact=True).click()
    give(page, Path(__file__).resolve(), "settings")
    page.get_by_text("the file: expected an mp4, sheet or record that mmjax made").wait_for()
    give(page, faces[0])
    page.get_by_text("Picture 1 can be used").wait_for()
    page.get_by_label("Two people").focus()
    page.keyboard.press("Space")
    give(page, faces[1], "b")
    page.locator("#mm-pictures-b").get_by_text("Picture 1 can be used").wait_for()
    page.get_by_label("I may use these pictures").focus()
    page.keyboard.press("Space")
    with server._worker._maker._checking:  # nothing goes on meanwhile
        make(page)
        page.get_by_text("reading prompt and pictures: before the first step").wait_for()
        page.reload()  # the job goes on without the page, and is found again
        cancel = page.get_by_role("button", name="Cancel")
        cancel.focus()
        page.wait_for_timeout(1500)  # the list is written anew, and the focus stays
        page.keyboard.press("Enter")
        page.get_by_text("is being cancelled").wait_for()
    page.get_by_text("Cancelled.").wait_for()

    page.get_by_label("Two people").check()
    page.get_by_label("I may use these pictures").check()
    make(page)
    page.wait_for_function("document.querySelectorAll('.mm-result video').length == 2")
    assert page.locator(".mm-result figcaption b").all_inner_texts() == ["person A", "person B"]
    page.get_by_role("button", name="Use these settings").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Remove picture 1").first.click()
    page.locator("#mm-pictures-a img").wait_for(state="detached")
    make(page)
    page.get_by_text("expected a picture of the first person, found none").wait_for()


_DATA = """text => {
  const transfer = new DataTransfer(), content = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  transfer.items.add(new File([content], '../../x.png', {type: 'image/png'}));
"""
_DROP = (
    _DATA
    + """
  const zone = document.querySelector('#give-a .mm-drop');
  zone.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true}));
}"""
)
_PASTE = (
    _DATA
    + """
  document.querySelector('#mm-prompt textarea').dispatchEvent(
    new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}));
}"""
)


@pytest.mark.slow
def test_pictures_are_dropped_pasted_and_taken(page, faces):
    content = base64.b64encode(faces[0].read_bytes()).decode()
    page.evaluate(_DROP, content)
    page.get_by_text("Picture 1 can be used").wait_for()
    page.evaluate(_PASTE, content)
    page.get_by_text("Picture 2 can be used").wait_for()
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("document.querySelector('.mm-camera video').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_text("this model knows drawn people only").wait_for()  # which a camera does not show
    assert page.locator("#mm-pictures-a img").count() == 3 and page.locator(".mm-refused").count() == 1


def test_a_model_without_an_adapter_is_asked_for_text_alone(server):
    from mmjax.serving.page import Served, make_page

    offer = dataclasses.replace(OFFER, has_identity=False)
    read_files = ReadFiles(lambda _: None, offer)
    made = make_page(Served(offer, server.uploads, server.store, read_files, lambda _: [], "", ""))
    found = {block.label: block for block in made.blocks.values() if getattr(block, "label", None)}
    assert "Prompt" in found and not [label for label in found if "pictures" in label]
    assert [name for _, name in found["Side by side, with the same seed"].choices] == ["one", "prompts"]


@pytest.mark.slow
def test_a_phone_in_the_dark(browser, server):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", is_mobile=True)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Make the video").wait_for()
    page.get_by_text("Nothing just now").wait_for()  # the page has asked the server
    wide = page.evaluate("[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360 and not wide
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    light = lambda colour: sum(map(int, re.findall(r"\d+", colour)[:3]))  # noqa: E731
    assert light(ink) > 400 > 200 > light(paper)
    context.close()
