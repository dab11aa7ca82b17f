"""HTTP for models, in OpenAI's shape: /models and /models/{id}, also under /v1 and /openai/v1.

A key sees the models that it may call.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import not_found
from api.exact_answer import ExactJson
from api.routes.paths import read_by_get
from api.routes.shapes import Shape

router = APIRouter(tags=["models"])

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


class Model(Shape):
    """A model that clients may ask for."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(Shape):
    """Models in the order of the configuration."""

    object: str
    data: list[Model]


@read_by_get(router, "/models", "/v1/models", "/openai/v1/models", response_model=Models)
async def list_models(running: Running, who: Anybody) -> ExactJson:
    """List the models that this key may call, in the order of the configuration."""
    return ExactJson({"object": "list", "data": [_shown(name) for name in _allowed(running, who)]})


@read_by_get(
    router,
    "/models/{model:path}",
    "/v1/models/{model:path}",
    "/openai/v1/models/{model:path}",
    response_model=Model,
)
async def get_model(model: str, running: Running, who: Anybody) -> ExactJson:
    """Return one model."""
    if model not in _allowed(running, who):
        raise not_found(f"The model '{model[:200]}' does not exist.", "model_not_found", "model")
    return ExactJson(_shown(model))


def _allowed(running: Context, who: Caller) -> list[str]:
    return [name for name in running.engine.router.model_names if not who.models or name in who.models]


def _shown(name: str) -> dict[str, Any]:
    # OpenAI's clients require `created`; a configuration has no such moment.
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai"}
