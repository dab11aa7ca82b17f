"""The tokenizer of estimates is loaded behind the start, so that no call waits for it."""

from ledger.money import tokens
from tests.acceptance.conftest import MakeProxy
from tests.support.journal import eventually
from tests.support.proxy import configuration, deployment
from tests.support.upstream import Upstream


async def test_tokenizer_is_loaded_behind_the_start_without_a_call(make_proxy: MakeProxy, upstream: Upstream) -> None:
    tokens._encoding.cache_clear()
    models = [deployment("gpt-5", f"{upstream.url}/v1")]
    await make_proxy(configuration(models, general={"load_tokenizer": "start"}))
    await eventually(lambda: tokens._encoding.cache_info().currsize == 1)
