"""The embedded server through kills, rivals and bad ground; all of it with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.postgres import embedded_process
from ledger.postgres.embedded import EmbeddedPostgresError, start
from ledger.postgres.embedded_keeping import kept_running
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.embedded_locks import FileLock, is_held

ROOT = Path(__file__).resolve().parents[3]
PROXY = """
import sys
from pathlib import Path
from ledger.postgres.embedded import start
server = start(Path(sys.argv[1]), linger_s=float(sys.argv[2]))
print(server.url, flush=True)
sys.stdin.read()
server.release()
"""


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for a condition of another process, which can only be asked again and again."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it has not come true"
        time.sleep(0.02)


def postmaster_pid(directory: Path) -> int | None:
    found = embedded_process.read_postmaster(Layout(directory / "postgres").cluster)
    return None if found is None else found.pid


def can_query(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)
    return False


@pytest.fixture
def proxy(server_dir: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start processes that hold the server of `server_dir` until their standard input closes."""
    started: list[subprocess.Popen[str]] = []

    def begin(linger_s: float = 60.0, directory: Path = server_dir) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROXY, str(directory), str(linger_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()
    start(server_dir).release()


#: Far beyond the 0.1 to 0.3 s that it takes, for a machine and a disk that are busy; below each bound of the product.
PROMPT_S = 15.0


def test_start_twice_in_a_row_keeps_data_password_and_port(server_dir: Path) -> None:
    with start(server_dir) as server:
        url = server.url
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert postmaster_pid(server_dir) is None
    assert not is_held(Layout(server_dir / "postgres").watcher_lock)
    began = time.monotonic()
    with start(server_dir) as server:
        assert time.monotonic() - began < PROMPT_S
        assert server.url == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_new_cluster_is_durable_checked_utf8_and_closed_to_strangers(server_dir: Path) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "server_encoding", "listen_addresses")
    with start(server_dir) as server:
        with psycopg.connect(server.url) as connection:
            settings = [
                (connection.execute("SELECT current_setting(%s)", [name]).fetchone() or ("",))[0] for name in names
            ]
        assert settings == ["on", "on", "on", "on", "UTF8", "127.0.0.1"]
        password = server.url.partition("postgres:")[2].partition("@")[0]
        assert len(password) == 40
        for wrong in ("", "postgres", password[:-1]):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(server.url.replace(password, wrong))
        assert (Layout(server_dir / "postgres").password.stat().st_mode & 0o777) == 0o600
        assert (server.data_dir.stat().st_mode & 0o777) == 0o700
        assert server.data_dir.stat().st_uid != 0


def test_start_in_a_path_with_a_space_and_without_home(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    with start(server_dir / "a data dir") as server:
        assert can_query(server.url)
        assert server.data_dir.is_dir()


def test_two_proxies_share_one_server_and_the_last_one_stops_it(
    server_dir: Path, proxy: Callable[..., tuple[subprocess.Popen[str], str]]
) -> None:
    first, url = proxy()
    second, same_url = proxy()
    assert url == same_url
    pid = postmaster_pid(server_dir)
    first.communicate("", timeout=30)
    assert postmaster_pid(server_dir) == pid
    assert can_query(url)
    second.communicate("", timeout=30)
    assert postmaster_pid(server_dir) is None
    assert not is_held(Layout(server_dir / "postgres").watcher_lock)


def test_many_starting_at_once_on_an_empty_directory_get_one_server(server_dir: Path) -> None:
    command = [sys.executable, "-c", PROXY, str(server_dir), "60"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)
    ]
    urls = {process.stdout.readline() for process in processes if process.stdout is not None}
    for process in processes:
        process.communicate("", timeout=30)
    assert len(urls) == 1
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert postmaster_pid(server_dir) is None


