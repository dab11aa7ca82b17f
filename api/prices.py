"""The prices of a running process: sees at a start that the book holds them all, and follows what changes.

Every price is an event with a validity. A price list that changed since is published anew, valid from now: what was
charged before stays as it was, and can be explained. `price_changes.py` is what people change.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import asyncpg

from ledger.encoding import rfc3339
from ledger.events import PRICE_PUBLISHED
from ledger.journal.journals import Journals
from ledger.money.book import PriceBook
from ledger.money.config_price import config_price
from ledger.money.price import Price, PriceError
from ledger.money.tariff import data_id
from ledger.postgres.connect import CONNECTION_LOST, connect
from ledger.postgres.shared import SharedConnection
from ledger.projections.projector import Projector
from llm.deployment import Deployment

logger = logging.getLogger(__name__)

_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('responses-ledger prices', 0))"
_ALL: Final = "SELECT price_id, model, tier, valid_from, facts, revision FROM ledger.prices"
#: The batch that changed a price last. The projection's own number goes up with every call.
_BATCH: Final = "SELECT max(batch) FROM ledger.prices"
_WAIT_S: Final = 60
_POLL_S: Final = 0.4


class PriceFollower:
    """Keeps the prices of a process as the book has them; a change holds within `_POLL_S` seconds of its fold."""

    def __init__(self, url: str, deployments: Iterable[Deployment], use: Callable[[PriceBook], None]) -> None:
        """`use` is given every new state."""
        self._deployments = list(deployments)
        self._use = use
        self._shared = SharedConnection(url, purpose="prices", timeout_s=_WAIT_S, statement_timeout="10s")
        self._batch: int | None = None
        #: Which prices of the last look cannot be read here, and why. While there are any, nothing new is taken up.
        self._unreadable: dict[str, str] = {}

    @property
    def unreadable(self) -> int:
        """How many prices of the book this version cannot read; calls are priced by those from before they came."""
        return len(self._unreadable)

    async def run(self) -> None:
        """Follow until cancelled; a lost database is waited for, with the prices as they were."""
        try:
            while True:
                await asyncio.sleep(_POLL_S)
                try:
                    await self.refresh()
                except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                    logger.debug("prices not followed: %s: %s", type(error).__name__, error)
        finally:
            self.close()

    async def refresh(self) -> None:
        """Read the prices if they have changed; all stay as they were while one cannot be read, which is said once.

        To take up the others alone would charge by a price that somebody has followed by another.

        Raises:
            OSError, asyncpg.PostgresError: the database is out of reach.
        """
        async with self._shared.turn() as connection:
            batch = await connection.fetchval(_BATCH)
            if batch != self._batch:
                known, unreadable = await _read(connection)
                self._say(unreadable)
                if not unreadable:
                    self._use(_book_of(known, self._deployments))
                self._batch, self._unreadable = batch, unreadable

    def _say(self, unreadable: Mapping[str, str]) -> None:
        for name in unreadable.keys() - self._unreadable.keys():
            logger.error("prices stay as they were, because %s cannot be read: %s", name, unreadable[name])
        if self._unreadable and not unreadable:
            logger.warning("all prices of the book can be read again, and hold")

    def close(self) -> None:
        """Give the connection back."""
        self._shared.close()


async def load_prices(
    url: str, journals: Journals, projector: Projector, deployments: Iterable[Deployment]
) -> PriceBook:
    """Publish what is missing, one process at a time, and return the prices as they then are.

    Raises:
        PriceError: a price in the config cannot be used.
        OSError, asyncpg.PostgresError, ProjectionLagError: the database is out of reach or too slow.
    """
    at = datetime.now(UTC)
    deployments = list(deployments)
    own = [price for deployment in deployments if (price := _of(deployment, at)) is not None]
    connection = await connect(url, purpose="prices", statement_timeout=f"{_WAIT_S}s")
    try:
        known = await read_prices(connection)
        wanted = [*_seed(known), *own]
        if _missing(wanted, known, at):
            await connection.execute(_LOCK)
            known = await read_prices(connection)
            missing = _missing(wanted, known, at)
            position = await journals.publish(PRICE_PUBLISHED, [_facts(price) for price in missing])
            if position is not None:
                await projector.passed("prices", position.journal_id, position.seq, timeout_s=_WAIT_S)
            known = await read_prices(connection)
    finally:
        connection.terminate()
    return _book_of(known, deployments)


def _book_of(known: Iterable[Price], deployments: Iterable[Deployment]) -> PriceBook:
    """Return the prices that hold in a process with these deployments."""
    # A deployment whose own prices were taken out of the config is priced like everybody again.
    priced = {"", *(each.deployment_id for each in deployments if each.prices)}
    return PriceBook(price for price in known if price.deployment in priced)


def _seed(known: Iterable[Price]) -> list[Price]:
    """Return the installed price list; nothing where the book has prices of these very versions already.

    One flush publishes a list, so a part of it in the book means all of it.
    """
    of_package, of_ours = f"genai-prices {version('genai-prices')},", f"responses-ledger {data_id()}:"
    known = list(known)
    if all(any(price.source.startswith(source) for price in known) for source in (of_package, of_ours)):
        return []
    from ledger.money.seed import seed_prices  # noqa: PLC0415 - a quarter of a second that most starts need not wait

    return seed_prices()


def _of(deployment: Deployment, at: datetime) -> Price | None:
    return config_price(
        deployment.prices, deployment=deployment.deployment_id, model=deployment.upstream_model, valid_from=at
    )


async def read_prices(connection: asyncpg.Connection) -> list[Price]:
    """Return every price of the book, superseded ones and those of other configs included.

    Raises:
        PriceError: one cannot be read: it was altered, or is of another version of the program.
    """
    known, unreadable = await _read(connection)
    for name, reason in unreadable.items():
        raise PriceError(f"{name} cannot be read: {reason}")
    return known


async def _read(connection: asyncpg.Connection) -> tuple[list[Price], dict[str, str]]:
    """Return the prices, and by their names those that cannot be read and why."""
    known: list[Price] = []
    unreadable: dict[str, str] = {}
    for row in await connection.fetch(_ALL):
        try:
            known.append(Price.from_facts(json.loads(row["facts"]), revision=row["revision"]))
        except PriceError as error:
            of = f"{row['model']!r:.80} ({row['tier']!r:.40}) from {rfc3339(row['valid_from'])}"
            unreadable[f"the price of {of}, {row['price_id']:.80}"] = str(error)[:500]
    return known, unreadable


def _missing(wanted: Iterable[Price], known: list[Price], at: datetime) -> list[Price]:
    """Return what has to be published: unknown slots as they are, changed content as valid from now."""
    known = [price for price in known if price.origin == "list"]
    slots = {price.slot: price for price in known}
    by_name: dict[tuple[str, str, str], list[Price]] = {}
    for price in known:
        by_name.setdefault((price.deployment, price.model, price.tier), []).append(price)
    missing: list[Price] = []
    for price in wanted:
        rivals = by_name.get((price.deployment, price.model, price.tier), [])
        there = slots.get(price.slot)
        if there is None and not price.deployment:
            missing.append(price)
        elif there is None or not is_same(there, price):
            later = [rival for rival in rivals if rival.valid_from >= (there or price).valid_from or price.deployment]
            latest = max(later, key=lambda rival: rival.valid_from, default=None)
            if latest is None or not is_same(latest, price):
                missing.append(replace(price, valid_from=max(at, price.valid_from)))
    return missing


def is_same(one: Price, other: Price) -> bool:
    """Tell whether two prices charge the same: their source and beginning may differ."""
    return (one.matches, one.rates, one.valid_to) == (other.matches, other.rates, other.valid_to)


def _facts(price: Price) -> dict[str, Any]:
    return {"actor": "proxy", "revision": price.revision, "price": price.to_facts()}
