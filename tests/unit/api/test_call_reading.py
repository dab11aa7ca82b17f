"""Which paths are calls: what lies below /responses, and nothing that an upstream could take for something else."""

import pytest

from api.auth import Caller
from api.call_reading import keeps_bodies, path_of_call


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1"])
@pytest.mark.parametrize(
    ("below", "path"),
    [
        ("/responses", "/responses"),
        ("/responses/", "/responses"),
        ("/responses/resp_68a-b.c~d:e", "/responses/resp_68a-b.c~d:e"),
        ("/responses/resp_1/input_items", "/responses/resp_1/input_items"),
        ("/responses/compact", "/responses/compact"),
        ("/responses/...", "/responses/..."),
    ],
)
def test_path_below_responses_is_a_call(prefix: str, below: str, path: str) -> None:
    assert path_of_call(prefix + below) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "/response",
        "/responsesx",
        "/v2/responses",
        "/v1/v1/responses",
        "/responses//x",
        "//responses",
        "/responses/..",
        "/responses/../files",
        "/responses/x/../../files",
        "/responses/./x",
        "/responses/x/.",
        "/responses/a b",
        "/responses/a?b",
        "/responses/a#b",
        "/responses/a%2fb",
        "/responses/a\\b",
        "/responses/\u00e9",
        "/responses/a;b",
        "/responses/a\n",
        "/responses/" + "a" * 513,
        "/responses/a/b/c/d/e",
    ],
)
def test_path_that_could_lead_elsewhere_is_no_call(path: str) -> None:
    assert path_of_call(path) is None


@pytest.mark.parametrize("configured", ["all", "none"])
@pytest.mark.parametrize("of_key", [None, "all", "none"])
@pytest.mark.parametrize("wish", [None, "all", "none", "unreadable"])
def test_bodies_are_kept_only_where_nobody_says_otherwise(
    configured: str, of_key: str | None, wish: str | None
) -> None:
    kept = keeps_bodies(configured, Caller("key_1", store_bodies=of_key), wish)
    assert kept == (configured == "all" and of_key in {None, "all"} and wish in {None, "all"})
