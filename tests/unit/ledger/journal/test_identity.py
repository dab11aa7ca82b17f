"""Which writers are certainly dead: only ended processes of this boot and this process namespace."""

import os
import subprocess
import sys

import pytest

from ledger.journal.identity import is_certainly_dead, writer_identity


def test_identity_of_this_process_is_not_dead() -> None:
    assert not is_certainly_dead(writer_identity("1"))


def test_identity_of_an_ended_process_is_certainly_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    assert is_certainly_dead({**writer_identity("1"), "pid": process.pid})


def test_identity_of_a_zombie_is_certainly_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_certainly_dead({**writer_identity("1"), "pid": process.pid})
    process.wait(30)


def test_identity_of_a_reused_process_id_is_certainly_dead() -> None:
    assert is_certainly_dead({**writer_identity("1"), "started": "1"})


@pytest.mark.parametrize(
    "change", [{"boot_id": "another"}, {"pid_namespace": "pid:[1]"}, {"boot_id": None}, {"started": None}, {"pid": "1"}]
)
def test_identity_that_cannot_be_compared_is_not_certainly_dead(change: dict[str, object]) -> None:
    assert not is_certainly_dead({**writer_identity("1"), "started": "1", "pid": 2**22 + 1, **change})


def test_identity_of_another_kind_of_writer_is_not_certainly_dead() -> None:
    assert not is_certainly_dead({})
