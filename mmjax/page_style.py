"""How the pages that mmjax writes look, and what keeps them safe: one style, one Jinja2 environment, one policy.

A page is a single file that works offline. What it shows of inputs is anybody's text, so every text is escaped, and the
content security policy lets nothing be fetched and no script run but the page's own.
"""

import base64
import hashlib

import jinja2
from markupsafe import Markup


def environment() -> jinja2.Environment:
    """Escapes everything, and fails where a template asks for what is not there."""
    made = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    made.filters["count"] = "{:,}".format
    made.filters["short"] = lambda value: "" if value is None else f"{value:.3g}"
    made.filters["share"] = lambda part, whole: f"{100 * part / max(whole, 1):.1f} %"
    return made


def policy(script: str = "") -> Markup:
    """The tag of the content security policy: pictures and style within the page, and this script alone, if any."""
    run = ""
    if script:
        run = f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    content = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'{run}"
    return Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(Markup(content))


STYLE = """
:root { color-scheme: light dark; --paper: #f7f7f5; --card: #fff; --ink: #1d1f23; --faint: #666b75; --line: #e2e2de;
  --teal: #2a7f8e; --orange: #d9773a; --violet: #7a5bbf; --green: #4f8a3c; --rose: #b8466f; --mark: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; --card: #1f2227; --ink: #e8e8e6; --faint: #9aa0ab;
  --line: #33373e; --teal: #4fb3c4; --orange: #e8935c; --violet: #a88be8; --green: #84c06a; --rose: #e27aa0;
  --mark: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 26px; letter-spacing: -.01em; } h2 { margin: 44px 0 4px; font-size: 19px; }
h3 { margin: 22px 0 8px; font-size: 15px; } p { margin: 0 0 12px; color: var(--faint); max-width: 76ch; }
code { font: 12.5px/1.5 ui-monospace, monospace; }
p code { white-space: nowrap; } p.command code { white-space: normal; }
.number { font-variant-numeric: tabular-nums; text-align: right; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 20px 0; }
.figure, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.figure { padding: 12px 16px; color: var(--faint); font-size: 13.5px; }
.figure b { display: block; font-size: 24px; line-height: 1.25; color: var(--ink); font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 14px; }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); }
td, th { padding: 6px 12px; text-align: left; border-top: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 500; }
th, td.number, td.name { white-space: nowrap; overflow-wrap: normal; }
th.number { text-align: right; } a { color: inherit; }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); }
.card { padding: 14px 16px; margin: 0; } .card h3 { margin: 0 0 2px; } .card p { margin: 0 0 8px; font-size: 13px; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
svg text { fill: var(--faint); font-size: 11.5px; }
svg .axis { stroke: var(--line); } svg .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; }
figure { margin: 0; font-size: 12px; line-height: 1.35; }
figcaption { color: var(--faint); margin-top: 4px; } figcaption b { color: var(--ink); }
ul { margin: 0 0 12px; padding-left: 18px; } details { margin-top: 12px; } summary { cursor: pointer; }
"""
