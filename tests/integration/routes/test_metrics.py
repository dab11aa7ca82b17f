"""Who may read /metrics: spend is told there."""

from dataclasses import replace

from tests.support.routes import Proxy


async def test_metrics_are_told_to_those_who_may_read_all_unless_the_config_opens_them(proxy: Proxy) -> None:
    own = (await proxy.issue())["key"]
    assert [(await proxy.get("/metrics", key)).status_code for key in (None, own)] == [401, 403]
    assert (await proxy.get("/metrics")).status_code == 200
    config = proxy.context.config
    proxy.context.config = replace(config, general=replace(config.general, metrics_require_key=False))
    answer = await proxy.get("/metrics", None)
    assert answer.status_code == 200
    assert 'responses_ledger_projection_lag_seconds{projection="spend"}' in answer.text
