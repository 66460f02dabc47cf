"""How the page looks: its style, on top of `mmjax.page_style`, and its Jinja2 template."""

STYLE = """
:root { --c0: var(--teal); --c1: var(--orange); --c2: var(--violet); --c3: var(--green); --c4: var(--rose); }
.warning { border: 1px solid var(--mark); border-left-width: 5px; border-radius: 8px; background: var(--card);
  padding: 8px 14px; margin: 10px 0; } .warning b { color: var(--mark); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
.wide > table { border: 0; border-collapse: separate; border-spacing: 0; }
 .wide td { overflow-wrap: break-word; } .wide th { border-top: 0; }
.wide tr > :first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
td.what { min-width: 150px; } td.what small, td.number small { display: block; }
.wide td.why { min-width: 260px; overflow-wrap: anywhere; }
small { color: var(--faint); font-size: 12.5px; }
.clip { display: inline-block; max-width: 26ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  vertical-align: bottom; } th .clip { max-width: 20ch; } select { max-width: 100%; width: 24ch; }
.two-lines { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
svg.track { width: 120px; height: 12px; margin: 3px 0 0 auto; } svg.track line { stroke: var(--line); }
svg.track .interval { stroke: var(--teal); stroke-width: 3; opacity: .55; } svg.track circle { fill: var(--teal); }
.published svg.track circle, .published { color: var(--faint); } .published svg.track circle { fill: var(--faint); }
svg .own { fill: var(--teal); fill-opacity: .7; } svg .impostor { fill: var(--orange); fill-opacity: .6; }
svg line.own { stroke: var(--teal); } svg line.impostor { stroke: var(--orange); }
svg path { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
svg path, svg line.chance { stroke: var(--c, var(--faint)); } svg line.chance { stroke-dasharray: 3 4; }
.key { background: var(--c); } .key.own { background: var(--teal); } .key.impostor { background: var(--orange); }
svg.spark { width: 110px; height: 20px; } svg.spark path { stroke-width: 1.3; }
#filters { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: center; margin: 12px 0; }
#filters[hidden] { display: none; } #filters label { color: var(--faint); min-width: 0; max-width: 100%; }
select, input { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 8px; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--teal); }
th[aria-sort=ascending] button::after { content: " \\25B4"; }
th[aria-sort=descending] button::after { content: " \\25BE"; }
table#videos { font-size: 13.5px; } #videos td { padding: 4px 10px; } #videos thead th { padding: 8px 10px; }
.scroll { max-height: 560px; overflow: auto; } .scroll thead th { position: sticky; top: 0; background: var(--card); }
.scroll thead th:first-child { z-index: 2; }
details.video { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin-top: 8px; }
details.video[hidden] { display: none; } details.video > summary { padding: 8px 14px; }
details.video > div { padding: 4px 16px 16px; border-top: 1px solid var(--line); }
.chip { color: var(--faint); font-size: 13px; margin-left: 12px; white-space: nowrap; } .chip b { color: var(--ink); }
.problem { color: var(--mark); }
.beside { display: flex; gap: 10px 22px; margin: 12px 0; } .beside h3 { margin: 0 0 4px; }
.beside > div { min-width: 0; } .beside > .references { flex: none; max-width: 206px; }
.scores td.why { width: 60%; }
.strip { display: flex; flex-wrap: wrap; gap: 5px; }
.strip img, .strip i { height: 96px; border-radius: 5px; display: block; }
.strip i { width: 96px; background: #000 center / contain no-repeat; }
.strip i.given { outline: 2px solid var(--teal); }
.keep { white-space: nowrap; }
.case { min-width: 0; } .case .clip { max-width: 60%; } .case .strip { gap: 2px; flex-wrap: nowrap; }
.case .strip i { height: 74px; flex: 1; min-width: 0; background-size: cover; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 14px 22px; }
.halves > * { min-width: 0; }
.people .strip i { height: 56px; width: 56px; }
@media (max-width: 600px) { .beside { flex-wrap: wrap; }
  body { padding: 18px 12px 40px; } .grid { grid-template-columns: minmax(0, 1fr); }
  .wide tr > :first-child { max-width: 42vw; white-space: normal; } td, th { padding: 5px 8px; }
  td.what { min-width: 110px; } .clip { max-width: 18ch; } .figures { grid-template-columns: 1fr 1fr; }
  .strip img, .strip i { height: 64px; } .strip i { width: 64px; } .chip { margin: 0 8px 0 0; } }
"""

