"""Counting and telling: exact sums, bounded labels, places that pass from a dead worker to the next."""

from decimal import Decimal
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from api.metrics.cells import CELL_MAX, Cells, shared_directory
from api.metrics.exposition import exposition
from api.metrics.layout import MODELS_MAX, Layout
from api.metrics.meter import Meter
from ledger.events import CALL_REJECTED
from ledger.money.cost import Charge
from ledger.money.usage import Usage
from ledger.projections.lag import Lag
from tests.support.outcomes import outcome

LAYOUT = Layout(["gpt-5", "gpt-5-mini"])
USAGE = Usage(100, 40, 0, 20, 5)


def told(cells: Cells, lags: list[Lag] | None = None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(cells.layout, cells.readings(), lags).decode()
    return {
        (sample.name.removeprefix("responses_ledger_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_charges_are_summed_without_rounding() -> None:
    cells = Cells(LAYOUT)
    meter = Meter(cells)
    for _ in range(3):
        meter.charged("gpt-5", Charge("billed", usage=USAGE, billed_usd=Decimal("0.000000000001")))
    meter.charged("gpt-5", Charge("billed", usage=USAGE, billed_usd=Decimal("123456.000000000001")))
    meter.charged("gpt-5", Charge("estimated", estimated_usd=Decimal("0.5"), unknown=1))
    assert 123456_000000000004 in cells.values.tolist()
    samples = told(cells)
    assert samples["tokens_total", (("kind", "input"), ("model", "gpt-5"))] == 400
    assert samples["tokens_total", (("kind", "output_reasoning"), ("model", "gpt-5"))] == 20
    assert samples["spend_usd_total", (("model", "gpt-5"), ("state", "estimated"))] == 0.5
    assert samples["unknown_costs_total", (("model", "gpt-5"),)] == 1
    assert samples["unknown_costs_total", (("model", "gpt-5-mini"),)] == 0


def test_sum_of_money_that_no_longer_fits_begins_anew() -> None:
    cells = Cells(LAYOUT)
    meter = Meter(cells)
    for _ in range(3):
        meter.charged("gpt-5", Charge("billed", billed_usd=Decimal(9_000_000)))
    assert max(cells.values.tolist()) == 27_000_000 * 10**12 % CELL_MAX


def test_calls_are_counted_by_end_and_times_by_bucket() -> None:
    cells = Cells(LAYOUT)
    meter = Meter(cells)
    meter.ended(outcome())
    meter.ended(outcome(duration_us=10_000, is_stream=True))
    meter.ended(outcome(terminal=CALL_REJECTED, status=400, attempts=0, is_stream=False))
    samples = told(cells)
    labels = {"model": "gpt-5", "status": "2xx", "terminal": "completed", "stream": "true"}
    assert samples["calls_total", tuple(sorted(labels.items()))] == 2
    labels = {"model": "gpt-5", "status": "4xx", "terminal": "rejected", "stream": "false"}
    assert samples["calls_total", tuple(sorted(labels.items()))] == 1
    stream = (("model", "gpt-5"), ("stream", "true"))
    assert samples["call_duration_seconds_count", stream] == 2
    assert samples["call_duration_seconds_sum", stream] == 0.016
    assert samples["call_duration_seconds_bucket", (("le", "0.005"), *stream)] == 0
    assert samples["call_duration_seconds_bucket", (("le", "0.01"), *stream)] == 2
    assert samples["added_latency_seconds_bucket", (("le", "0.0025"), *stream)] == 1
    assert samples["added_latency_seconds_sum", stream] == 0.008
    assert samples["first_chunk_seconds_bucket", (("le", "0.001"), *stream)] == 2
    assert ("call_duration_seconds_count", (("model", "gpt-5"), ("stream", "false"))) not in samples


def test_labels_are_bounded_by_the_config_whatever_clients_name() -> None:
    cells = Cells(Layout(f"m{number}" for number in range(MODELS_MAX + 50)))
    meter = Meter(cells)
    for number in range(1_000):
        meter.ended(outcome(f"m{number}"))
    meter.ended(outcome(""))
    counts = {dict(labels)["model"]: value for (name, labels), value in told(cells).items() if name == "calls_total"}
    assert len(counts) == MODELS_MAX + 2
    assert counts["other"] == 1_000 - MODELS_MAX
    assert counts["none"] == 1


def test_model_that_is_called_other_shares_the_label() -> None:
    cells = Cells(Layout(["other"]))
    Meter(cells).ended(outcome("unheard of"))
    Meter(cells).ended(outcome("other"))
    assert [value for (name, _), value in told(cells).items() if name == "calls_total"] == [2]


def test_lag_is_told_by_projection_and_its_absence_as_a_database_that_is_away() -> None:
    cells = Cells(LAYOUT)
    samples = told(cells, [Lag("spend", 7, 0.25, 0)])
    assert samples["projection_lag_seconds", (("projection", "spend"),)] == 0.25
    assert samples["database_up", ()] == 1
    samples = told(cells)
    assert samples["database_up", ()] == 0
    assert not [name for name, _ in samples if name.startswith("projection_lag")]


def test_workers_are_summed_and_a_dead_ones_counts_pass_to_its_successor(tmp_path: Path) -> None:
    first, second = Cells(LAYOUT, tmp_path), Cells(LAYOUT, tmp_path)
    assert (first.worker, second.worker) == (0, 1)
    for cells in (first, second, second):
        Meter(cells).ended(outcome())
        cells.values[LAYOUT.gauges_at] = 1
    labels = tuple(sorted({"model": "gpt-5", "status": "2xx", "terminal": "completed", "stream": "true"}.items()))
    assert told(first) == told(second)
    assert told(first)["calls_total", labels] == 3
    second.close()
    samples = told(first)
    assert samples["calls_total", labels] == 3
    assert samples["workers", ()] == 1
    assert ("calls_in_flight", (("worker", "1"),)) not in samples
    third = Cells(LAYOUT, tmp_path)
    Meter(third).ended(outcome())
    assert third.worker == 1
    assert told(first)["calls_total", labels] == 4
    first.close()
    third.close()


def test_cells_that_another_config_counted_are_not_read(tmp_path: Path) -> None:
    former = Cells(Layout(["gpt-5", "gpt-5-nano"]), tmp_path)
    Meter(former).ended(outcome())
    present = Cells(LAYOUT, tmp_path)
    assert len(present.readings()) == 1
    former.close()
    taken = Cells(LAYOUT, tmp_path)
    assert (taken.worker, any(taken.values)) == (0, False)
    taken.close()
    present.close()


def test_shared_directory_goes_with_its_proxy_and_leaves_those_in_use() -> None:
    with shared_directory() as first:
        dead = first.with_name(first.name + "-dead")
        dead.mkdir()
        (dead / "lock").touch()
        with shared_directory() as second:
            assert first.is_dir()
            assert not dead.exists()
            assert first != second
        assert not second.exists()
    assert not first.exists()
