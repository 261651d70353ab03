"""Waiting lines and operational laws against known answers, and against simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaincc

from harness.capacity import laws, queues
from harness.errors import UsageError
from tests.capacity.made_server import Place, calls, constant


@pytest.mark.parametrize(("servers", "mean_ms", "p99_ms"), [(1, 90.0, 450.0), (4, 19.7, 109.0), (16, 3.70, 25.5)])
def test_mmc_at_90_percent_of_servers_of_100_a_second(servers: int, mean_ms: float, p99_ms: float) -> None:
    rate = 0.9 * servers * 100
    assert queues.mmc_wait_mean_s(rate, 0.01, servers) * 1000 == pytest.approx(mean_ms, rel=0.003)
    assert queues.mmc_wait_quantile_s(0.99, rate, 0.01, servers) * 1000 == pytest.approx(p99_ms, rel=0.004)


def test_erlang_c_of_his_own_tables() -> None:
    assert queues.erlang_c(1, 0.4) == pytest.approx(0.4)
    assert queues.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert queues.erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)
    assert queues.erlang_c(3, 3.0) == 1.0


def test_saturated_lines_wait_for_ever() -> None:
    times = np.array([0.0, 10.0])
    assert queues.mmc_wait_mean_s(100, 0.01, 1) == math.inf
    assert queues.mmc_wait_quantile_s(0.5, 101, 0.01, 1) == math.inf
    assert queues.mgc_wait(400, 0.01, 4, 0.5)(times).tolist() == [1, 1]
    assert queues.mdc_wait(400, 0.01, 4)(times).tolist() == [1, 1]
    assert queues.sum_quantiles_s([0.1], [1], [queues.mgc_wait(400, 0.01, 4, 1)], [0.5]) == (math.inf,)


@pytest.mark.parametrize(("servers", "utilisation"), [(1, 0.5), (1, 0.9), (4, 0.8), (16, 0.9), (48, 0.96), (8, 0.2)])
def test_exact_mdc_against_a_simulation(servers: int, utilisation: float) -> None:
    rate, n = utilisation * servers / 0.05, 60_000
    came, left = calls(rate, n, 3, [Place(servers, constant(0.05))])
    waited = np.maximum(left - came - 0.05, 0)[n // 10 :]
    exact = queues.mdc_wait(rate, 0.05, servers)
    points = np.array([1e-9, 0.004, 0.02, 0.05, 0.12])
    simulated = [float((waited > point).mean()) for point in points]
    assert exact(points) == pytest.approx(simulated, abs=0.03 if utilisation > 0.85 else 0.012)


@pytest.mark.parametrize("utilisation", [0.1, 0.5, 0.9, 0.98, 0.995])
def test_md1_has_half_the_mean_wait_of_mm1(utilisation: float) -> None:
    """Pollaczek and Khinchine: Wq = u·D ÷ 2(1 - u); the mean is the integral of the survival."""
    survival = queues.mdc_wait(utilisation, 1.0, 1)
    grid = np.linspace(0, 40 / (1 - utilisation), 200_001)
    mean = float(np.trapezoid(survival(grid), grid))
    assert mean == pytest.approx(utilisation / 2 / (1 - utilisation), rel=0.01)
    assert queues.mgc_wait_mean_s(utilisation, 1.0, 1, 0.0) == pytest.approx(mean, rel=0.01)


def test_the_exact_capacity_of_a_bucket_of_400_a_second() -> None:
    """p99 < 200 ms is held up to .971 R under Poisson arrivals: μ - ln 100 ÷ 2T, and the exact tail agrees."""
    low, high = 300.0, 399.9
    for _ in range(16):
        middle = (low + high) / 2
        wait = queues.quantile_s(queues.mdc_wait(middle, 1 / 400, 1), 0.99) + 1 / 400
        low, high = (middle, high) if wait < 0.2 else (low, middle)
    assert low / 400 == pytest.approx(1 - math.log(100) / (2 * 0.2) / 400, abs=0.0003)


def test_mgc_lies_between_its_neighbours() -> None:
    waits = [queues.quantile_s(queues.mgc_wait(360, 0.01, 4, cv2), 0.99) for cv2 in (0.0, 0.5, 1.0, 2.0)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(queues.quantile_s(queues.mdc_wait(360, 0.01, 4), 0.99), rel=0.001)
    assert waits[2] == pytest.approx(queues.mmc_wait_quantile_s(0.99, 360, 0.01, 4), rel=0.001)
    assert waits[3] == pytest.approx(1.5 * waits[2], rel=0.02)


def test_a_line_without_calls_is_empty() -> None:
    assert queues.mgc_wait(0.0, 0.01, 4, 0.5)(np.array([0.0])).tolist() == [0]
    assert queues.quantile_s(queues.mgc_wait(1e-3, 0.01, 16, 0.0), 0.99) == 0


def test_sums_of_times() -> None:
    spread: queues.Survival = lambda times: np.exp(-times / 0.1)  # noqa: E731
    erlang: queues.Survival = lambda times: gammaincc(2, times / 0.1)  # noqa: E731
    found = queues.sum_quantiles_s([0.05], [1.0], [spread, spread], [0.5, 0.9, 0.99])
    assert found == pytest.approx([0.05 + queues.quantile_s(erlang, q) for q in (0.5, 0.9, 0.99)], rel=0.005)
    assert queues.sum_quantiles_s([0.05, 0.1], [99, 1], [], [0.5, 0.999]) == pytest.approx((0.05, 0.1), rel=0.001)


# -- operational laws ------------------------------------------------------------------------------------------------


def test_exact_mva() -> None:
    """D = 5 ms, Z = 100 ms: N = 16 gives 141.6/s, N = 32 gives 199.3/s."""
    found = laws.mva(32, [0.005], 0.1)
    assert (found[15], found[31]) == pytest.approx((141.6, 199.3), abs=0.05)
    assert found[0] == pytest.approx(1 / 0.105)


def test_mva_of_a_balanced_system() -> None:
    """K equal places, N users: X = N ÷ (D·(N + K - 1)) (Lazowska et al., §5.4)."""
    assert laws.mva(7, [0.01] * 4)[-1] == pytest.approx(7 / (0.01 * 10))


def test_mva_stays_within_the_asymptotic_bounds() -> None:
    """X ≤ min(1 ÷ Dmax, N ÷ (D + Z)), R ≥ max(D, N·Dmax - Z) (Lazowska et al., §5.2)."""
    demands = [0.005, 0.002, 0.02]
    for users, throughput in enumerate(laws.mva(40, demands, 0.3), start=1):
        assert throughput <= min(1 / 0.02, users / (0.3 + 0.027)) * (1 + 1e-12)
        assert laws.response_s(users, throughput, 0.3) >= max(0.027, users * 0.02 - 0.3) * (1 - 1e-12)


def test_littles_law() -> None:
    assert laws.in_flight(200, 0.05) == pytest.approx(10)


def test_several_servers_as_one() -> None:
    assert laws.of_many(0.02, 8) == pytest.approx((0.0025, 0.0175))
    assert laws.of_many(0.02, 0.5) == pytest.approx((0.04, 0.0))


def test_usl_of_a_published_system() -> None:
    """SPEC SDM91 on a SPARCcenter 2000 (Gunther, 2007): sigma .0277, kappa .000104, a peak near 96 users."""
    users = [1, 18, 36, 72, 108, 144, 216]
    rps = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]
    law = laws.fitted_usl(users, rps)
    assert law.alpha == pytest.approx(0.0277, rel=0.01)
    assert law.beta == pytest.approx(0.000104, rel=0.01)
    assert law.peak_users == pytest.approx(96.5, rel=0.01)
    assert law.users_at(law.throughput_rps(50)) == pytest.approx(50)
    assert law.users_at(law.peak_rps * 1.01) == math.inf


def test_usl_without_contention_is_a_line() -> None:
    law = laws.fitted_usl([1, 2, 4, 8], [100, 200, 400, 800])
    assert law.throughput_rps(20) == pytest.approx(2000, rel=0.01)
    assert laws.Usl(100, 0, 0).peak_rps == math.inf
    assert laws.Usl(100, 0.1, 0).peak_rps == pytest.approx(1000)
    with pytest.raises(UsageError, match="3 levels"):
        laws.fitted_usl([1, 2], [100, 200])
