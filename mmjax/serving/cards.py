"""Pictures and jobs as HTML, every text in it escaped; what is large is named by a path of `mmjax.serving.routes`."""

from collections.abc import Sequence
from typing import Any

from mmjax.page_style import environment
from mmjax.serving.jobs import Job, JobStore, State
from mmjax.serving.uploads import UploadedPicture

_ENVIRONMENT = environment()
_PICTURES = _ENVIRONMENT.from_string("""
{% if pictures or refused %}
<ul class="mm-pictures" aria-label="Pictures of {{ who }}">
{% for each in pictures %}
<li class="{{ 'mm-refused' if each.refused else '' }}">
<img src="mine/pictures/{{ each.id }}" alt="picture {{ loop.index }}{% if each.refused %}, refused{% endif %}">
<button type="button" data-action="remove-picture" data-id="{{ each.id }}" aria-label="Remove picture {{ loop.index }}">
&times;</button>
</li>
{% endfor %}
</ul>
<div role="status">
{% for each in pictures %}
{% if each.refused %}<p class="mm-line mm-bad"><b>Not usable.</b> {{ each.refused }}</p>
{% else %}
{% for note in each.notes %}<p class="mm-line mm-note"><b>Note.</b> {{ note }}</p>{% endfor %}
{% if not each.notes %}<p class="mm-line mm-good"><b>Picture {{ loop.index }}</b> can be used.</p>{% endif %}
{% endif %}
{% endfor %}
{% if refused %}<p class="mm-line mm-bad"><b>Not taken.</b> {{ refused }}</p>{% endif %}
</div>
{% endif %}
""")
_OPEN = _ENVIRONMENT.from_string("""
{% if jobs %}
<ul class="mm-jobs">
{% for each in jobs %}
<li class="mm-job">
{% if each.preview %}<img class="mm-preview" src="{{ each.preview }}" alt="What is emerging: the first frame so far">
{% else %}<div class="mm-preview mm-none" aria-hidden="true"></div>{% endif %}
<div class="mm-about">
<p class="mm-prompt">{{ each.prompt }}</p>
<div class="mm-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="{{ each.steps }}"
 aria-valuenow="{{ each.step }}"><div style="width: {{ each.percent }}%"></div></div>
<p class="mm-faint">{{ each.how }}</p>
<button type="button" class="mm-button" data-action="cancel" data-id="{{ each.id }}">Cancel</button>
</div>
</li>
{% endfor %}
</ul>
{% else %}
<p class="mm-faint">Nothing just now.</p>
{% endif %}
""")
_CLOSED = _ENVIRONMENT.from_string("""
{% if jobs %}
{% for job in jobs %}
<section class="mm-result" aria-label="{{ job.form.prompt }}">
{% if job.said %}<p class="mm-line mm-bad"><b>Failed.</b> {{ job.said }}</p>{% endif %}
{% if job.state.value == "cancelled" %}<p class="mm-line mm-note"><b>Cancelled.</b> {{ job.form.prompt }}</p>{% endif %}
{% if job.made %}<div class="mm-videos mm-of-{{ [job.made | length, 3] | min }}">
{% for video in job.made %}
{% set number = loop.index0 %}
<figure>
<video src="mine/jobs/{{ job.id }}/{{ number }}/video.mp4" controls loop muted playsinline preload="auto"
 aria-label="Video: {{ video.settings.prompt }}"></video>
<figcaption>{% if video.label %}<b>{{ video.label }}</b>{% endif %}
<span class="mm-downloads">Download
{% for name, text in (("video.mp4", "mp4"), ("video.png", "sheet"), ("video.json", "settings")) %}
<a href="mine/jobs/{{ job.id }}/{{ number }}/{{ name }}" download>{{ text }}</a>{% endfor %}</span></figcaption>
</figure>
{% endfor %}
</div>
<p class="mm-prompt">{{ job.made[0].settings.prompt }}</p>
<p class="mm-faint">{{ about(job) }}</p>
{% for note in notes(job) %}<p class="mm-line mm-note"><b>Note.</b> {{ note }}</p>{% endfor %}
{% endif %}
<p class="mm-actions">
<button type="button" class="mm-button" data-action="use" data-id="{{ job.id }}">Use these settings</button>
{% if not job.state.is_open %}
<button type="button" class="mm-button" data-action="remove" data-id="{{ job.id }}">Remove</button>
{% endif %}
</p>
</section>
{% endfor %}
{% else %}
<p class="mm-faint mm-empty">Your videos will be here, with what made them. Nobody else sees them.</p>
{% endif %}
""")


