"""Who may read what the API is."""

from dataclasses import replace

import pytest

from tests.support.routes import Proxy


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_description_is_open_unless_the_config_says_otherwise(proxy: Proxy, path: str) -> None:
    answer = await proxy.get(path, None)
    assert answer.status_code == 200
    assert "/v1/responses" in answer.text
    assert "<script" not in answer.text
    for said, without, with_key in (("key", 401, 200), ("off", 404, 404)):
        config = proxy.context.config
        proxy.context.config = replace(config, general=replace(config.general, api_description=said))
        assert (await proxy.get(path, None)).status_code == without
        assert (await proxy.get(path)).status_code == with_key
