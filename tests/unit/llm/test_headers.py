"""Which headers cross, in which direction."""

from llm.headers import find, of_answer, of_request, to_client, to_upstream


def test_request_headers_lose_credentials_the_proxys_own_and_those_of_the_connection() -> None:
    given = [
        ("authorization", "Bearer sk-client"), ("x-api-key", "sk-2"), ("cookie", "a=b"), ("host", "proxy"),
        ("connection", "keep-alive"), ("content-length", "3"), ("x-llm-tags", "a"), ("x-litellm-end-user-id", "u"),
        ("openai-organization", "org"), ("x-forwarded-for", "10.0.0.1"), ("user-agent", "OpenAI/Python"),
        ("openai-beta", "x"), ("content-type", "application/json"), ("accept-encoding", "br, foo;q=1"),
    ]  # fmt: skip
    sent = to_upstream(given, api_key="sk-up", content_encoding="gzip", is_stream=False)
    assert sent == [
        ("user-agent", "OpenAI/Python"), ("openai-beta", "x"), ("content-type", "application/json"),
        ("accept-encoding", "br"), ("content-encoding", "gzip"), ("authorization", "Bearer sk-up"),
    ]  # fmt: skip


def test_stream_is_asked_for_without_coding_and_without_a_key_where_none_is_set() -> None:
    sent = to_upstream([("accept-encoding", "gzip")], api_key="", content_encoding="", is_stream=True)
    assert sent == [("content-type", "application/json"), ("accept-encoding", "identity")]


def test_answer_headers_lose_what_belongs_to_the_connection_or_the_upstreams_site() -> None:
    given = [
        ("Content-Type", "application/json"), ("X-Request-ID", "req_1"), ("openai-version", "1"), ("Retry-After", "1"),
        ("x-ratelimit-reset-tokens", "6m0s"), ("Set-Cookie", "__cf_bm=1"), ("Strict-Transport-Security", "x"),
        ("alt-svc", "h3"), ("Transfer-Encoding", "chunked"), ("Connection", "x-hop"), ("x-hop", "1"),
        ("content-length", "5"), ("x-llm-call-id", "forged"), ("content-encoding", "br"),
    ]  # fmt: skip
    assert to_client(given) == [
        ("content-type", "application/json"), ("x-request-id", "req_1"), ("openai-version", "1"), ("retry-after", "1"),
        ("x-ratelimit-reset-tokens", "6m0s"), ("content-encoding", "br"),
    ]  # fmt: skip


def test_book_keeps_no_credentials_and_no_endless_values() -> None:
    kept = of_request(
        [
            ("authorization", "Bearer x"),
            ("x-litellm-api-key", "sk"),
            ("x-llm-token", "sk"),
            ("x-litellm-auth", "sk"),
            ("x-api-key", "sk"),
            ("x-llm-tags", "t" * 2_000),
        ]
    )
    assert kept == [["x-llm-tags", "t" * 512]]
    assert of_answer([("Set-Cookie", "a"), ("X-Request-Id", "r"), ("location", "l")]) == [
        ["x-request-id", "r"],
        ["location", "l"],
    ]


def test_find_takes_the_first_of_any_case() -> None:
    assert find([("A", "1"), ("a", "2")], "a") == "1"
    assert find([], "a") == ""