def test_killed_proxy_leaves_a_server_that_the_next_one_adopts(
    server_dir: Path, proxy: Callable[..., tuple[subprocess.Popen[str], str]]
) -> None:
    first, url = proxy()
    pid = postmaster_pid(server_dir)
    first.kill()
    first.wait()
    with start(server_dir) as server:
        assert server.url == url
        assert postmaster_pid(server_dir) == pid
    assert postmaster_pid(server_dir) is None


def test_server_that_no_proxy_holds_stops_by_itself(
    server_dir: Path, proxy: Callable[..., tuple[subprocess.Popen[str], str]]
) -> None:
    first, _ = proxy(linger_s=0.5)
    first.kill()
    first.wait()
    eventually(lambda: not is_held(Layout(server_dir / "postgres").watcher_lock))
    assert postmaster_pid(server_dir) is None


def test_killed_postmaster_is_back_on_its_port_within_seconds(server_dir: Path) -> None:
    with start(server_dir) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        for _ in range(2):
            pid = postmaster_pid(server_dir)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed_at = time.monotonic()
            eventually(lambda: can_query(server.url))
            assert time.monotonic() - killed_at < PROMPT_S
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_postmaster_killed_the_moment_it_is_ready_is_back(server_dir: Path) -> None:
    with start(server_dir) as server:
        pid = postmaster_pid(server_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: postmaster_pid(server_dir) not in {None, pid} and can_query(server.url))


def test_killed_postmaster_with_a_stopped_backend_is_back(server_dir: Path) -> None:
    with start(server_dir) as server:
        connection = psycopg.connect(server.url)
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        pid = postmaster_pid(server_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: can_query(server.url))
        connection.close()


def kill_everything(server_dir: Path, number: int = signal.SIGKILL) -> int:
    """Signal the watcher and the postmaster; return the postmaster's process id."""
    pid = postmaster_pid(server_dir)
    assert pid is not None
    os.kill(int(Layout(server_dir / "postgres").watcher_pid.read_text()), number)
    os.kill(pid, number)
    return pid


def test_everything_killed_is_started_anew_and_ensure_running_keeps_the_url(server_dir: Path) -> None:
    with start(server_dir) as server:
        kill_everything(server_dir)
        eventually(lambda: not is_held(Layout(server_dir / "postgres").watcher_lock))
        url = server.url
        server.ensure_running()
        assert server.url == url
        assert can_query(url)


def test_everything_killed_is_brought_back_while_it_is_kept_and_not_once_it_was_released(server_dir: Path) -> None:
    with start(server_dir) as server, kept_running(server, look_s=0.05):
        pid = kill_everything(server_dir)
        eventually(lambda: postmaster_pid(server_dir) not in {None, pid} and can_query(server.url))
        server.release()
        server.ensure_running()
        assert postmaster_pid(server_dir) is None


def test_watcher_killed_alone_is_replaced_by_one_that_adopts_the_server(server_dir: Path) -> None:
    with start(server_dir) as server:
        layout = Layout(server_dir / "postgres")
        pid = postmaster_pid(server_dir)
        assert pid is not None
        os.kill(int(layout.watcher_pid.read_text()), signal.SIGKILL)
        eventually(lambda: not is_held(layout.watcher_lock))
        server.ensure_running()
        assert postmaster_pid(server_dir) == pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: can_query(server.url))
    assert postmaster_pid(server_dir) is None


def test_sigterm_to_the_whole_group_stops_nothing_while_a_proxy_lives(server_dir: Path) -> None:
    with start(server_dir) as server:
        pid = kill_everything(server_dir, signal.SIGTERM)
        eventually(lambda: postmaster_pid(server_dir) not in {None, pid} and can_query(server.url))
        assert is_held(Layout(server_dir / "postgres").watcher_lock)


