"""`llm ledger psql` on a real server: who it is, what it may, and that its arguments and exit status go through."""

from tests.support.cli import ledger_process


def test_psql_is_the_reporting_role_and_reads_views_without_their_schema(database_url: str) -> None:
    asked = "SELECT current_user, (SELECT count(*) FROM spend_hourly), current_setting('application_name')"
    done = ledger_process("psql", "-X", "-Atc", asked, url=database_url)
    assert done.stdout.decode() == "responses_ledger_reporting|0|responses-ledger psql\n", done.stderr


def test_psql_writes_nothing(database_url: str) -> None:
    for arguments in (["-c", "CREATE TABLE public.x ()"], ["--as-owner", "-c", "CREATE TABLE public.x ()"]):
        done = ledger_process("psql", "-X", *arguments, url=database_url)
        assert (done.returncode, b"read-only transaction" in done.stderr) == (1, True)


def test_psql_does_not_reach_the_journal_itself(database_url: str) -> None:
    done = ledger_process("psql", "-X", "-c", "SELECT * FROM ledger.keys", url=database_url)
    assert (done.returncode, b"permission denied" in done.stderr) == (1, True)


def test_psql_as_owner_is_the_owners_login(database_url: str) -> None:
    done = ledger_process("psql", "--as-owner", "-X", "-Atc", "SELECT count(*) FROM ledger.keys", url=database_url)
    assert done.stdout == b"0\n", done.stderr


def test_psql_is_not_led_elsewhere_by_the_shells_variables(database_url: str) -> None:
    done = ledger_process(
        "psql", "-X", "-Atc", "SELECT current_user", url=database_url, PGSERVICE="other", PGHOSTADDR="192.0.2.1",
        PGOPTIONS="-c role=none",
    )  # fmt: skip
    assert done.stdout == b"responses_ledger_reporting\n", done.stderr


def test_psql_fails_as_psql_fails(database_url: str) -> None:
    assert ledger_process("psql", "-X", "-c", "SELECT nonsense", url=database_url).returncode == 1
    assert ledger_process("psql", "-X", "-f", "/nowhere/at.all", url=database_url).returncode == 1
    assert ledger_process("psql", "-X", "--no-such-option", url=database_url).returncode == 1
