"""Registers many virtual keys whose hashes are known, at once: one transaction, one wait for the projection.

Each key has its own event and its own revision, as a key that is issued; one that cannot be registered keeps nobody
from the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg
from uuid_utils.compat import uuid7

from api.administration import Administration
from api.auth import Caller
from api.errors import ApiFailure
from api.routes.key_changes import CLAIMED, alias_refusal, first_facts
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.events import KEY_ISSUED
from ledger.postgres.connect import connect
from ledger.reports.key_state import SUBJECT_KIND
from ledger.reports.many_keys import known_secrets, standing_aliases, take_alias_turns

_SESSION: Final = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "5min"}


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a state: its key is in force by this, was there before (`is_new` false), or `refused`."""

    key_id: str = ""
    is_new: bool = False
    refused: str = ""


class KeyBatches:
    """Over one connection, which the first batch opens. Without a book it only says what it would do."""

    def __init__(self, url: str, book: Administration | None, actor: Caller, *, source: str) -> None:
        """`source` is a further fact of each event: where the keys came from."""
        self._url = url
        self._book = book
        self._actor = actor
        self._source = source
        self._connection: asyncpg.Connection | None = None
        #: Hashes and aliases of the keys that were only tried.
        self._tried: dict[str, str] = {}
        self._tried_aliases: set[str] = set()

    async def register(self, states: Sequence[Mapping[str, Any]]) -> list[Registered]:
        """Register the keys of these states (as facts spell them, but for key_id and created_by), in their order.

        A key whose secret is known is left as it is.

        Raises:
            LedgerUnavailableError: they could not all be recorded; some may be, and are found by a second try.
            OSError, asyncpg.PostgresError: the database is out of reach, or refuses.
        """
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await connect(self._url, purpose="key batches", **_SESSION)
        turn = connection.transaction()
        await turn.start()
        try:
            if self._book is not None:
                self._book.journals.require_available()
            outcomes, events = await self._sort_out(connection, states)
            unclaimed: set[str] = set()
            if self._book is not None and events:
                unclaimed = events.keys() - await self._book.claim_first(connection, SUBJECT_KIND, list(events))
        except BaseException:
            connection.terminate()
            raise
        stands = True
        try:
            facts = [event for key_hash, event in events.items() if key_hash not in unclaimed]
            if self._book is not None and facts:
                await self._book.publish_first(KEY_ISSUED, facts, "keys")
        except LedgerUnavailableError as error:
            # Of a journal that was taken over nothing more will come, and what is durable is folded.
            stands = not isinstance(error.__cause__, FencedError)
            raise
        finally:
            # Events that were handed over may become durable whatever has failed: then their claims must stand. Claims
            # that stand without an event keep their keys out for good, so they are not made before.
            await (turn.commit() if stands else turn.rollback())
        refusal = Registered(refused=CLAIMED)
        return [
            refusal if state["key_hash"] in unclaimed else outcome
            for state, outcome in zip(states, outcomes, strict=True)
        ]

    async def _sort_out(
        self, connection: asyncpg.Connection, states: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Registered], dict[str, dict[str, Any]]]:
        """Return what becomes of each state, and the facts by hash of the keys that are new."""
        aliases = sorted({state["key_alias"] for state in states if state["key_alias"]})
        if self._book is not None:
            await take_alias_turns(connection, aliases)
        known = self._tried | await known_secrets(connection, [state["key_hash"] for state in states])
        taken = self._tried_aliases | await standing_aliases(connection, aliases)
        outcomes: list[Registered] = []
        events: dict[str, dict[str, Any]] = {}
        for state in states:
            key_hash, alias = state["key_hash"], state["key_alias"]
            if key_hash in known:
                outcomes.append(Registered(known[key_hash]))
            elif alias in taken:
                outcomes.append(Registered(refused=alias_refusal(alias)))
            else:
                key_id = f"key_{uuid7().hex}"
                made = {**state, "key_id": key_id, "created_by": self._actor.key_id}
                try:
                    events[key_hash] = first_facts(self._actor, made, source=self._source)
                except ApiFailure as failure:
                    outcomes.append(Registered(refused=failure.error.message))
                    continue
                known[key_hash] = key_id
                taken |= {alias} - {""}
                outcomes.append(Registered(key_id, is_new=True))
        if self._book is None:
            self._tried, self._tried_aliases = dict.fromkeys(known, ""), taken
            outcomes = [replace(outcome, key_id="") if outcome.is_new else outcome for outcome in outcomes]
        return outcomes, events

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.terminate()