_MACROS = """
{% macro heading(metric) %}{{ metric.name | breakable }} {{ arrows[metric.better] }}{% endmacro %}
{% macro clipped(text) %}<bdi class="clip" title="{{ text }}">{{ text }}</bdi>{% endmacro %}
{% macro listed(names) %}
{% for name in names %}<span class="keep">{{ clipped(name) }}{{ "," if not loop.last }}</span> {% endfor %}
{% endmacro %}
{% macro sorter(text, title="", number=true) %}
<th{% if number %} class="number"{% endif %} aria-sort="none" title="{{ title }}">
<button type="button"><span class="clip">{{ text }}</span></button></th>
{% endmacro %}
{% macro references(name, given) %}
<div class="strip">{% for class, number in gallery.references.get(name, []) %}
<i class="{{ class }}{{ " given" if number == given }}" role="img"
 aria-label="{{ "the picture that was given" if number == given else "a reference" }}"
 title="{{ "the picture that was given" if number == given else "a reference" }}"></i>
{% endfor %}</div>
{% endmacro %}
{% macro cases_(title, each, shown) %}
<div><h3>{{ title }}</h3><div class="halves" style="grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px">
{% for video, value in shown %}
<figure class="case"><div class="strip">
{% for class in gallery.cases.get(video.key, []) %}<i class="{{ class }}"></i>{% endfor %}</div>
<figcaption><b>{{ value | fixed(places[each.metric.name]) }}</b> {{ clipped(video.system) }}<br>
<a class="two-lines" href="#v{{ each.numbers[video.key] }}"><bdi>{{ video.file }}</bdi></a></figcaption></figure>
{% endfor %}</div></div>
{% endmacro %}
"""

_TOP = """
<h1>{{ results.videos | length | count }} video{{ "s" if results.videos | length != 1 }} of
{{ listed(systems) if systems else "no system" }}</h1>
<p class="command"><code>{{ results.command }}</code></p>
{% for each in warnings %}<div class="warning"><b>Warning:</b> {{ each }}</div>{% endfor %}
<p>{{ protocol }}{% for each in results.protocol.notes %} {{ each }}{% endfor %}</p>
{% set troubled = results.videos | selectattr("problem") | list | length %}
<div class="figures">
<div class="figure"><b>{{ results.videos | length | count }}</b>videos of {{ systems | length }}
system{{ "s" if systems | length != 1 }}</div>
<div class="figure"><b>{{ results.people | length | count }}</b>people with references</div>
<div class="figure"><b>{{ results.videos | map(attribute="looked") | sum | count }}</b>frames looked at,
{{ results.videos | map(attribute="faces_found") | sum | count }} with a face</div>
<div class="figure"><b>{{ troubled | count }}</b>videos with a problem</div>
</div>
"""

