"""Decides from the head of a request whether it is admitted. Each rule is a function that returns a Refusal or None.

No refusal quotes the request, so nothing that a stranger sent is shown on a page.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
TOKEN_ALPHABET = re.compile(r"[A-Za-z0-9_-]{16,}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits on requests.

    allowed_hosts          host names, without a port, that a request may use; () for any, which needs a token
    token                  the token that a request must carry; "" where everyone who reaches the port may read
    max_header_bytes       names and values together. h11 limits an incomplete head to 16 KiB, but a head in a single packet may
                           have up to 256 KiB
    max_body_bytes         of one request
    max_held_bytes         bodies of all requests together
    max_in_flight          requests that are being answered
    body_timeout_seconds   from the first byte of a body to its last
    linger_seconds         for how long an overlong body is still read, so that its sender receives the answer
    open_paths             answered without the token, and however many other requests there are, unless they have a body
    error_key              the name of the sentence in a refusal's JSON
    """

    allowed_hosts: Sequence[str] = LOOPBACK_NAMES
    token: str = ""
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_body_bytes: int = 32 * 1024**2
    max_held_bytes: int = 128 * 1024**2
    max_in_flight: int = 64
    body_timeout_seconds: float = 60.0
    linger_seconds: float = 2.0
    open_paths: frozenset[str] = frozenset()
    error_key: str = "detail"

    def __post_init__(self):
        assert self.allowed_hosts or self.token, "a server that answers to any name needs a token"
        assert not self.token or TOKEN_ALPHABET.fullmatch(self.token)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer instead of the page: a status, a sentence, and headers in addition to those of every answer."""

    status: int
    detail: str
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """The head of a request. Header names are lower case, and a repeated header has several values."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Mapping[bytes, Sequence[bytes]]

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> "Request":
        """Read an ASGI scope."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        return cls(method=scope["method"], path=scope["path"], raw_path=raw_path, query=scope["query_string"], headers=headers)

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return all values of a header; () where it is absent."""
        return self.headers.get(name, ())

    @property
    def host(self) -> str:
        """Return the Host header in lower case, or "" unless there is exactly one."""
        values = self.values(b"host")
        return values[0].decode("latin-1").lower() if len(values) == 1 else ""

    @property
    def is_chunked(self) -> bool:
        """Whether the body has no declared length."""
        return bool(self.values(b"transfer-encoding"))

    @property
    def num_declared_bytes(self) -> int:
        """Return the declared length of the body, or 0. The server has refused values that are not numbers."""
        values = self.values(b"content-length")
        return int(values[0]) if values else 0

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.is_chunked or self.num_declared_bytes > 0

    @property
    def wants_page(self) -> bool:
        """Whether the client accepts HTML."""
        return any(b"text/html" in value for value in self.values(b"accept"))


def admit(request: Request, *, config: GuardConfig) -> Refusal | None:
    """Return the refusal of the first rule that the request breaks, or None."""
    return (
        _misshapen(request, config=config)
        or _misnamed(request, config=config)
        or _cross_site(request)
        or _without_valid_token(request, config=config)
        or too_large(request.num_declared_bytes, config=config)
    )


def too_large(num_bytes: int, *, config: GuardConfig) -> Refusal | None:
    """Return a refusal where a body of this size is too long."""
    if num_bytes <= config.max_body_bytes:
        return None
    return Refusal(status=413, detail=f"Too large: at most {config.max_body_bytes / 1024**2:.3g} MiB can be sent.")


def _misshapen(request: Request, *, config: GuardConfig) -> Refusal | None:
    num_headers = sum(len(values) for values in request.headers.values())
    num_bytes = sum(len(name) + len(value) for name, values in request.headers.items() for value in values)
    if num_headers > config.max_headers or num_bytes > config.max_header_bytes:
        return Refusal(status=431, detail="Too many headers, or too long ones.")
    # "GET http://elsewhere/ HTTP/1.1" addresses a proxy; its path does not begin with a slash.
    if not request.path.startswith("/"):
        return Refusal(status=400, detail="The address is not one of this server's.")
    if _CONTROL.search(request.path):
        return Refusal(status=404, detail="There is no such address.")
    if request.is_chunked and request.values(b"content-length"):
        return Refusal(status=400, detail="The request gives its length twice.")
    return None


