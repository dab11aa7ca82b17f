"""The Python SDK: `llm.responses(...)` over the proxy's own engine, or to a proxy. What users see is in `face.py`."""