_FIGURES = """
<h2>Figures</h2>
{% if lines and rows %}
<div class="wide"><table><tr><th>metric</th>
{% for row in rows %}<th class="number{{ " published" if not row.measured }}">{{ clipped(row.system) }}<br>
<small>{% if row.measured %}{{ row.videos | count }} video{{ "s" if row.videos != 1 }}
{% else %}published,<br>not measured here{% endif %}</small>
</th>{% endfor %}</tr>
{% for line in lines %}
<tr><td class="what">{{ heading(line.metric) }}<small>{{ line.metric.title }}</small></td>
{% for cell, track_ in line.cells %}
<td class="number{{ " published" if not rows[loop.index0].measured }}" title="{{ cell.note }}">
{% if cell.best %}<b>{{ cell.value | fixed(line.places) }}</b>{% else %}{{ cell.value | fixed(line.places) }}{% endif %}
{% if cell.low is not none %}
<small>{{ cell.low | fixed(line.places) }} to {{ cell.high | fixed(line.places) }}</small>{% endif %}
{% if track_ %}<svg class="track" viewBox="0 0 {{ track }} 12" aria-hidden="true">
<line x1="0" x2="{{ track }}" y1="6" y2="6"/>
{% if track_.low is not none %}<line class="interval" x1="{{ "%.1f" | format(track_.low) }}"
 x2="{{ "%.1f" | format(track_.high) }}" y1="6" y2="6"/>{% endif %}
<circle cx="{{ "%.1f" | format(track_.x) }}" cy="6" r="3.5"/></svg>{% endif %}
</td>{% endfor %}</tr>
{% endfor %}</table></div>
<ul style="margin-top: 10px">{% for each in notes %}<li><small>{{ each }}</small></li>{% endfor %}</ul>
{% else %}<p>None.</p>{% endif %}

{% if differences.lines %}
<details><summary>Paired differences between systems, over videos of the same person and prompt</summary>
<p style="margin-top: 8px">Bold where the 95 % interval excludes zero, of {{ fewest }} people or more.</p>
<div class="wide"><table><tr><th>metric</th>
{% for a, b in differences.pairs %}<th class="number">{{ clipped(a) }}<br>− {{ clipped(b) }}</th>{% endfor %}</tr>
{% for metric, places_, cells in differences.lines %}<tr><td class="what">{{ heading(metric) }}</td>
{% for each in cells %}<td class="number">{% if each %}
{% set apart = tells(each) %}
{{ "<b>" | safe if apart }}{{ each.value | fixed(places_, true) }}{{ "</b>" | safe if apart }}
<small>{% if each.low is not none %}{{ each.low | fixed(places_, true) }} to {{ each.high | fixed(places_, true) }}<br>
{% endif %}{{ each.people }} {{ "people" if each.people != 1 else "person" }}</small>
{% else %}–{% endif %}</td>{% endfor %}</tr>{% endfor %}</table></div></details>
{% endif %}

{% if success %}
<h2>Success rates</h2><p>{{ success_note }}</p>
<div class="wide"><table><tr><th>system</th><th>criterion</th><th>rule</th>
<th class="number">videos</th><th class="number">rate</th><th class="number">not counted</th></tr>
{% for row in success %}<tr><td>{{ clipped(row.system) }}</td><td>{{ row.criterion }}</td>
<td>{{ row.rule }}</td><td class="number">{{ row.passed }} of {{ row.videos }}</td>
<td class="number">{{ row.value | fixed(3) }}{% if row.low is not none %}
<small>{{ row.low | fixed(3) }} to {{ row.high | fixed(3) }}</small>{% endif %}</td>
<td class="number">{{ row.not_counted or "" }}</td></tr>{% endfor %}</table></div>
{% endif %}

<h2>What was not computed</h2>
{% if missing %}
<div class="wide"><table><tr><th>metrics</th><th>systems</th><th class="number">videos</th>
<th>why, and what to give</th></tr>
{% for row in missing %}<tr><td class="what">{{ row.metrics | join(", ") }}</td>
<td>{{ listed(row.systems) }}</td>
<td class="number">{{ row.videos | count }}</td><td class="why">{{ row.why }}</td></tr>
{% endfor %}</table></div>
{% else %}<p>Nothing.</p>{% endif %}
"""

_CHARTS = """
{% if histograms %}
<h2>Own person and impostors</h2>
<p><i class="key own" style="margin-left: 0"></i>cosine of videos to their own person<i class="key impostor"></i>to
every other person. What does not overlap is recognised; each side by its own count, the lines are the means.</p>
<div class="grid">
{% for each in histograms %}
<div class="card"><h3>{{ each.name }}</h3>
<p>{{ each.counts.own | count }} own, {{ each.counts.impostor | count }} of impostors</p>
<svg viewBox="0 -18 {{ width }} {{ height + foot }}" role="img" aria-label="own and impostors' similarity">
{% for bar in each.bars %}<rect class="{{ bar.kind }}" x="{{ "%.1f" | format(bar.x) }}" y="{{ "%.1f" | format(bar.y) }}"
 width="{{ "%.1f" | format(bar.width) }}" height="{{ "%.1f" | format(bar.height) }}"/>{% endfor %}
<line class="axis" x1="0" x2="{{ width }}" y1="{{ height }}" y2="{{ height }}"/>
{% for tick in each.ticks %}<text x="{{ tick.x }}" y="{{ height + 14 }}"
 text-anchor="{{ "start" if loop.first else "end" if loop.last else "middle" }}">{{ tick.value | short }}</text>
{% endfor %}
{% for mean in each.means %}<line class="{{ mean.kind }}" x1="{{ "%.1f" | format(mean.x) }}"
 x2="{{ "%.1f" | format(mean.x) }}" y1="-4" y2="{{ height }}"/><text x="{{ "%.1f" | format(mean.x) }}" y="-8"
 text-anchor="{{ "end" if mean.kind == "own" and mean.x > 60 else "start" }}">{{ mean.kind }} {{ mean.mean | fixed(3) }}
</text>{% endfor %}</svg></div>
{% endfor %}</div>
{% endif %}

{% if cases %}
<h2>Best and worst</h2>
{% for each in cases %}
<details{{ " open" if loop.first }}><summary>{{ heading(each.metric) }}: {{ each.metric.title }}</summary>
<div class="halves" style="margin-top: 8px">{{ cases_("best", each, each.best) }}{{ cases_("worst", each, each.worst) }}
</div></details>
{% endfor %}
{% endif %}
"""