_SAID = _ENVIRONMENT.from_string("""
{% if refused %}<p class="mm-line mm-bad" role="alert">{{ refused }}</p>{% endif %}
{% for note in notes %}<p class="mm-line mm-note" role="status"><b>Note.</b> {{ note }}</p>{% endfor %}
""")


def pictures_html(pictures: Sequence[UploadedPicture], who: str, refused: str = "") -> str:
    """The pictures of a person, with what the reference check says of them.

    refused: what is to be said of a file that was no picture.
    """
    return _PICTURES.render(pictures=pictures, who=who, refused=refused)


def open_jobs_html(jobs: Sequence[Job], store: JobStore) -> str:
    """Jobs that wait or are made: progress, time left and the emerging frame."""
    return _OPEN.render(jobs=[_open_job(job, store) for job in jobs if job.state.is_open])


def closed_jobs_html(jobs: Sequence[Job]) -> str:
    """The gallery, newest first; what a running job has finished is in it already."""
    shown = [job for job in reversed(jobs) if job.made or not job.state.is_open]
    return _CLOSED.render(jobs=shown, about=_about, notes=_notes)


def said_html(refused: str, notes: Sequence[str] = ()) -> str:
    """Lines that say why something was not done, and what is to be known of what was; "" for nothing."""
    return _SAID.render(refused=refused, notes=notes)


def _open_job(job: Job, store: JobStore) -> dict[str, Any]:
    percent = round(100 * job.step / max(job.steps, 1))
    preview = f"mine/jobs/{job.id}/preview?{job.previews}" if job.preview else ""
    shown = {"id": job.id, "prompt": job.form.prompt, "step": job.step, "steps": job.steps, "percent": percent}
    return shown | {"preview": preview, "how": _how(job, store)}


def _how(job: Job, store: JobStore) -> str:
    """Where a job is, in words."""
    if job.state is State.WAITING:
        before = store.place(job)
        return (
            "begins at once" if not before else f"waiting; {before} {'job comes' if before == 1 else 'jobs come'} first"
        )
    if job.unwanted:
        return "is being cancelled"
    number = f"video {len(job.made) + 1} of {len(job.videos)}, " if len(job.videos) > 1 else ""
    step = f"step {job.step} of {job.steps}" if job.step else "before the first step"
    left = "" if job.seconds_left is None else f", about {seconds_text(job.seconds_left)} left"
    return f"{number}{job.doing or 'begins'}: {step}{left}"


def _about(job: Job) -> str:
    form, first = job.form, job.made[0]
    seconds = sum(video.seconds for video in job.made)
    words = [f"seed {form.seed}", f"{form.steps} steps", f"guidance {form.guidance:g}"]
    if first.settings.get("reference_hashes"):
        words.append(f"likeness {first.settings['sampling']['identity_scale']:g}" if len(job.made) == 1 else "")
    words += [f"{form.frames} frames of {form.size[0]} x {form.size[1]}", f"made in {seconds_text(seconds)}"]
    return ", ".join(word for word in words if word)


def _notes(job: Job) -> list[str]:
    return list(dict.fromkeys(note for video in job.made for note in video.notes))


def seconds_text(seconds: float) -> str:
    """A duration for people: 4 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
