"""The split is exact, messages are signed data, and several processes do together what one does alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.load import fleet, schedule
from harness.load.fleet import Ask, Begin, Hello, Report, Stop, opened, sealed, shares
from harness.load.order import Fleet, Order, Progress
from harness.load.process import TOKEN, address_of, fleet_of
from harness.load_url import drive
from harness.proving import serving
from harness.serve.process import free_port
from harness.trial import Part, Scenario
from tests.gate import Gate, wait_for

PATTERNS = sorted(schedule.ARRIVALS)
MIX = (Part(endpoint="a", weight=3), Part(endpoint="b", weight=1))


def order(arrivals: str = "poisson", level: float = 100.0, connections: int = 4096, seed: int = 1) -> Order:
    scenario = Scenario(
        name="x",
        question="Is the union of all shares the whole?",
        arrivals=arrivals,
        mix=MIX,
        users=(int(level),) if arrivals == "closed" else (),
        rates=() if arrivals == "closed" else (level,),
        duration_s=3,
        connections=connections,
    )
    targets, expected = ("/a", "/b"), (None, None)
    return Order(
        scenario=scenario,
        level=level,
        seed=seed,
        host="127.0.0.1",
        port=80,
        targets=targets,
        expected=expected,
        rows="",
    )


# -- the split -------------------------------------------------------------------------------------------------------


def sent_by(share: Order) -> list[tuple[float, int]]:
    """When a worker sends what, as its users do."""
    times = schedule.blocks(share.scenario.arrivals, share.level, share.scenario.duration_s, share.seed)
    weights = [part.weight for part in share.scenario.mix]
    blocks = schedule.calls(times, weights, share.seed + 1, share.worker, share.workers)
    return [pair for due, parts in blocks for pair in zip(due.tolist(), parts.tolist(), strict=True)]


@given(st.sampled_from(PATTERNS), st.floats(1, 3000), st.integers(1, 9), st.integers(0, 2**48))
def test_the_union_of_the_shares_is_the_one_schedule(pattern: str, rate: float, workers: int, seed: int) -> None:
    whole = order(pattern, rate, seed=seed)
    each = [sent_by(share) for share in shares(whole, workers)]
    assert len(each) == workers
    assert sorted(pair for one in each for pair in one) == sorted(sent_by(whole))
    assert max(map(len, each)) - min(map(len, each)) <= 1


@given(st.integers(1, 500), st.integers(1, 40))
def test_closed_users_are_split_evenly_and_keep_their_numbers(users: int, workers: int) -> None:
    split = shares(order("closed", users), workers)
    numbers = [list(share.users) for share in split]
    assert sorted(number for one in numbers for number in one) == list(range(users))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1
    assert min(map(len, numbers)) > 0
    assert sum(map(fleet.weight, split)) == pytest.approx(1)


@given(st.integers(1, 5000), st.integers(1, 40))
def test_the_cap_on_connections_is_split_and_nobody_has_none(connections: int, workers: int) -> None:
    split = [share.connections for share in shares(order(connections=connections), workers)]
    assert sum(split) == connections
    assert min(split) > 0
    assert max(split) - min(split) <= 1


# -- messages --------------------------------------------------------------------------------------------------------

ASK = Ask(trial="0" * 16, order=order())
HELLO = Hello(clock="b", build="v", pid=1)


@pytest.mark.parametrize("word", [ASK, Begin(trial="0" * 16, origin=1.5), Stop(trial="0" * 16, error="x")])
def test_what_was_sealed_is_opened_by_whom_it_was_for(word: fleet.Down) -> None:
    assert opened(sealed(word, "w", "secret"), "w", "secret", fleet.DOWN) == word


def test_what_is_not_signed_for_us_is_not_heard() -> None:
    carried = sealed(HELLO, "w", "secret")
    assert opened(carried, "w", "secret", fleet.UP) == HELLO
    assert opened(carried, "w", "another secret", fleet.UP) is None
    assert opened(carried, "another worker", "secret", fleet.UP) is None
    assert opened(carried | {"text": carried["text"].replace("1", "2")}, "w", "secret", fleet.UP) is None
    assert opened(carried, "w", "secret", fleet.DOWN) is None, "no message of this direction"


@pytest.mark.parametrize(
    "carried", [None, 7, [], {}, {"text": "{}"}, {"text": 1, "seal": 2}, {"text": "{}", "seal": "é"}]
)
def test_what_is_no_message_is_not_heard(carried: Any) -> None:
    assert opened(carried, "w", "secret", fleet.UP) is None


def test_rows_of_a_worker_are_rows_and_nothing_else() -> None:
    good = json.dumps({"row": {"second": 0, "row": "ping", "completed": 3}}) + "\n"
    assert fleet.checked_rows(good * 2) == good * 2
    for bad in ('{"end": {}}\n', '{"row": {"second": -1, "row": "ping"}}\n', "rubbish\n", good + '{"row": {}}\n'):
        with pytest.raises(ValueError, match="validation error"):
            fleet.checked_rows(bad)


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(st.floats(1e-6, 0.5), st.floats(1e-6, 0.5)), min_size=1, max_size=20),
)
def test_an_offset_of_clocks_is_no_further_off_than_it_says(offset: float, delays: list[tuple[float, float]]) -> None:
    exchanges = [(float(k), k + there + offset, k + there + back) for k, (there, back) in enumerate(delays)]
    found, error = fleet.clock_offset(exchanges)
    assert abs(found - offset) <= error + 1e-6
    assert error == pytest.approx(min(there + back for there, back in delays) / 2, abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "stalled", "workers", "sentence"),
    [
        ([], [], 2, ""),
        ([0.5], [], 2, "1 of 2 load workers was lost: 50 % of the load"),
        ([0.25, 0.25], [], 4, "2 of 4 load workers were lost: 50 % of the load"),
        ([], [(0.5, 0.52)], 2, "1 of 2 load workers stalled for 0.52 s: 50 % of the load came late"),
        ([1.0], [], 1, "1 of 1 load worker was lost: 100 % of the load"),
    ],
)
def test_what_was_lost_is_said_in_words(
    lost: list[float], stalled: list[tuple[float, float]], workers: int, sentence: str
) -> None:
    assert fleet.spoilt(lost, stalled, workers) == sentence


def test_a_report_holds_what_a_load_process_says() -> None:
    said = Progress(state="done", errors={"reset": 2}, not_started=3, stalled_s=0.1)
    report = Report(trial="f" * 16, progress=said, rows="")
    assert opened(sealed(report, "w", "t"), "w", "t", fleet.UP) == report


# -- the command line's words ----------------------------------------------------------------------------------------


def test_who_makes_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert fleet_of(1).alone
    assert fleet_of(3) == Fleet(processes=3)
    with pytest.raises(UsageError, match=TOKEN):
        fleet_of(1, workers=1)
    with pytest.raises(UsageError, match="--workers"):
        fleet_of(2, bind="10.0.0.1")
    monkeypatch.setenv(TOKEN, "secret")
    assert fleet_of(1, workers=2) == Fleet(workers=2, bind="127.0.0.1", port=5557), "loopback unless told"
    assert fleet_of(1, workers=2, bind="10.0.0.1:99") == Fleet(workers=2, bind="10.0.0.1", port=99)


@pytest.mark.parametrize("text", ["", ":80", "a b", "host:x", "host:99999", "http://host", "*", "-h", "h:1:2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        address_of(text, 1)


# -- for real --------------------------------------------------------------------------------------------------------

SECONDS = 2


def asked(**more: Any) -> dict[str, Any]:
    given_more = {"rate": None, "users": None, "arrivals": "poisson", "connections": 64, "seed": 5} | more
    return {"duration": SECONDS, "timeout": 5.0} | given_more


def test_two_processes_send_the_one_schedule_and_count_as_the_server_does() -> None:
    with serving("delay", 5, log=True) as known:
        recording = drive(f"http://127.0.0.1:{known.port}/", **asked(rate=400.0, processes=2)).recording
        log = known.end()
    counts = recording.counts("url", range(SECONDS))
    assert counts.offered == counts.completed == len(log)
    due = schedule.draw("poisson", 400.0, SECONDS, 5)
    by_second = Counter(row.second for row in recording.rows for _ in range(row.offered))
    assert by_second == Counter(np.floor(due).astype(int).tolist()), "each arrival in its second, and only once"
    # the pooled histogram holds one sample an arrival, and its percentiles are the server's own
    pooled = recording.histogram("url", "service", range(SECONDS))
    assert pooled.n == len(log)
    served = sorted(entry.departed - entry.arrived for entry in log)
    assert pooled.quantile_us(0.5) / 1e6 == pytest.approx(served[len(served) // 2], abs=0.002)
    assert recording.end.outcome == "complete"
    assert recording.end.not_started == 0
    assert recording.end.notes == ("the load was made by 2 workers",)


def test_two_processes_hold_the_closed_users_between_them() -> None:
    with serving("delay", 20, log=True) as known:
        recording = drive(f"http://127.0.0.1:{known.port}/", **asked(users=5, processes=2)).recording
        log = known.end()
    counts = recording.counts("url", range(SECONDS))
    assert counts.offered == sum(counts[1:])
    assert counts.offered == len(log)
    inside = Counter[int]()
    for entry in log:  # how many calls the server worked on at once, at each arrival
        inside[sum(other.arrived <= entry.arrived < other.departed for other in log)] += 1
    assert max(inside) == 5, "all five users, and no sixth"
    assert recording.end.outcome == "complete"


def test_more_processes_than_users_is_no_harm() -> None:
    with serving("canned") as known:
        recording = drive(f"http://127.0.0.1:{known.port}/", **asked(users=1, processes=3, duration=1)).recording
    assert recording.counts("url", range(1)).completed > 100
    assert recording.end.outcome == "complete"


@pytest.mark.slow
def test_a_worker_started_by_hand_takes_its_share(gate: Gate) -> None:
    master, token = f"127.0.0.1:{free_port()}", {TOKEN: "secret"}
    with serving("delay", 5, log=True) as known:
        url = f"http://127.0.0.1:{known.port}/"
        worker = gate.start("load-worker", "--master", master, "--json", env=token)
        options = ["--rate", 200, "--duration", 2, "--workers", 1, "--bind", master, "--json"]
        load = gate.start("load", url, *options, env=token).ended()
        log = known.end()
    answer, served = json.loads(load.out), worker.ended()
    assert (load.code, served.code) == (0, 0), load.err + served.err
    assert json.loads(served.out) == {"master": master, "trials": 1}
    assert answer["verdict"] != "VOID"
    assert len(log) == len(schedule.draw("poisson", 200, 2, 1)), "each arrival once: half of them by each worker"


@pytest.mark.slow
def test_a_worker_with_a_clock_of_its_own_begins_at_the_same_moment(gate: Gate) -> None:
    """As on another machine: its monotonic clock is 5 000 s ahead, and only pings tell."""
    elsewhere = ["unshare", "--time", "--monotonic", "5000"]
    if subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces here")
    master, token = f"127.0.0.1:{free_port()}", {TOKEN: "secret"}
    with serving("delay", 5, log=True) as known:
        worker = gate.start("load-worker", "--master", master, prefix=elsewhere, env=token)
        options = ["--rate", 200, "--duration", 2, "--workers", 1, "--bind", master, "--arrivals", "constant", "--json"]
        load = gate.start("load", f"http://127.0.0.1:{known.port}/", *options, env=token).ended()
        log = known.end()
        assert worker.ended().code == 0
    assert load.code == 0, load.err
    assert len(log) == 400
    # one every 5 ms, by turns: were the clocks off by some ms, the turns would not be evenly apart
    gaps = np.diff([entry.arrived for entry in log])
    assert float(np.median(gaps)) == pytest.approx(0.005, abs=0.001)
    assert log[-1].arrived - log[0].arrived == pytest.approx(399 / 200, abs=0.1)


@pytest.mark.slow
def test_rubbish_on_the_port_for_workers_harms_nobody(gate: Gate) -> None:
    port, token = free_port(), {TOKEN: "secret"}
    master = f"127.0.0.1:{port}"
    with serving("canned") as known:
        options = ["--rate", 100, "--duration", 1, "--workers", 1, "--bind", master]
        load = gate.start("load", f"http://127.0.0.1:{known.port}/", *options, env=token)
        wait_for(lambda: "waiting for 1 more" in load.err, "the master", 15)
        context = zmq.Context()
        with socket.create_connection(("127.0.0.1", port)) as plain, context.socket(zmq.DEALER) as sender:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sender.setsockopt(zmq.IDENTITY, b"somebody")  # a plain one is refused by its name already
            sender.connect(f"tcp://{master}")
            for rubbish in RUBBISH:
                sender.send(rubbish)
            time.sleep(0.5)
        context.term()
        assert gate.start("load-worker", "--master", master, env=token).ended().code == 0
        assert load.ended().code == 0


RUBBISH = (
    b"",
    b"\xc1\xff",
    b"\x81\xa1a",  # a map cut short
    *(
        msgpack.dumps(rubbish)
        for rubbish in (
            7,
            [],
            ["client_ready", "2.47.0", "somebody"],
            ["stats", {}, "somebody"],
            ["gatebench", {"text": "{}", "seal": ""}, "somebody"],
            ["quit", None, "somebody"],
            [{"__datetime__": 1, "as_str": "x"}, None, None],
            [["spawn"], None, 3],
        )
    ),
)


@pytest.mark.slow
def test_a_worker_with_another_token_is_sent_away(gate: Gate) -> None:
    master = f"127.0.0.1:{free_port()}"
    with serving("canned") as known:
        options = ["--rate", 200, "--duration", 3, "--workers", 1, "--bind", master]
        load = gate.start("load", f"http://127.0.0.1:{known.port}/", *options, env={TOKEN: "secret"})
        wait_for(lambda: "waiting for 1 more" in load.err, load.err, 15)
        worker = gate.start("load-worker", "--master", master, env={TOKEN: "guessed"}).ended(20)
        assert worker.code == 2
        assert TOKEN in worker.line
        assert load.process.poll() is None, "it still waits for the right one"


@pytest.mark.slow
def test_a_worker_loads_only_what_its_own_machine_allows(gate: Gate, tmp_path: Path) -> None:
    own = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith(("127.", "169.254."))
    ]
    if not own:
        pytest.skip("this machine has no address but loopback")
    with socket.create_server((own[0], 0)) as nobody:
        target = f"{own[0]}:{nobody.getsockname()[1]}"
        (tmp_path / "gatebench").mkdir()
        (tmp_path / "gatebench" / "config.toml").write_text(f'allow = ["{target}"]\n')
        master, token = f"127.0.0.1:{free_port()}", {TOKEN: "secret"}
        worker = gate.start("load-worker", "--master", master, XDG_CONFIG_HOME=str(tmp_path / "nothing"), env=token)
        options = ["--rate", 200, "--duration", 2, "--workers", 1, "--bind", master]
        load = gate.start("load", f"http://{target}/", *options, XDG_CONFIG_HOME=str(tmp_path), env=token).ended()
        nobody.setblocking(False)
        with pytest.raises(BlockingIOError):
            nobody.accept()
    assert load.code == 2
    assert load.line.startswith(
        f"gatebench: a load worker: {own[0]} is {own[0]}, not this machine; if it is yours, put"
    )
    assert f'allow = ["{target}"]' in load.line
    assert str(tmp_path / "nothing") in load.line, "the file of the machine that refused it"
    worker.ended(15)


def test_the_port_for_workers_listens_on_loopback_only() -> None:
    code = (
        "import locust, psutil; from harness.load.master import Master; from harness.load.order import Fleet;"
        "Master(Fleet(processes=2), print);"
        "print(*{c.laddr.ip for c in psutil.Process().net_connections('tcp') if c.status == 'LISTEN'})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.split() == ["127.0.0.1"]
