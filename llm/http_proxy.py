"""Which HTTP proxy the environment names for a URL: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, as other programs read them."""

from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass


def proxy_for(url: str) -> str | None:
    """Return the HTTP proxy that the environment names for a URL, if any."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies_environment().get(parts.scheme)