_VIDEOS = """
<h2>Videos</h2>
{% if gallery.thinned is not none %}
<p>Strips are cut to {{ gallery.thinned }} frames for the page to stay small.</p>{% endif %}
{% if videos %}
<form id="filters" hidden>
<label>system <select name="system"><option value="">all</option>
{% for name in systems %}<option value="{{ loop.index0 }}">{{ name | truncate(60) }}</option>{% endfor %}
</select></label>
<label>person <select name="person"><option value="">all</option>
{% for name in people %}<option value="{{ loop.index0 }}">{{ name | truncate(60) }}</option>{% endfor %}
</select></label>
<label>text <input name="text" type="search" size="14"></label><small id="shown"></small></form>
<div class="wide scroll"><table id="videos"><thead><tr>
{{ sorter("video", number=false) }}{{ sorter("system", number=false) }}{{ sorter("person", number=false) }}
{{ sorter("looked", "frames that were looked at") }}{{ sorter("no face", "of them without a face") }}
{% for metric in shown %}{{ sorter(heading(metric), metric.title) }}{% endfor %}
{{ sorter("problem", number=false) }}</tr></thead><tbody>
{% for each in videos %}{% set row = each.row %}
<tr data-system="{{ system_number[row.system] }}" data-person="{{ person_number.get(row.person, "") }}">
<td><a href="#v{{ loop.index0 }}">{{ clipped(row.file) }}</a></td>
<td>{{ clipped(row.system) }}</td><td>{{ clipped(row.person) if row.person is not none }}</td>
<td class="number" data-v="{{ row.looked }}">{{ row.looked | count }}</td>
{% set faceless = row.looked - row.faces_found %}
<td class="number" data-v="{{ faceless }}">{{ faceless or "" }}</td>
{% for metric in shown %}{% set score = row.scores.get(metric.name) %}
{% if score and score.value is not none %}
<td class="number" data-v="{{ score.value }}">{{ score.value | fixed(places[metric.name]) }}</td>
{% else %}<td class="number" title="{{ score.why if score else row.problem }}">–</td>{% endif %}
{% endfor %}<td class="problem">{{ clipped(row.problem) if row.problem }}</td></tr>
{% endfor %}</tbody></table></div>
<div id="cards">{% for each in videos %}{% set row = each.row %}
<details class="video" id="v{{ loop.index0 }}"><summary>{{ clipped(row.file) }} <small>{{ clipped(row.system) }}
{% if row.person is not none %} {{ clipped(row.person) }}{% endif %}</small>
{% for metric, score in each.chips %}<span class="chip">{{ metric.name | truncate(24) }}
<b>{{ score.value | fixed(places[metric.name]) }}</b></span>{% endfor %}
{% if row.problem %}<span class="chip problem">{{ row.problem | truncate(60) }}</span>{% endif %}</summary><div>
{{ video(each) }}</div></details>
{% endfor %}</div>
{% else %}<p>None.</p>{% endif %}
"""

