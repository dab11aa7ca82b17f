"""Models over HTTP, in OpenAI's shape."""

import pytest

from tests.support.routes import MODELS, Proxy, refusal

PREFIXES = ("", "/v1", "/openai/v1")


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_models_are_those_that_the_key_may_call(proxy: Proxy, prefix: str) -> None:
    key = await proxy.issue(models=["gpt-5-mini", "not-served"])
    everything = (await proxy.get(f"{prefix}/models")).json()
    assert everything["object"] == "list"
    assert [model["id"] for model in everything["data"]] == list(MODELS)
    assert all(model["object"] == "model" and type(model["created"]) is int for model in everything["data"])
    assert [model["id"] for model in (await proxy.get(f"{prefix}/models", key["key"])).json()["data"]] == ["gpt-5-mini"]
    assert (await proxy.get(f"{prefix}/models/org/small")).json()["id"] == "org/small"
    assert (await proxy.get(f"{prefix}/models/gpt-5-mini", key["key"])).json()["owned_by"]
    for model in ("gpt-5", "not-served", "none"):
        answer = await proxy.get(f"{prefix}/models/{model}", key["key"])
        assert refusal(answer) == (404, "model_not_found", "model")
    assert (await proxy.get(f"{prefix}/models/gpt-5", None)).status_code == 401


async def test_models_answer_head_like_get_and_no_other_method(proxy: Proxy) -> None:
    async with proxy.client() as client:
        for path in ("/models", "/v1/models/gpt-5", "/spend/logs", "/key/info", "/health/readiness"):
            assert (await client.head(path)).status_code == 200
            assert (await client.delete(path)).status_code == 405
            assert (await client.options(path)).status_code == 405
            assert (await client.post(path)).json()["error"]["code"] == "method_not_allowed"