def test_stale_pid_file_with_the_number_of_a_stranger_does_not_hinder(server_dir: Path) -> None:
    with start(server_dir) as server:
        url, cluster = server.url, server.data_dir
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    owner = cluster.stat()
    # Of the same user, because Postgres is content by itself with a process that it may not signal.
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid)
    stale = cluster / "postmaster.pid"
    stale.write_text("\n".join([str(stranger.pid), *lines[1:7], "ready"]) + "\n")
    os.chown(stale, owner.st_uid, owner.st_gid)
    try:
        with start(server_dir) as server:
            assert can_query(url)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stale_pid_file_with_the_number_of_a_zombie_does_not_hinder(server_dir: Path) -> None:
    with start(server_dir) as server:
        cluster = server.data_dir
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    owner = cluster.stat()
    zombie = subprocess.Popen(["true"], user=owner.st_uid, group=owner.st_gid)
    eventually(lambda: ") Z " in Path(f"/proc/{zombie.pid}/stat").read_text())
    stale = cluster / "postmaster.pid"
    stale.write_text("\n".join([str(zombie.pid), *lines[1:7], "ready"]) + "\n")
    os.chown(stale, owner.st_uid, owner.st_gid)
    with start(server_dir) as server:
        assert can_query(server.url)
    zombie.wait()


def test_port_taken_meanwhile_is_exchanged(server_dir: Path) -> None:
    import socket  # noqa: PLC0415 - the only test that listens

    with start(server_dir) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)), start(server_dir) as server:
        assert f":{port}/" not in server.url
        assert can_query(server.url)


def test_cluster_of_another_major_version_is_refused_with_what_to_do(server_dir: Path) -> None:
    with start(server_dir) as server:
        version = server.data_dir / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 17.*pg_dump") as caught:
        start(server_dir)
    version.write_text("18\n")
    assert str(version.parent) in str(caught.value)


def test_directory_that_cannot_be_made_is_refused_with_its_path(server_dir: Path) -> None:
    (server_dir / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"cannot write to the data directory .*file/data.*LLM_DATA_DIR"):
        start(server_dir / "file" / "data")


def test_broken_configuration_fails_with_the_servers_own_words(server_dir: Path) -> None:
    with start(server_dir) as server:
        configuration = server.data_dir / "postgresql.auto.conf"
    configuration.write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        start(server_dir)
    assert not is_held(Layout(server_dir / "postgres").watcher_lock)
    configuration.write_text("")
    start(server_dir).release()


def test_interrupted_initdb_leaves_nothing_in_the_way(server_dir: Path) -> None:
    layout = Layout(server_dir / "postgres")
    (layout.home / "cluster.new" / "cluster" / "base").mkdir(parents=True)
    layout.home.chmod(0o711)
    with start(server_dir) as server:
        assert can_query(server.url)
    assert not (layout.home / "cluster.new").exists()


def test_missing_password_is_named(server_dir: Path) -> None:
    start(server_dir).release()
    layout = Layout(server_dir / "postgres")
    kept = layout.password.read_text()
    layout.password.unlink()
    with pytest.raises(EmbeddedPostgresError, match="password"):
        start(server_dir)
    layout.password.write_text(kept)


def test_state_lock_held_too_long_is_said_with_its_path(server_dir: Path) -> None:
    with FileLock(server_dir / "lock") as holder, FileLock(server_dir / "lock") as waiter:
        assert holder.try_exclusive()
        with pytest.raises(EmbeddedPostgresError, match=r"fuser .*/lock"):
            waiter.wait_exclusive(0.1)
        with pytest.raises(EmbeddedPostgresError, match="lock"):
            waiter.wait_shared(0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_root_with_an_unreachable_directory_puts_the_cluster_where_it_can_be_reached(server_dir: Path) -> None:
    closed = server_dir / "closed"
    closed.mkdir(mode=0o700)
    with start(closed / "data") as server:
        assert can_query(server.url)
        cluster = server.data_dir
        assert not cluster.is_relative_to(server_dir)
        assert (cluster / "PG_VERSION").exists()
    assert (closed.stat().st_mode & 0o777) == 0o700
    with start(closed / "data") as server:
        assert server.data_dir == cluster
    subprocess.run(["rm", "-rf", str(cluster)], check=True)
    with pytest.raises(EmbeddedPostgresError, match="location"):
        start(closed / "data")
