"""PROOFS T8 on real servers: ten sessions of eight blocks. Identical servers are called different twice at most; a
sleep that is 10 % longer is found each time.

About eleven minutes on a quiet machine: `make truth-long`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.blocks import values_of
from harness.paired import FASTER, SLOWER, Claim, claims, paired
from harness.recording import read_run
from harness.trial import TWIN
from tests.gate import Gate

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.long]

SESSIONS, BLOCKS, LEAST_USABLE = 10, 8, 6
MS, SLOWER_MS = 20, 22
VARIANT = "asgi"
# One second each: the pair is what counts, and a session has 32 of them.
SCENARIO = f"""
question = "Are identical servers called different, and is a slower one found?"
arrivals = "closed"
users = [16]
duration_s = 1
warmup_s = 0

[[scenario]]
name = "plain"
mix = [{{ endpoint = "sleep", query = "ms={MS}" }}]

[[scenario]]
name = "slower"
mix = [{{ endpoint = "sleep", query = "ms={SLOWER_MS}" }}]
"""


def compared(base: Mapping[int, float], new: Mapping[int, float]) -> Claim:
    """Without a noise floor: of an identical pair that would be the pair itself."""
    (claim,) = claims([paired(base, new)], higher_is_better=True)
    return claim


def of_session(folder: Path) -> tuple[dict[str, Claim], Claim]:
    """What is said of each identical pair, and of the slower sleep against the plain one in the same blocks."""
    values = values_of(read_run(folder).recordings, ["throughput_rps"])
    by_name = {cell.scenario.rpartition("/")[2]: variants for (cell, _), variants in values.items()}

    def blocks(name: str, variant: str) -> Mapping[int, float]:
        measured = by_name.get(name, {}).get(variant)
        return measured.blocks if measured else {}

    pairs = {name: compared(blocks(name, VARIANT), blocks(name, VARIANT + TWIN)) for name in ("plain", "slower")}
    return pairs, compared(blocks("plain", VARIANT), blocks("slower", VARIANT))


def test_identical_servers_and_a_slower_one(
    gate: Gate, quiet: Quiet, tmp_path: Path, told: Callable[[str], None]
) -> None:
    file = tmp_path / "aa.toml"
    file.write_text(SCENARIO, encoding="utf-8")
    false: Counter[str] = Counter()
    found, ratios = 0, []
    for session in range(SESSIONS):
        quiet.wait()
        options = ("--variants", VARIANT, "--aa", "--repeats", BLOCKS, "--seed", session, "--results", tmp_path)
        command = gate.start("run", file, *options, "--name", f"s{session}")
        ended = command.ended(240)
        assert ended.code in (0, 4), ended.err
        pairs, slower = of_session(tmp_path / f"s{session}")
        if (usable := min(one.ratio.blocks for one in (*pairs.values(), slower))) < LEAST_USABLE:
            pytest.skip(f"noise spoilt session {session}: {usable} of {BLOCKS} blocks can be used")
        false.update(name for name, claim in pairs.items() if claim.verdict in (FASTER, SLOWER))
        found += slower.verdict == SLOWER
        ratios.append(slower.ratio.ratio or 0.0)
        print(f"session {session}: {', '.join(f'{name} {one.verdict}, {one.reason}' for name, one in pairs.items())}")
        print(f"  {SLOWER_MS} ms: {slower.verdict}, {slower.reason}")
    told(
        f"real A/A, {SESSIONS} sessions of {BLOCKS} blocks: called different {false['plain']} times of {SESSIONS} "
        f"({false['slower']} at {SLOWER_MS} ms); a sleep of {SLOWER_MS} ms instead of {MS} found {found} times, "
        f"as {min(ratios):.3f} to {max(ratios):.3f} of the throughput"
    )
    assert false["plain"] <= 2
    assert found == SESSIONS
