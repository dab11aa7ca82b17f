"""The engine and the SDK: which deployment, which attempt, retry, fall back. Knows no web server and no SQL."""
