#!/bin/sh
# Issues a virtual key, calls with it, shows what it spent, and revokes it. Needs curl, python3, LLM_MASTER_KEY in the
# environment, and the proxy at LLM_URL.
set -eu
url=${LLM_URL:-http://127.0.0.1:4000}
post() { curl -sS --fail-with-body "$url$1" -H "authorization: Bearer $2" -H 'content-type: application/json' -d "$3"; }
member() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

key=$(post /key/generate "$LLM_MASTER_KEY" '{"team": "research", "models": ["gpt-4o"], "duration": "1d"}' | member key)
post /v1/responses "$key" '{"model": "gpt-4o", "input": "Hello"}' >/dev/null
echo "its calls:"
curl -sS --fail-with-body "$url/spend/logs?limit=10" -H "authorization: Bearer $key"
echo
post /key/delete "$LLM_MASTER_KEY" "{\"keys\": [\"$key\"]}"
echo
status=$(curl -sS -o /dev/null -w '%{http_code}' "$url/v1/responses" -H "authorization: Bearer $key" \
    -d '{"model": "gpt-4o", "input": "Hello"}')
echo "after its revocation: $status"
