-- wrk: a streamed call to POST /v1/responses; BENCH_KEY is the bearer token.
wrk.method = "POST"
wrk.path = "/v1/responses"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. (os.getenv("BENCH_KEY") or "sk-bench")
wrk.body = '{"model":"gpt-4o","input":"Tell me about the ledger that the river keeps, in four sentences.","user":"bench-user","stream":true}'
