"""Reads the URLs by which people name a Postgres database, as psql reads them; pure, no connection and no environment.

The grammar is libpq's (https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-URIS), plus SQLAlchemy's
`postgresql+asyncpg://`. A `Target` is turned into what asyncpg or psql takes; asyncpg's own parsing of a URL sends
parameters like `connect_timeout` to the server, which refuses them.
"""

from __future__ import annotations

import dataclasses
import re
import ssl
from typing import Any
from urllib.parse import quote, urlencode

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PORT_MAX = 65_535

#: libpq's parameters and the environment variables that carry them to psql (None: there is no such variable).
PARAMETERS: dict[str, str | None] = {
    "hostaddr": "PGHOSTADDR",
    "passfile": "PGPASSFILE",
    "application_name": "PGAPPNAME",
    "fallback_application_name": None,
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "client_encoding": "PGCLIENTENCODING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslpassword": None,
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcompression": "PGSSLCOMPRESSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "channel_binding": "PGCHANNELBINDING",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "gssencmode": "PGGSSENCMODE",
    "gssdelegation": "PGGSSDELEGATION",
    "gsslib": "PGGSSLIB",
    "krbsrvname": "PGKRBSRVNAME",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "keepalives": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "keepalives_count": None,
    "tcp_user_timeout": None,
    "replication": None,
}
#: asyncpg takes these only inside a URL.
SSL_IN_DSN = (
    *("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
)
#: asyncpg takes these as arguments of its own.
ARGUMENTS = ("passfile", "service", "servicefile", "target_session_attrs", "krbsrvname", "gsslib")
SETTINGS = {"application_name": "application_name", "options": "options"}


class DatabaseUrlError(ValueError):
    """A database URL cannot be read; the message says what is wrong and never holds the password."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A database as a URL names it; what the URL leaves out is empty or None and decided by the client's defaults."""

    hosts: tuple[str, ...] = ()
    ports: tuple[int | None, ...] = ()
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    database: str | None = None
    parameters: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    @property
    def connect_timeout_s(self) -> int | None:
        """The URL's `connect_timeout`; None where it names none or 0, which psql takes for ever."""
        value = int(dict(self.parameters).get("connect_timeout") or "0")
        return value if value > 0 else None

    @property
    def ignored(self) -> tuple[str, ...]:
        """Parameters that psql honours and asyncpg cannot; worth a warning where they demand security."""
        honoured = {*SSL_IN_DSN, *ARGUMENTS, *SETTINGS, "hostaddr", "connect_timeout", "client_encoding"}
        return tuple(name for name, _ in self.parameters if name not in {*honoured, "fallback_application_name"})

    def asyncpg_kwargs(self) -> dict[str, Any]:
        """Give the arguments of `asyncpg.connect`; without `timeout`, which is `connect_timeout_s`.

        `hostaddr` replaces the host as the address unless sslmode is verify-full, which must know the name.
        """
        given = dict(self.parameters)
        addresses = given["hostaddr"].split(",") if "hostaddr" in given else list(self.hosts)
        if self.hosts and given.get("sslmode") == "verify-full":
            addresses = list(self.hosts)
        kwargs: dict[str, Any] = {}
        if addresses:
            kwargs["host"] = addresses
        if any(port is not None for port in self.ports):
            kwargs["port"] = [port or 5432 for port in self.ports]
        kwargs.update({k: v for k, v in (("user", self.user), ("password", self.password)) if v is not None})
        if self.database is not None:
            kwargs["database"] = self.database
        kwargs.update({name: given[name] for name in ARGUMENTS if name in given})
        kwargs.update(_asyncpg_ssl(given))
        settings = {setting: given[name] for name, setting in SETTINGS.items() if name in given}
        if "application_name" not in settings and "fallback_application_name" in given:
            settings["application_name"] = given["fallback_application_name"]
        if settings:
            kwargs["server_settings"] = settings
        return kwargs

    def psql_env(self) -> dict[str, str]:
        """Give the environment that makes psql connect here; so the password stands in no command line."""
        env: dict[str, str] = {}
        if self.hosts:
            env["PGHOST"] = ",".join(self.hosts)
        if any(port is not None for port in self.ports):
            env["PGPORT"] = ",".join("" if port is None else str(port) for port in self.ports)
        login = {"PGUSER": self.user, "PGPASSWORD": self.password, "PGDATABASE": self.database}
        env.update({variable: value for variable, value in login.items() if value is not None})
        given = ((PARAMETERS[name], value) for name, value in self.parameters)
        env.update({variable: value for variable, value in given if variable is not None})
        return env

    def to_url(self) -> str:
        """Write the URL, password and all, in the form that psql and every driver reads."""
        return self._write(self.password, self.parameters)

    def redacted(self) -> str:
        """Write the URL with `***` for the password, to be shown and logged."""
        shown = tuple((name, "***" if name == "sslpassword" else value) for name, value in self.parameters)
        return self._write(None if self.password is None else "***", shown)

    def with_database(self, database: str) -> Target:
        """Name another database of the same server."""
        return dataclasses.replace(self, database=database)

    def with_login(self, user: str, password: str | None) -> Target:
        """Name another login of the same database."""
        return dataclasses.replace(self, user=user, password=password)

    def _write(self, password: str | None, parameters: tuple[tuple[str, str], ...]) -> str:
        login = "" if self.user is None else quote(self.user, safe="")
        if password is not None:
            login += ":" + (password if password == "***" else quote(password, safe=""))  # noqa: S105 - a mask
        pairs = zip(self.hosts or ("",) * len(self.ports), self.ports or (None,) * len(self.hosts), strict=True)
        hosts = ",".join(_write_host(host) + ("" if port is None else f":{port}") for host, port in pairs)
        path = "" if self.database is None else "/" + quote(self.database, safe="")
        query = "?" + urlencode(parameters, quote_via=quote, safe="/*") if parameters else ""
        return f"postgresql://{login}{'@' if login else ''}{hosts}{path}{query}"


def parse(url: str) -> Target:
    """Read a URL that psql would take, or one of SQLAlchemy's for asyncpg.

    Raises:
        DatabaseUrlError: it is none; says which part, without showing the password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        shown = f"with {scheme}://" if separator and re.fullmatch(r"[A-Za-z0-9+.-]{1,20}", scheme) else "otherwise"
        raise DatabaseUrlError(f"a database URL begins with postgresql:// or postgres://, this one begins {shown}")
    if "\0" in url or "%00" in url:
        raise DatabaseUrlError("the database URL contains a NUL character")
    # As in libpq, a login ends at the first '@' before the first '/', and may hold a '?'.
    login, at, rest = rest.partition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
    rest, _, query = rest.partition("?")
    hostspec, slash, path = rest.partition("/")
    user, colon, password = login.partition(":")
    hosts, ports = _parse_hosts(hostspec)
    fields: dict[str, str | None] = {
        "user": _decode(user, "user") if at and user else None,
        "password": _decode(password, "password") if colon and password else None,
        "dbname": _decode(path, "database name") if slash and path else None,
    }
    parameters = _parse_query(query)
    for name in fields:
        if parameters.get(name):
            fields[name] = parameters.pop(name)
        parameters.pop(name, None)
    if parameters.get("host"):
        hosts = tuple(parameters["host"].split(","))
    if parameters.get("port"):
        ports = tuple(_parse_port(port) for port in parameters["port"].split(","))
    addresses = parameters["hostaddr"].split(",") if parameters.get("hostaddr") else hosts
    return Target(
        hosts=hosts,
        ports=_match_ports(ports, max(len(addresses), len(hosts))),
        user=fields["user"],
        password=fields["password"],
        database=fields["dbname"],
        parameters=tuple((name, value) for name, value in parameters.items() if name not in {"host", "port"} and value),
    )


def _parse_hosts(spec: str) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    if "@" in spec:
        raise DatabaseUrlError("the database URL has more than one '@' before the host; write '@' in a password as %40")
    if not spec:
        return (), ()
    hosts: list[str] = []
    ports: list[int | None] = []
    for part in spec.split(","):
        match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]*)(?::(.*))?", part)
        if match is None:
            # Not shown: behind an unescaped '/' in a password, what looks like a host is its beginning.
            raise DatabaseUrlError("the host in the database URL is not HOST, HOST:PORT or [IPv6]:PORT")
        hosts.append(_decode(match[1].strip("[]"), "host"))
        ports.append(_parse_port(_decode(match[2] or "", "port")))
    return (tuple(hosts) if any(hosts) else ()), tuple(ports)


def _parse_port(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= PORT_MAX:
        # What stands here may be the tail of a password that holds an unescaped '/' or ':'; so it is not shown.
        raise DatabaseUrlError(
            "the port in the database URL is not a number from 1 to 65535; if that part belongs to the password, "
            "write '/' as %2F, ':' as %3A, '?' as %3F and '@' as %40 in it"
        )
    return int(text)


def _match_ports(ports: tuple[int | None, ...], count: int) -> tuple[int | None, ...]:
    if len(ports) == count or not count:
        return ports
    if len(ports) <= 1:
        return (ports[0] if ports else None,) * count
    raise DatabaseUrlError(f"the database URL names {len(ports)} ports for {count} hosts; give one, or one for each")


def _parse_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        raw_name, equals, raw_value = part.partition("=")
        name = _decode(raw_name, "parameter name")
        if not re.fullmatch(r"[a-z_]{1,40}", name):
            raise DatabaseUrlError("the database URL has a parameter that is not NAME=VALUE after the '?'")
        if not equals or "=" in raw_value:
            raise DatabaseUrlError(f"the parameter {name!r} of the database URL is not NAME=VALUE")
        value = _decode(raw_value, f"parameter {name}")
        name = {"database": "dbname", "ssl": "sslmode"}.get(name, name)
        if name == "sslmode" and value in {"true", "false"}:
            value = "require" if value == "true" else "disable"  # JDBC's way, which psql takes too
        if name not in PARAMETERS and name not in {"host", "port", "user", "password", "dbname"}:
            raise DatabaseUrlError(f"the database URL has a parameter {name!r}, which Postgres clients do not know")
        parameters[name] = value
    _check_values(parameters)
    return parameters


def _check_values(parameters: dict[str, str]) -> None:
    if (mode := parameters.get("sslmode", "")) and mode not in SSL_MODES:
        raise DatabaseUrlError(f"sslmode={mode!r} in the database URL is none of {', '.join(SSL_MODES)}")
    if (wait := parameters.get("connect_timeout", "")) and not re.fullmatch(r"-?[0-9]{1,6}", wait):
        raise DatabaseUrlError(f"connect_timeout={wait!r} in the database URL is not a number of seconds")
    if parameters.get("sslrootcert") == "system" and mode not in {"", "verify-full"}:
        raise DatabaseUrlError(f"sslrootcert=system in the database URL needs sslmode=verify-full, not {mode}")


def _decode(text: str, what: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise DatabaseUrlError(f"the {what} in the database URL has a '%' that begins no escape; write '%' as %25")
    try:
        octets = re.sub(rb"%([0-9A-Fa-f]{2})", lambda escape: bytes([int(escape[1], 16)]), text.encode())
        return octets.decode()
    except UnicodeError:
        raise DatabaseUrlError(f"the {what} in the database URL is not UTF-8") from None


def _write_host(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _asyncpg_ssl(given: dict[str, str]) -> dict[str, Any]:
    """Give the arguments about TLS: a URL that holds nothing else, or a context for the system's authorities."""
    if given.get("sslrootcert") == "system":
        context = ssl.create_default_context()
        if "sslcert" in given:
            context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword", ""))
        return {"ssl": context}
    chosen = {name: given[name] for name in SSL_IN_DSN if name in given}
    return {"dsn": "postgresql://?" + urlencode(chosen, quote_via=quote, safe="/")} if chosen else {}
