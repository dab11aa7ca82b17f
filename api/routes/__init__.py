"""The routes beside the calls themselves, one noun a file; each module's `router` is served by `api.web`."""
