"""Parts of the embedded server that the whole shows only by chance: accounts, copied programs, the log's bound."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ledger.postgres import embedded_account, embedded_binaries, embedded_cluster, embedded_process, embedded_watcher
from ledger.postgres.embedded import EmbeddedPostgresError
from ledger.postgres.embedded_layout import Layout
from tests.support.postgres import PrivateServer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")


def test_log_above_its_bound_is_emptied_in_place_and_its_end_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 700 + b"b" * 500)
        embedded_watcher.bound_log(log, bytes_max=2000)
        assert log.stat().st_size == 1200
        embedded_watcher.bound_log(log, bytes_max=1000)
        writer.write(b"next")
    assert log.read_bytes() == b"next"
    assert (tmp_path / "server.log.1").read_bytes() == b"b" * 500


def test_log_tail_shows_the_last_lines_or_why_there_are_none(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert "no server log" in embedded_process.log_tail(log)
    log.write_bytes(b"")
    assert "empty" in embedded_process.log_tail(log)
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff\n")
    assert embedded_process.log_tail(log, lines=2) == "  line 99\n  \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", ["", "x\n", "1\n2\n", "999999999\n/x\n1\n5\n", "OWN\n/x\n1\n5\n\n\n\nready\n"])
def test_postmaster_of_a_torn_stale_or_strange_pid_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text.replace("OWN", str(os.getpid())))
    assert embedded_process.read_postmaster(tmp_path) is None


@as_root
def test_system_account_where_none_can_be_added_is_nobody_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded_account, "NAME", "no-such-user-of-tests")
    monkeypatch.setattr(embedded_account, "RECIPES", ())
    account = embedded_account.choose(tmp_path / "cluster")
    assert account is not None
    assert account.name == "nobody"
    assert "no-such-user-of-tests" in caplog.text


def test_owner_other_than_the_caller_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: mine + 4711)
    with pytest.raises(EmbeddedPostgresError, match="belongs to user"):
        embedded_account.choose(tmp_path)


def test_user_without_a_name_is_told_that_initdb_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    with pytest.raises(EmbeddedPostgresError, match="3999999999 has no name"):
        embedded_account.require_name()


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_whole_and_world_readable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_dir: Path
) -> None:
    own = embedded_binaries.installed()
    monkeypatch.setattr(embedded_binaries, "SHARED_PLACES", (tmp_path / "unreachable", server_dir / "shared"))
    tmp_path.chmod(0o700)
    account = embedded_account.choose(server_dir / "cluster")
    assert account is not None

    def own_is_out_of_reach(self: embedded_account.Account, program: Path) -> bool:
        return not program.is_relative_to(own.root) and self.may("-x", program)

    monkeypatch.setattr(embedded_account.Account, "can_run", own_is_out_of_reach)
    copy = embedded_binaries.reachable(account)
    assert copy.root.parent == server_dir / "shared"
    assert {path.name for path in copy.bin.iterdir()} == {"initdb", "postgres"}
    embedded_cluster.create(Layout(_made(server_dir / "data" / "postgres")), copy, account, {"fsync": "off"})
    assert embedded_binaries.reachable(account) == copy


def test_stop_with_a_backend_that_does_not_answer_is_bounded(
    monkeypatch: pytest.MonkeyPatch, postgres_server: Callable[..., PrivateServer]
) -> None:
    assert embedded_process.FAST_STOP_S + 2 * embedded_process.IMMEDIATE_STOP_S <= 30
    monkeypatch.setattr(embedded_process, "FAST_STOP_S", 0.5)
    monkeypatch.setattr(embedded_process, "IMMEDIATE_STOP_S", 0.5)
    server = postgres_server()
    connection = psycopg.connect(server.url)
    os.kill(connection.info.backend_pid, signal.SIGSTOP)
    began = time.monotonic()
    server.stop()
    assert 1.0 < time.monotonic() - began < 10
    connection.close()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for made in (directory, directory.parent):
        made.chmod(0o711)
    return directory
