"""The page that shows in a minute whether a preparation's thresholds are right: one HTML file that needs no other.

Names and captions of an input are anybody's, so Jinja2 escapes every text, and there is no script in the page.
"""

from collections.abc import Iterator, Mapping

from mmjax.page_style import STYLE, environment, policy

_WIDTH, _HEIGHT, _FOOT = 360, 130, 34  # of a histogram, SVG units; of its axis


def render(numbers: dict, pictures: Mapping[str, list[dict]], reasons: Mapping[str, str]) -> str:
    """The page.

    Args:
      numbers: of `summary.report_of`.
      pictures: of a `Summary`: "kept", "turned", "animated", "dropped REASON", "pairs ORIGIN" and "pairs worst".
      reasons: what each means.
    """
    pairs = {
        kind.removeprefix("pairs "): _lowest(shown) for kind, shown in pictures.items() if kind.startswith("pairs")
    }
    return (
        environment()
        .from_string(_PAGE)
        .render(
            policy=policy(),
            numbers=numbers,
            reasons=reasons,
            histograms=[_histogram(name, each) for name, each in numbers["histograms"].items()],
            worst=pairs.pop("worst", []),
            pairs=pairs,
            kept=pictures.get("kept", []),
            turned=pictures.get("turned", []),
            animated=pictures.get("animated", []),
            dropped={reason: pictures.get(f"dropped {reason}", []) for reason in numbers["dropped"]},
            width=_WIDTH,
            height=_HEIGHT,
            foot=_FOOT,
        )
    )


def _lowest(shown: list[dict]) -> list[dict]:
    return sorted(shown, key=lambda each: (each["value"], each["key"]))


def _histogram(name: str, histogram: dict) -> dict:
    """Bars, threshold lines and ticks of a histogram in SVG units; what was dropped stands on what was kept."""
    low, high = histogram["low"], histogram["high"]
    kept, dropped = histogram["kept"], histogram["dropped"]
    most = max(map(sum, zip(kept, dropped, strict=True)))
    lines = [
        {"name": setting, "value": value, "x": _WIDTH * (value - low) / (high - low)}
        for setting, value in histogram["thresholds"].items()
        if low < value <= high
    ]
    ticks = [{"value": low + (high - low) * part / 4, "x": _WIDTH * part / 4} for part in range(5)]
    head = {"name": name, "title": histogram["title"], "kept": sum(kept), "dropped": sum(dropped)}
    return head | {"bars": list(_bars(kept, dropped, most)), "lines": lines, "ticks": ticks}


def _bars(kept: list[int], dropped: list[int], most: int) -> Iterator[dict]:
    wide = _WIDTH / len(kept)
    for number, (one, other) in enumerate(zip(kept, dropped, strict=True)):
        top = _HEIGHT
        for kind, count in (("kept", one), ("dropped", other)):
            if count:
                tall = max(_HEIGHT * count / most, 1.5)  # a single one can be seen
                top -= tall
                yield {"kind": kind, "x": number * wide + 0.5, "y": top, "width": wide - 1, "height": tall, "n": count}


_STYLE = """
:root { --kept: var(--teal); --dropped: var(--orange); }
.bar { display: flex; height: 22px; gap: 2px; border-radius: 6px; overflow: hidden; }
.bar i { background: var(--dropped); min-width: 3px; } .bar i.kept { background: var(--kept); }
.bar i:nth-child(odd):not(.kept) { opacity: .75; }
.key.kept { background: var(--kept); margin-left: 0; } .key.dropped { background: var(--dropped); }
td.track { width: 24%; vertical-align: middle; }
td.track i { display: block; height: 9px; min-width: 2px; border-radius: 4px; background: var(--dropped); }
svg .kept { fill: var(--kept); } svg .dropped { fill: var(--dropped); } svg text.name { fill: var(--mark); }
.shots { display: grid; gap: 14px 12px; grid-template-columns: repeat(auto-fill, minmax(116px, 1fr)); }
.shots.two { grid-template-columns: repeat(auto-fill, minmax(212px, 1fr)); }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: 7px; display: block; }
.shots.strips { grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); }
.strips figure img { aspect-ratio: 4; }
figure.pair img { aspect-ratio: 2; } figure b { font-size: 14px; font-variant-numeric: tabular-nums; }
figcaption span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.badge { float: right; border: 1px solid var(--line); border-radius: 9px; padding: 0 7px; }
"""

_PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
{{ policy }}
<title>mmjax.prepare: {{ numbers.counts.records | count }} records</title><style>"""
    + STYLE
    + _STYLE
    + """</style></head><body>
{% set counts = numbers.counts %}{% set judged = counts.records + counts.dropped %}
{% macro shot(each, note="") %}
<figure title="{{ each.text or "" }}"><img alt="" src="data:image/jpeg;base64,{{ each.jpeg }}"><figcaption>
{% if note %}<b>{{ note }}</b> {% endif %}<span>{{ each.key }}</span></figcaption></figure>
{% endmacro %}
{% macro pair(each) %}
<figure class="pair"><img alt="" src="data:image/jpeg;base64,{{ each.jpeg }}"><figcaption>
<span class="badge">{{ each.text }}</span><b>{{ "%.3f" | format(each.value) }}</b>
<span>{{ each.key }}</span><span>{{ each.other }}</span></figcaption></figure>
{% endmacro %}
<h1>{{ counts.records | count }} records from {{ counts["items"] | count }} photos and videos</h1>
<p class="command"><code>{{ numbers.command }}</code></p>
<div class="figures">
<div class="figure"><b>{{ counts["items"] | count }}</b>items analysed</div>
<div class="figure"><b>{{ counts.samples | count }}</b>samples found in them</div>
<div class="figure"><b>{{ counts.dropped | count }}</b>dropped, {{ counts.dropped | share(judged) }}</div>
<div class="figure"><b>{{ counts.pairs | count }}</b>paired with a reference</div>
<div class="figure"><b>{{ counts.records | count }}</b>records
{%- if numbers.counts.animated %}, {{ numbers.counts.animated | count }} of them drawn from photos{% endif %}
{%- for split, n in numbers.splits.items() %}{{ ":" if loop.first else "," }} {{ n | count }} {{ split }}{% endfor %}
</div>
{% if numbers.items_per_second is not none %}
<div class="figure"><b>{{ numbers.items_per_second | short }}</b>items a second,
{{ (numbers.seconds / 60) | short }} min</div>
{% endif %}
</div>
<div class="bar"><i class="kept" style="flex: {{ counts.records }}" title="records: {{ counts.records }}"></i>
{% for reason, n in numbers.dropped.items() %}<i style="flex: {{ n }}" title="{{ reason }}: {{ n }}"></i>{% endfor %}
</div>
<p style="margin-top: 6px"><i class="key kept"></i>kept<i class="key dropped"></i>dropped, a part for each reason</p>

<h2>What was dropped, and why</h2>
{% if numbers.dropped %}
<table><tr><th>reason</th><th class="number">count</th><th class="number">share</th><th></th><th>what it means</th></tr>
{% set most = numbers.dropped.values() | max %}
{% for reason, n in numbers.dropped.items() %}
<tr><td class="name"><a href="#{{ reason }}">{{ reason }}</a></td><td class="number">{{ n | count }}</td>
<td class="number">{{ n | share(judged) }}</td>
<td class="track"><i style="width: {{ 100 * n / most }}%"></i></td><td>{{ reasons.get(reason, "") }}</td></tr>
{% endfor %}</table>
{% else %}<p>Nothing.</p>{% endif %}

{% if numbers.ignored %}
<h2>What was not taken</h2><p>Files of the input that are no items, by their ending.</p>
<table><tr><th>ending</th><th class="number">count</th><th>why</th></tr>
{% for each in numbers.ignored %}
<tr><td class="name">{{ each.ending }}</td><td class="number">{{ each["count"] | count }}</td>
<td>{{ each.reason }}</td></tr>
{% endfor %}</table>
{% endif %}

{% if histograms %}
<h2>Where the thresholds cut</h2>
<p>A threshold is right where what it drops looks worse than what it keeps. Each can be set:
<code>--settings.NAME=VALUE</code>. What lies outside of a scale stands at its end.</p>
<div class="grid">
{% for each in histograms %}
<div class="card"><h3>{{ each.name }}</h3><p>{{ each.title }}; {{ each.kept | count }} kept, {{ each.dropped | count }}
dropped</p>
<svg viewBox="0 -18 {{ width }} {{ height + foot }}" role="img" aria-label="histogram of {{ each.name }}">
{% for bar in each.bars %}<rect class="{{ bar.kind }}" x="{{ "%.1f" | format(bar.x) }}" y="{{ "%.1f" | format(bar.y) }}"
 width="{{ "%.1f" | format(bar.width) }}" height="{{ "%.1f" | format(bar.height) }}"><title>{{ bar.n }} {{ bar.kind }}
