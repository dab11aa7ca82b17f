"""URLs are read as psql reads them; what is refused is refused without showing the password."""

from __future__ import annotations

import ssl

import pytest

from ledger.postgres.url import DatabaseUrlError, Target, parse

SECRET = "s3cret"  # noqa: S105 - a canary


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://h/db", "mysql://"),
        ("", "postgresql://"),
        (f"u:{SECRET}@h/db", "begins otherwise"),
        (f"{SECRET}@h://x", "begins otherwise"),
        (f"postgres://u:{SECRET}/x@h/db", "%2F"),
        (f"postgres://u:x@{SECRET}@h/db", "%40"),
        (f"postgres://u:{SECRET}%zz@h/db", "%25"),
        (f"postgres://u:[{SECRET}/x@h/db", "%2F"),
        (f"postgres://u/?x{SECRET}@h=1", "NAME=VALUE"),
        (f"postgres://u:{SECRET}@h:0/db", "1 to 65535"),
        (f"postgres://u:{SECRET}@h:65536/db", "1 to 65535"),
        (f"postgres://u:{SECRET}%00@h/db", "NUL"),
        (f"postgres://u:{SECRET}%ff@h/db", "UTF-8"),
        (f"postgres://u:{SECRET}@a,b,c/db?port=1,2", "2 ports for 3 hosts"),
        (f"postgres://u:{SECRET}@h/db?sslmode=maybe", "sslmode='maybe'"),
        (f"postgres://u:{SECRET}@h/db?pool_size=5", "'pool_size'"),
        (f"postgres://u:{SECRET}@h/db?connect_timeout=soon", "connect_timeout='soon'"),
        (f"postgres://u:{SECRET}@h/db?sslrootcert=system&sslmode=require", "verify-full"),
        ("postgres://[::1/db", "IPv6"),
    ],
)
def test_parse_of_what_psql_refuses_says_why_and_shows_no_password(url: str, says: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        parse(url)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://", {}),
        ("postgres://h", {"host": ["h"]}),
        ("postgresql+asyncpg://u@h/db", {"host": ["h"], "user": "u", "database": "db"}),
        (
            "postgresql://u:p%40%2F%3A@h:5433/my%20db",
            {"host": ["h"], "port": [5433], "user": "u", "password": "p@/:", "database": "my db"},
        ),
        ("postgresql://u:w?x@h/d", {"host": ["h"], "user": "u", "password": "w?x", "database": "d"}),
        ("postgresql://[::1]:5/d", {"host": ["::1"], "port": [5], "database": "d"}),
        ("postgresql://a,b:2/d", {"host": ["a", "b"], "port": [5432, 2], "database": "d"}),
        ("postgresql://a,b/d?port=9", {"host": ["a", "b"], "port": [9, 9], "database": "d"}),
        ("postgresql:///d?host=/var/run/pg&port=6", {"host": ["/var/run/pg"], "port": [6], "database": "d"}),
        ("postgresql://%2Fvar%2Frun%2Fpg/d", {"host": ["/var/run/pg"], "database": "d"}),
        ("postgresql://:5433/d", {"port": [5433], "database": "d"}),
        ("postgresql://h?user=u&password=p&dbname=d", {"host": ["h"], "user": "u", "password": "p", "database": "d"}),
        ("postgresql://h?hostaddr=10.0.0.1", {"host": ["10.0.0.1"]}),
        ("postgresql://h?sslmode=require", {"host": ["h"], "dsn": "postgresql://?sslmode=require"}),
        ("postgresql://h?ssl=true", {"host": ["h"], "dsn": "postgresql://?sslmode=require"}),
        (
            "postgresql://h?sslmode=verify-ca&sslrootcert=/a%20b/ca.pem",
            {"host": ["h"], "dsn": "postgresql://?sslmode=verify-ca&sslrootcert=/a%20b/ca.pem"},
        ),
        ("postgresql://a,b?target_session_attrs=primary", {"host": ["a", "b"], "target_session_attrs": "primary"}),
        ("postgresql://h?connect_timeout=7", {"host": ["h"]}),
        (
            "postgresql://h?application_name=me&options=-c%20jit%3Doff",
            {"host": ["h"], "server_settings": {"application_name": "me", "options": "-c jit=off"}},
        ),
    ],
)
def test_asyncpg_kwargs_of_what_psql_takes_mean_the_same(url: str, expected: dict[str, object]) -> None:
    assert parse(url).asyncpg_kwargs() == expected
    assert parse(parse(url).to_url()) == parse(url)


def test_asyncpg_kwargs_with_the_system_authorities_verify_host_and_chain() -> None:
    context = parse("postgresql://h?sslrootcert=system&sslmode=verify-full").asyncpg_kwargs()["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_hostaddr_with_verify_full_keeps_the_name_that_is_verified() -> None:
    kwargs = parse("postgresql://name?hostaddr=10.0.0.1&sslmode=verify-full").asyncpg_kwargs()
    assert kwargs["host"] == ["name"]


def test_connect_timeout_of_zero_or_none_is_no_limit() -> None:
    assert parse("postgresql://h?connect_timeout=7").connect_timeout_s == 7
    assert parse("postgresql://h?connect_timeout=0").connect_timeout_s is None
    assert parse("postgresql://h?connect_timeout=").connect_timeout_s is None
    assert parse("postgresql://h").connect_timeout_s is None


def test_ignored_names_what_psql_honours_and_asyncpg_cannot() -> None:
    assert parse("postgresql://h?channel_binding=require&sslmode=require").ignored == ("channel_binding",)


def test_psql_env_carries_everything_that_psql_reads_from_there() -> None:
    target = parse("postgresql://u:p%20w@a,b:2/d?sslmode=require&connect_timeout=3&keepalives=1")
    assert target.psql_env() == {
        "PGHOST": "a,b",
        "PGPORT": ",2",
        "PGUSER": "u",
        "PGPASSWORD": "p w",
        "PGDATABASE": "d",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "3",
    }


def test_redacted_and_repr_show_everything_but_passwords() -> None:
    target = parse(f"postgresql://u:{SECRET}@h:5/d?sslpassword={SECRET}&sslkey=/k&sslmode=require")
    assert target.redacted() == "postgresql://u:***@h:5/d?sslpassword=***&sslkey=/k&sslmode=require"
    assert SECRET not in repr(target)
    assert parse("postgresql://u@h").redacted() == "postgresql://u@h"


def test_with_database_and_login_change_only_these() -> None:
    target = parse("postgresql://u:p@h/d?sslmode=require").with_database("e").with_login("v", None)
    assert target.to_url() == "postgresql://v@h/e?sslmode=require"
    assert isinstance(target, Target)