_VIDEO = """
{% macro video(each) %}{% set row = each.row %}
{% if row.prompt %}<p style="margin-top: 8px"><bdi>{{ row.prompt }}</bdi></p>{% endif %}
<p>{{ row.frames | count }} frames of {{ row.width }} x {{ row.height }}, {{ row.looked | count }} looked at,
{{ row.faces_found | count }} with a face
{%- if row.several_faces %}, {{ row.several_faces | count }} with several{% endif %}
{%- if row.seed is not none %}; seed {{ row.seed }}{% endif %}.</p>
{% if row.problem %}<p class="problem">{{ row.problem }}</p>{% endif %}
<div class="beside">
{% if gallery.references.get(row.person) %}<div class="references"><h3>references</h3>
{{ references(row.person, given.get(row.person)) }}</div>{% endif %}
{% if gallery.strips.get(row.key) %}<div><h3>frames</h3><div class="strip">
{% for jpeg in gallery.strips[row.key] %}<img alt="" loading="lazy" src="data:image/jpeg;base64,{{ jpeg }}">{% endfor %}
</div></div>{% endif %}</div>
{% if each.chart %}<div style="max-width: 440px"><h3>similarity over time</h3>
<p>{% for line in each.chart.lines %}<i class="key c{{ embedder_number.get(line.name, 0) % 5 }}"
{% if loop.first %} style="margin-left: 0"{% endif %}></i>{{ line.name }}{% endfor %}; dashed: the mean of impostors;
a gap: no face</p>
<svg viewBox="-34 -8 {{ width + 40 }} {{ height + 30 }}" role="img" aria-label="similarity over time">
{% for level in each.chart.levels %}<line class="axis" x1="0" x2="{{ width }}" y1="{{ "%.1f" | format(level.y) }}"
 y2="{{ "%.1f" | format(level.y) }}"/><text x="-6" y="{{ "%.1f" | format(level.y + 4) }}" text-anchor="end">
{{- level.value | short }}</text>{% endfor %}
{% for tick in each.chart.ticks %}<text x="{{ tick.x }}" y="{{ height + 16 }}"
 text-anchor="{{ "start" if loop.first else "end" if loop.last else "middle" }}">{{ tick.value | short }}
{{- " s" if loop.last }}</text>{% endfor %}
{% for mark in each.chart.marks %}<line class="chance c{{ embedder_number.get(mark.name, 0) % 5 }}" x1="0"
 x2="{{ width }}" y1="{{ "%.1f" | format(mark.y) }}" y2="{{ "%.1f" | format(mark.y) }}"/>{% endfor %}
{% for line in each.chart.lines %}<path class="c{{ embedder_number.get(line.name, 0) % 5 }}" d="{{ line.path }}"/>
{% endfor %}</svg></div>{% endif %}
{% if each.scores %}<h3>scores</h3><div class="wide scores"><table>
{% for metric, score, spark_ in each.scores %}<tr><td class="what">{{ heading(metric) }}</td>
<td class="number">{{ score.value | fixed(places[metric.name]) }}</td>
<td>{% if spark_ %}<svg class="spark" viewBox="-2 -2 {{ spark[0] + 4 }} {{ spark[1] + 4 }}" aria-hidden="true">
<path d="{{ spark_ }}"/></svg>{% endif %}</td><td class="why">{{ score.why }}</td></tr>
{% endfor %}</table></div>{% endif %}
{% endmacro %}
"""

_END = """
<h2>People</h2>
{% if results.people %}
<div class="wide people"><table><tr><th>person</th><th>pictures</th><th class="number">pictures</th>
<th class="number">with a face</th><th>problem</th></tr>
{% for each in results.people %}<tr><td>{{ clipped(each.name) }}</td><td>{{ references(each.name, each.given) }}</td>
<td class="number">{{ each.pictures | length }}</td><td class="number">{{ each.faces }}</td>
<td class="problem">{{ each.problem }}</td></tr>{% endfor %}</table></div>
{% else %}<p>None with references.</p>{% endif %}

<h2>How it was made</h2>
<div class="wide"><table><tr><th>embedder</th><th>fingerprint</th><th>independent</th><th>note</th></tr>
{% for each in results.embedders %}<tr><td>{{ each.name }}</td><td><code>{{ each.fingerprint }}</code></td>
<td>{{ "not known" if each.independent is none else "yes" if each.independent else "no" }}</td>
<td class="why">{{ each.note }}</td></tr>{% else %}<tr><td>none</td></tr>{% endfor %}</table></div>
<details><summary>Metrics, settings and versions</summary><div class="wide"><table>
{% for metric in results.metrics %}<tr><td>{{ heading(metric) }}</td>
<td>version {{ metric.version }}: {{ metric.title }}</td></tr>{% endfor %}
{% for name, value in settings %}<tr><td><code>{{ name }}</code></td><td><code>{{ value }}</code></td></tr>{% endfor %}
{% for name, value in results.versions.items() %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}
</table></div></details>
<p style="margin-top: 24px">{{ results.notice }}</p>
"""

PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
{{ policy }}
<title>mmjax.evaluate: {{ systems | join(", ") | truncate(80) }}</title><style>{{ style }}
{% for class, jpeg in gallery.shared.items() %}.{{ class }} { background-image: url(data:image/jpeg;base64,{{ jpeg }})
 !important; }
{% endfor %}</style></head><body>
"""
    + _MACROS
    + _VIDEO
    + _TOP
    + _FIGURES
    + _CHARTS
    + _VIDEOS
    + _END
    + """<script>{{ script }}</script></body></html>
"""
)
