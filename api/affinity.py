"""Who may refer to an earlier response, and which deployment knows it.

A response lies at the deployment that made it, and belongs to the key that asked for it: one key never sees another's,
neither by reading it nor by continuing it. The book knows both.
"""

import asyncio
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from api.auth import Caller
from api.errors import bad_request, not_found, unavailable
from ledger.encoding import is_storable
from ledger.postgres.connect import CONNECTION_LOST
from ledger.postgres.shared import SharedConnection
from llm.deployment import Deployment
from llm.engine import Engine
from llm.request import ClientRequest

_FIND: Final = """
SELECT call_id, key_id, deployment, bodies_stored FROM ledger.calls WHERE response_id = $1 ORDER BY received_at LIMIT 1
"""
_ID_CHARS_MAX: Final = 512
_ASK_S: Final = 5.0
_COLLECTION: Final = frozenset({"/responses", "/responses/compact", "/responses/input_tokens"})
#: A response may be referred to before its call has been folded: look again after these pauses.
_PAUSES_S: Final = (0.0, 0.1, 0.2, 0.4, 0.8)


class Pinned(NamedTuple):
    """Where a call must go (None: any deployment will do), and the call of another key whose answer it will show.

    `keeps_bodies`: false where it reads, or ends, a response whose own call was made without bodies.
    """

    deployment: Deployment | None = None
    shown_call_id: UUID | None = None
    shown_key_id: str = ""
    keeps_bodies: bool = True


class Affinity:
    """Looks up earlier responses, over a connection of its own."""

    def __init__(self, url: str, engine: Engine) -> None:
        self._engine = engine
        self._shared = SharedConnection(url, purpose="affinity", timeout_s=_ASK_S, statement_timeout="5s")

    async def pinned(self, request: ClientRequest, caller: Caller) -> Pinned:
        """Return the deployment that a call must go to, and whose response it will show.

        Raises:
            ApiFailure: 404 or 400 for a response that is not this key's, or unknown to the book.
        """
        if request.path not in _COLLECTION:
            return await self._of_path(request, caller)
        # Of duplicates the proxy reads the last; which one an upstream reads is not known.
        given = {each for each in request.every("previous_response_id") if isinstance(each, str) and each}
        if len(given) > 1:
            raise bad_request("previous_response_id is given twice; keep one.", param="previous_response_id")
        return Pinned(await self._of_previous(given.pop(), caller) if given else None)

    async def _of_previous(self, previous: str, caller: Caller) -> Deployment | None:
        found = await self._find(previous[:_ID_CHARS_MAX])
        if caller.is_admin and found is None:
            return None
        if found is None or (not caller.is_admin and found["key_id"] != caller.key_id):
            # One that the book does not know may be anybody's: the upstream sees one key for all.
            shown = previous[:_ID_CHARS_MAX]
            shown = shown if is_storable(shown) else ascii(shown)[1:-1]
            message = f"Previous response with id '{shown}' not found."
            raise bad_request(message, param="previous_response_id", code="previous_response_not_found")
        return self._engine.router.deployment(found["deployment"])

    async def _of_path(self, request: ClientRequest, caller: Caller) -> Pinned:
        response_id = request.path.split("/")[2][:_ID_CHARS_MAX]
        found = await self._find(response_id)
        sees_all = caller.may_read_all if request.method == "GET" else caller.is_admin
        if found is None or (not sees_all and found["key_id"] != caller.key_id):
            if sees_all and found is None:
                return Pinned(self._engine.router.first_of_all())
            raise not_found(f"Response with id '{response_id}' not found.", code="not_found")
        deployment = self._engine.router.deployment(found["deployment"]) or self._engine.router.first_of_all()
        if found["key_id"] == caller.key_id or request.method == "DELETE":
            return Pinned(deployment, keeps_bodies=found["bodies_stored"])
        return Pinned(deployment, found["call_id"], found["key_id"], found["bodies_stored"])

    async def _find(self, response_id: str) -> Any:
        if not is_storable(response_id):
            # What Postgres cannot hold in a text is no id in the book; asked for, it would end the connection.
            return None
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                async with self._shared.turn() as connection:
                    found = await connection.fetchrow(_FIND, response_id)
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                raise unavailable("The ledger's database cannot be reached, so no response can be found.") from error
            if found is not None:
                return found
        return None

    async def close(self) -> None:
        """Close the connection."""
        self._shared.close()