def _misnamed(request: Request, *, config: GuardConfig) -> Refusal | None:
    # Another site can let its own name resolve to 127.0.0.1 and then read what is served there (DNS rebinding), but the browser
    # sends that name as the host. The port is ignored, because it differs behind `ssh -L`. With a token any name is safe: the
    # browser does not send its cookie to another name.
    found = _HOST.fullmatch(request.host)
    if found is None:
        return Refusal(status=400, detail="A request must name, once, the host that it is for.")
    if config.allowed_hosts and found[1] not in config.allowed_hosts:
        return Refusal(status=421, detail=f"This server answers as {' or '.join(config.allowed_hosts)} only.")
    return None


def _cross_site(request: Request) -> Refusal | None:
    # As CrossOriginProtection of Go 1.25's net/http: a browser sends the origin of a request in Sec-Fetch-Site, which no page can
    # forge. An old browser, or one that addresses a server without TLS under a name that is not loopback, sends Origin with every
    # unsafe method. A client that sends neither is not a browser, and carries no cookies of a user.
    refusal = Refusal(status=403, detail="This request came from a page of another site.")
    sites = request.values(b"sec-fetch-site")
    own = all(site in {b"same-origin", b"none"} for site in sites)
    if request.method in SAFE_METHODS:
        # Another site may link here, but may not embed images or start computations.
        modes = (request.values(b"sec-fetch-mode"), request.values(b"sec-fetch-dest"))
        is_link = request.method == "GET" and modes == ([b"navigate"], [b"document"])
        return None if own or is_link else refusal
    own_origins = {f"http://{request.host}".encode("latin-1"), f"https://{request.host}".encode("latin-1")}
    if sites == [b"same-origin"]:
        own_origins.add(b"null")  # what a browser sends with a form of the pages, because they send no referrer
    own = own and all(origin.lower() in own_origins for origin in request.values(b"origin"))
    return None if own else refusal


def _without_valid_token(request: Request, *, config: GuardConfig) -> Refusal | None:
    if not config.token or request.path in config.open_paths:
        return None
    if request.method == "GET" and any(_same(unquote_plus(value), config.token) for value in _query_tokens(request)):
        name = _cookie_name(request)
        cookie = f"{name}={config.token}; HttpOnly; SameSite=Strict; Path=/".encode("ascii")
        headers = ((b"location", _without_token(request)), (b"set-cookie", cookie))
        return Refusal(status=303, detail="Signed in.", headers=headers)
    if any(_same(given, config.token) for given in (*_cookies(request), *_bearers(request))):
        return None
    return Refusal(
        status=401,
        detail="This page needs a token. The address that holds it was printed in the terminal where polytag runs.",
        headers=((b"www-authenticate", b"Bearer"),),
    )


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode("ascii"))


def _query_tokens(request: Request) -> list[str]:
    pairs = (pair.partition("=") for pair in request.query.decode("latin-1").split("&"))
    return [value for name, _, value in pairs if name == "token"]


def _without_token(request: Request) -> bytes:
    # A path of "//elsewhere" or "/\elsewhere" would lead a browser to another site, and no character may end the header.
    path = "/" + quote(request.raw_path.decode("latin-1").lstrip("/\\"), safe="/%:@!$&'()*+,;=~-._")
    pairs = [pair for pair in request.query.decode("latin-1").split("&") if pair and pair.partition("=")[0] != "token"]
    query = quote("&".join(pairs), safe="/%:@!$&'()*+,;=~-._?")
    return f"{path}?{query}".rstrip("?").encode("ascii")


def _cookie_name(request: Request) -> str:
    # Cookies ignore ports: two servers on one machine, or behind two tunnels, would overwrite each other's cookie.
    named = _HOST.fullmatch(request.host)
    return f"polytag-token-{named[2] if named and named[2] else 80}"


def _cookies(request: Request) -> list[str]:
    pairs = (pair.strip().partition("=") for value in request.values(b"cookie") for pair in value.decode("latin-1").split(";"))
    name = _cookie_name(request)
    return [value for given, _, value in pairs if given == name]


def _bearers(request: Request) -> list[str]:
    parts = (value.decode("latin-1").strip().partition(" ") for value in request.values(b"authorization"))
    return [given.strip() for scheme, _, given in parts if scheme.lower() == "bearer"]
