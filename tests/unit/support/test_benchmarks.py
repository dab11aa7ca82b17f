"""What the benchmarks read and decide, without running any: reports of load generators, missing rows, the answers."""

import json
import subprocess
import sys
from collections import Counter
from uuid import UUID

import pytest

from benchmarks.answers import Template, plain_template, response_id, stream_blocks, stream_templates
from benchmarks.book import Book, MissingRowsError, check
from benchmarks.endurance import EnduranceFigures
from benchmarks.lag import Lags, figures
from benchmarks.load import LoadError, read_oha, read_wrk
from benchmarks.mixed_load import kind_of
from benchmarks.proxy import ROOT

WRK = """Running 3s test @ http://127.0.0.1:18080
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   349.93us  401.15us   9.05ms   93.34%
    Req/Sec    92.64k     9.33k  105.73k    76.67%
  Latency Distribution
     50%  189.00us
     75%  304.00us
     90%    1.02s
     99%    2.42ms
  276512 requests in 3.00s, 496.54MB read
"""
TOTALS = "Requests/sec:  92001.83\nTransfer/sec:    165.21MB\n"


def test_wrk_report_has_refused_calls_counts_them_with_socket_errors_as_errors() -> None:
    report = WRK + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n" + TOTALS
    assert read_wrk(report).errors == 15


def test_wrk_report_is_clean_gives_rate_and_latency_in_milliseconds() -> None:
    load = read_wrk(WRK + TOTALS)
    assert (load.requests, load.requests_per_s, load.p50_ms, load.p99_ms, load.errors) == (
        276512,
        92001.83,
        pytest.approx(0.189),
        pytest.approx(2.42),
        0,
    )


def test_wrk_report_lacks_its_totals_is_refused() -> None:
    with pytest.raises(LoadError, match="no totals"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_oha_report_counts_only_2xx_as_requests() -> None:
    report = {
        "summary": {"requestsPerSec": 10.5},
        "latencyPercentiles": {"p50": 0.002, "p99": 0.01},
        "statusCodeDistribution": {"200": 100, "503": 7},
        "errorDistribution": {"connection closed": 2},
    }
    load = read_oha(report)
    assert (load.requests, load.errors, load.p50_ms) == (100, 9, 2.0)


def test_book_lacks_one_row_of_any_kind_fails_the_run() -> None:
    whole = {"received": 10, "attempts": 10, "chunks": 1000, "costs": 10, "closed": 10, "completed": 10}
    check(Book(**whole), answered=10, blocks=100)
    for kind in ("attempts", "chunks", "costs", "completed"):
        with pytest.raises(MissingRowsError, match="lacks"):
            check(Book(**{**whole, kind: whole[kind] - 1}), answered=10, blocks=100)


def test_stream_has_as_many_blocks_as_asked_for_of_recorded_size_and_numbered() -> None:
    blocks = stream_blocks(100)
    events = [json.loads(block.partition(b"\ndata: ")[2]) for block in blocks]
    assert [event["sequence_number"] for event in events] == list(range(100))
    assert events[-1]["response"]["usage"]["output_tokens"] > 0
    assert 200 <= len(blocks[50]) <= 300
    with pytest.raises(ValueError, match="too short"):
        stream_blocks(8)


@pytest.mark.parametrize("writes", [1, 7, 100])
def test_streamed_answer_is_the_same_bytes_however_many_writes(writes: int) -> None:
    pieces = [template.filled(response_id(7)) for template in stream_templates(100, writes)]
    assert len(pieces) == writes
    assert b"".join(pieces) == stream_templates(100, 1)[0].filled(response_id(7))


def test_plain_answer_has_the_length_that_it_announces() -> None:
    head, _, body = plain_template().filled(response_id(123)).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["id"] == response_id(123).decode()
    assert Template.of(b"a resp_@@@@ b").filled(b"X") == b"a X b"


def test_mixed_load_has_a_stream_in_ten_and_a_cut_in_a_hundred() -> None:
    kinds = Counter(kind_of(number) for number in range(1, 1_001))
    assert kinds == {"plain": 900, "stream": 90, "cut": 10}


def test_memory_that_grew_is_told_from_one_that_was_high_all_along() -> None:
    flat = EnduranceFigures(100, memory=[(n, 200 + n % 3) for n in range(101)])
    grown = EnduranceFigures(100, memory=[(n, 200 + n) for n in range(101)])
    assert abs(flat.growth) < 0.01
    assert grown.growth > 0.3


def test_lag_runs_from_the_sample_that_shows_an_event_durable_to_the_one_that_shows_it_folded() -> None:
    lags, journal = Lags(), UUID(int=1)
    lags.note("calls", journal, 5, 10, 1.0)
    lags.note("calls", journal, 5, 20, 2.0)
    lags.note("calls", journal, 19, 20, 2.1)
    lags.note("calls", journal, 20, 30, 2.5)
    lags.note("calls", journal, 30, 30, 2.6)
    assert lags.ms["calls"] == [pytest.approx(500), pytest.approx(100)]
    assert figures(lags)["calls"].max_ms == pytest.approx(500)


def test_proxy_without_books_knows_what_it_leaves_out() -> None:
    script = "import benchmarks.without_books as w; w.take_out('nothing')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
