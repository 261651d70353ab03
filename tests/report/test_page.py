"""The page: a golden copy, the same bytes twice, nothing hostile alive. GATEBENCH_GOLDEN=write renews the copy."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from harness.recording import Recording, Run
from harness.report import page
from harness.report.charts import figures, plotly_js

from . import fake

GOLDEN = Path(__file__).parent / "golden" / "report.html"
EVIL = "</script><img src=x onerror=alert(1)>"


def stand_in() -> str:
    """plotly.js by its hash, not by its megabytes."""
    return f"/* plotly.js {hashlib.sha256(plotly_js().encode()).hexdigest()} */"


def test_golden() -> None:
    made = page.render(fake.realistic(), stand_in())
    if os.environ.get("GATEBENCH_GOLDEN") == "write":
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8"), "if that is meant, renew it with GATEBENCH_GOLDEN=write"


def test_same_bytes_anywhere(tmp_path: Path) -> None:
    written = []
    for place in ("a", "b"):
        folder = tmp_path / place / "quick-1"
        folder.mkdir(parents=True)
        problem = f"{folder}/trials/x.jsonl.gz: torn"
        written.append(page.write(replace(fake.realistic(folder, 2), problems=(problem,))))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert str(tmp_path).encode() not in written[0].read_bytes()
    assert [path.name for path in written[0].parent.iterdir()] == ["report.html"]


class Elements(HTMLParser):
    """Every element and attribute that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def hostile() -> Run:
    asked = fake.scenario("quick/ping", question=f"Which? {EVIL}")
    end: dict[str, Any] = {"errors": {EVIL: 3, "javascript:alert(2)": 1, "=cmd()": 1}, "reason": EVIL}
    end |= {"notes": (EVIL, f"verdict SUSPECT cpu {EVIL}")}
    facts = {EVIL: {"deep": [EVIL, "javascript:alert(3)"]}, "none": None}
    about = {"framework": EVIL, EVIL: EVIL}
    made: list[Recording] = fake.plain("asgi", 900, asked=asked, end=end, facts=facts, about=about)
    rows = tuple(row.model_copy(update={"row": f"ping:{EVIL}"}) for one in made[:1] for row in one.rows)
    made[0] = replace(made[0], rows=made[0].rows + rows)
    manifest = {
        "command": [EVIL],
        "outcome": EVIL,
        "reason": EVIL,
        "notes": [EVIL],
        EVIL: {EVIL: EVIL},
        "measured_share": EVIL,
    }
    manifest |= {"holes": {EVIL: {"ping": EVIL, EVIL: EVIL}}, "failures": {EVIL: EVIL}}
    return Run(Path(f"x{EVIL.replace('/', '')}"), tuple(made), manifest, (EVIL,))


def test_nothing_hostile_is_alive() -> None:
    made = page.render(hostile(), "/* plotly.js */")
    seen = Elements(made).seen
    assert not [tag for tag, _ in seen if tag in {"img", "iframe", "a", "link", "object", "base", "form"}]
    assert not [
        name for _, attributes in seen for name in attributes if name.startswith("on") or name in {"href", "src"}
    ]
    assert [attributes.get("type") for tag, attributes in seen if tag == "script"].count(None) == 2
    assert "onerror" in made  # it is shown, as text
    drawn = "".join(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', made, re.DOTALL))
    assert "img src" in drawn.replace("\\u003c", "<")
    assert "<img" not in drawn.replace("\\u003c", "<")  # plotly reads pseudo-HTML


def test_policy_allows_two_scripts_and_no_fetch() -> None:
    made = page.render(fake.realistic(repeats=2), "/* plotly.js */")
    policy = next(attributes["content"] for tag, attributes in Elements(made).seen if "http-equiv" in attributes)
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("sha256-") == 2
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_banners() -> None:
    assert "One repeat: supports no claim." in page.render(fake.realistic(repeats=1), "")
    whole = page.render(fake.realistic(repeats=2), "")
    assert "PARTIAL" not in whole
    assert 'class="banner" role' not in whole
    partial = page.render(fake.realistic(repeats=2, outcome="interrupted", reason="SIGINT"), "")
    assert "PARTIAL: this run did not end as planned (interrupted). SIGINT" in partial
    assert "Nothing was recorded." in page.render(Run(Path("empty"), ()), "")


def test_void_cells_are_listed_and_never_drawn() -> None:
    end = {"notes": ("verdict VOID generator the schedule was not kept",)}
    run = Run(Path("run"), (*fake.plain("asgi", 900, end=end), *fake.plain("wsgi-sync", 500)))
    for panels in figures(run).values():
        for figure in panels.values():
            assert "asgi" not in json.dumps(figure.to_plotly_json())
    made = page.render(run, "")
    assert "<li>asgi is VOID: the schedule was not kept</li>" in made
    assert 'class="verdict VOID"' in made


def test_facts_that_changed_are_said() -> None:
    other = {**fake.FACTS, "os": "Linux 7"}
    run = Run(Path("run"), (*fake.plain("asgi", 900), *fake.plain("wsgi-sync", 500, facts=other)))
    assert "Measured on machines that differ" in page.render(run, "")


def certificate(**more: Any) -> dict[str, Any]:
    check = {"name": "freeze p99", "expected": "905 ± 5", "measured": 906.2, "unit": "ms", "ok": True}
    made = {"closed_ceiling_rps": 71_000, "open_ceiling_rps": 24_000, "wrk_rps": 118_000, "checks": [check], "ok": True}
    return made | {"made_at": "2026-11-21T10:00:00+00:00", "seconds": 51.0} | more


def test_the_certificate_stands_on_the_page() -> None:
    made = page.render(fake.realistic(repeats=2, certificate=certificate()), "")
    section = made.partition('<section id="instrument">')[2].partition("</section>")[0].replace("\u202f", " ")
    for said in ("71 000 requests/s closed", "wrk: 118 000", "24 000/s open", "Every check passed", "905 ± 5", "906"):
        assert said in section
    assert "closed_ceiling" not in made, "told once, not in the run's own record as well"
    failed = certificate(ok=False, checks=[certificate()["checks"][0] | {"ok": False, "tries": 2, "name": EVIL}])
    made = page.render(fake.realistic(repeats=2, certificate=failed), "")
    assert "It failed: &lt;/script&gt;&lt;img" in made
    assert "failed, asked twice" in made


def test_without_a_certificate_the_page_says_so() -> None:
    for none in (None, {}, EVIL, certificate(checks=EVIL)):
        made = page.render(fake.realistic(repeats=2, certificate=none), "")
        assert "No certificate: <code>gatebench selftest</code> makes one" in made
        assert EVIL not in made