</title></rect>{% endfor %}
<line class="axis" x1="0" x2="{{ width }}" y1="{{ height }}" y2="{{ height }}"/>
{% for tick in each.ticks %}<text x="{{ tick.x }}" y="{{ height + 14 }}"
 text-anchor="{{ "start" if loop.first else "end" if loop.last else "middle" }}">{{ tick.value | short }}</text>
{% endfor %}
{% for line in each.lines %}<line class="mark" x1="{{ line.x }}" x2="{{ line.x }}" y1="-4" y2="{{ height }}"/>
<text class="name" x="{{ line.x }}" y="-8"
 text-anchor="{{ "start" if line.x < width / 2 else "end" }}">{{ line.name }} {{ line.value | short }}</text>
{% endfor %}
</svg></div>
{% endfor %}</div>
{% endif %}

{% if pairs %}
<h2>Pairs: is it one person?</h2>
<p>Left the sample, right its reference, and the cosine between them:
{% for origin, n in numbers.origins.items() %}{{ n | count }} {{ {"other": "of another photo or video",
"shot": "of another shot or time", "self": "with themselves"}[origin] }}{{ ", " if not loop.last else "." }}
{%- endfor %}</p>
{% if worst %}
<h3>The lowest cosines of all</h3><div class="shots two">{% for each in worst %}{{ pair(each) }}{% endfor %}</div>
{% endif %}
{% for origin in ["other", "shot", "self"] if origin in pairs %}
<h3>Some of origin {{ origin }}</h3>
<div class="shots two">{% for each in pairs[origin] %}{{ pair(each) }}{% endfor %}</div>
{% endfor %}
{% endif %}

{% if kept %}
<h2>Samples found</h2><p>Before they were paired and captioned.</p>
<div class="shots">{% for each in kept if each.jpeg %}{{ shot(each) }}{% endfor %}</div>
{% endif %}

{% if turned %}
<h2>Not upright: {{ numbers.turned | count }}</h2>
<p>Photos and clips that lay on their side or stood on their head, as far as their faces show, and how they were turned.
They are used like this.</p>
<div class="shots">{% for each in turned if each.jpeg %}{{ shot(each, each.text) }}{% endfor %}</div>
{% endif %}

{% if animated %}
<h2>Drawn from photos: {{ numbers.counts.animated | count }} clips</h2>
<p>Nobody filmed these: each is one photo, moved. They are in a data set of their own, <code>animated</code>.</p>
<div class="shots strips">{% for each in animated %}{{ shot(each) }}{% endfor %}</div>
{% endif %}

{% if numbers.dropped %}<h2>Some of what was dropped</h2>{% endif %}
{% for reason, shown in dropped.items() %}
<h3 id="{{ reason }}">{{ reason }}: {{ numbers.dropped[reason] | count }}</h3><p>{{ reasons.get(reason, "") }}</p>
<div class="shots">{% for each in shown if each.jpeg %}{{ shot(each, each.value | short) }}{% endfor %}</div>
{% for each in shown if not each.jpeg %}{{ "<ul>" | safe if loop.first }}<li>{{ each.key }}: {{ each.text }}</li>
{{- "</ul>" | safe if loop.last }}{% endfor %}
{% endfor %}

<h2>By collection</h2>
<table><tr><th>collection</th>
{% for name in ["items", "samples", "dropped", "records"] %}<th class="number">{{ name }}</th>{% endfor %}</tr>
{% for name, each in numbers.collections.items() %}<tr><td>{{ name }}</td>
{% for column in ["items", "samples", "dropped", "records"] %}<td class="number">{{ each.get(column, 0) | count }}</td>
{% endfor %}</tr>{% endfor %}</table>

<details><summary>Settings and versions</summary>
<table>
{% for name, value in numbers.settings.items() %}
<tr><td><code>{{ name }}</code></td><td><code>{{ value }}</code></td></tr>
{% endfor %}
{% for name, value in numbers.versions.items() %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
</details>
</body></html>
"""
)
