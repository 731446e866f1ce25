"""The guard's rules, on a small application: which requests are let in, and what an answer carries."""

import logging
from collections.abc import Callable

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from polytag.web.guard import SAFE_HEADERS, Guard
from polytag.web.request_rules import GuardConfig

TOKEN = "abcdefghijklmnop-_0123456789"
OWN = "http://127.0.0.1:8421"


def small_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def page() -> Response:
        return PlainTextResponse("page", headers={"Access-Control-Allow-Origin": "*", "Content-Security-Policy": "default-src *"})

    @app.get("/kept")
    def kept() -> Response:
        return PlainTextResponse("kept", headers={"Cache-Control": "private, max-age=60"})

    @app.post("/write")
    async def write(request: Request) -> dict[str, int]:
        return {"num_bytes": len(await request.body())}

    @app.get("/headers")
    def headers(request: Request) -> dict[str, str]:
        return dict(request.headers)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is swordfish")

    @app.get("/told")
    def told() -> Response:
        return PlainTextResponse("told on purpose", status_code=500)

    return app


@pytest.fixture
def ask() -> Callable[..., TestClient]:
    """`ask(token=...)` makes a client of the small application behind a guard that is set so."""

    def client(*, base_url: str = OWN, **settings) -> TestClient:
        return TestClient(Guard(small_app(), config=GuardConfig(**settings)), base_url=base_url, follow_redirects=False)

    return client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8421", 200),
        ("localhost:8421", 200),
        ("LocalHost:8421", 200),
        ("[::1]:8421", 200),
        ("localhost", 200),
        ("localhost:9000", 200),  # the other end of `ssh -L 9000:localhost:8421`
        ("evil.example:8421", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8421", 421),
        ("127.0.0.2:8421", 421),
        ("0.0.0.0:8421", 421),
        ("2130706433:8421", 421),
        ("[::]:8421", 421),
        ("localhost.", 421),
        ("", 400),
        ("localhost:", 400),
        ("localhost:x", 400),
        ("localhost:123456", 400),
        ("user@localhost", 400),
        ("localhost/../evil.example", 400),
        ("localhost evil.example", 400),
        ("localhost,evil.example", 400),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_server_answers_to_its_own_names_alone(ask, host, status, method):
    path = "/write" if method == "POST" else "/"
    answer = ask().request(method, path, headers={"Host": host})
    assert answer.status_code == (405 if (method, status) == ("HEAD", 200) else status)
    if method == "GET" and status != 200:
        assert "page" not in answer.text
        assert "evil" not in answer.text, "what a stranger sent comes back to no page"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # curl, a script: no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": OWN}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200),  # a form of the pages, which send no referrer
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": OWN}, 200),  # an old browser, or a server without TLS under a name that is not loopback
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
        ({"Sec-Fetch-Site": "anything"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OWN}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "none", "Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "http://localhost:8421"}, 403),  # another origin to a browser, so to us
        ({"Origin": "http://127.0.0.1:8421.evil.example"}, 403),
        ({"Origin": "chrome-extension://127.0.0.1:8421"}, 403),
    ],
)
def test_another_site_cannot_write(ask, headers, status):
    answer = ask().post("/write", content=b"12345", headers=headers)
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.json() == ({"num_bytes": 5} if status == 200 else {"detail": "This request came from a page of another site."})


def test_the_second_of_two_origins_counts_as_well(ask):
    answer = ask().post("/write", headers=[("Origin", OWN), ("Origin", "http://evil.example")])
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "INVENTED"])
def test_every_method_but_the_three_safe_ones_is_unsafe(ask, method):
    assert ask().request(method, "/", headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),  # a link
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ],
)
def test_another_site_can_link_here_but_not_draw_on_the_server(ask, headers, status):
    assert ask().get("/", headers=headers).status_code == status


def test_a_preflight_of_another_site_gets_no_permission(ask):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "cross-site"}
    answer = ask().options("/write", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_every_answer_binds_the_browser(ask):
    client = ask()
    for answer in (client.get("/"), client.get("/nowhere"), client.get("/broken"), client.get("/", headers={"Host": "evil"})):
        for name, value in SAFE_HEADERS.items():
            assert answer.headers.get_list(name.decode()) == [value.decode()]
        assert answer.headers["cache-control"] == "no-store"
        assert not {"server", "access-control-allow-origin", "location"} & set(answer.headers)
    assert client.get("/kept").headers.get_list("cache-control") == ["private, max-age=60"]
    policy = SAFE_HEADERS[b"content-security-policy"].decode()
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


def test_an_exception_is_told_to_the_log_and_not_to_the_client(ask, caplog):
    with caplog.at_level(logging.ERROR, logger="polytag.web.guard"):
        answer = ask().get("/broken")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "polytag failed to answer. The terminal where it runs shows the error."}
    assert [record.getMessage() for record in caplog.records] == ["GET '/broken' failed"]
    assert "the password is swordfish" in caplog.text
    assert ask().get("/told").text == "told on purpose"


def test_an_application_that_fails_before_starlette_sees_it(caplog):
    async def app(scope, receive, send):
        raise RuntimeError("the password is swordfish")

    with caplog.at_level(logging.ERROR, logger="polytag.web.guard"):
        answer = TestClient(Guard(app, config=GuardConfig()), base_url=OWN).get("/")
    assert (answer.status_code, "swordfish" in answer.text) == (500, False)


def test_ranges_are_not_heard(ask):
    given = {"Range": "bytes=0-1", "If-Range": "x", "X-Other": "1"}
    heard = ask().get("/headers", headers=given)
    assert heard.status_code == 200
    assert {"range", "if-range"} & set(heard.json()) == set()
    assert heard.json()["x-other"] == "1"


@pytest.mark.parametrize("path", ["/a%00b", "/a%0ab", "/a%0d%0ab", "/%1b[31m", "/%7f"])
def test_control_characters_in_the_path_go_no_further(ask, path):
    assert ask().get(path).json() == {"detail": "There is no such address."}


def test_a_body_is_counted_whether_or_not_it_says_its_length(ask):
    client = ask(max_body_bytes=1000, linger_seconds=0.1)
    assert client.post("/write", content=b"x" * 1000).json() == {"num_bytes": 1000}
    assert client.post("/write", content=b"x" * 1001).status_code == 413
    assert client.post("/write", content=iter([b"x" * 600, b"x" * 400])).json() == {"num_bytes": 1000}
    refused = client.post("/write", content=iter([b"x" * 600, b"x" * 401]))
    assert refused.status_code == 413
    assert refused.json() == {"detail": "Too large: at most 0.000954 MiB can be sent."}


def test_all_bodies_together_have_a_limit(ask):
    client = ask(max_body_bytes=1000, max_held_bytes=999)
    assert client.post("/write", content=b"x" * 999).status_code == 200
    assert client.post("/write", content=b"x" * 1000).status_code == 503
    assert client.post("/write", content=iter([b"x"])).status_code == 503  # it may become the longest
    assert client.get("/").status_code == 200


def test_a_refusal_is_a_page_for_people_and_json_for_programs(ask):
    person = ask().get("/", headers={"Host": "evil", "Accept": "text/html,*/*;q=0.8"})
    assert person.headers["content-type"] == "text/html; charset=utf-8"
    assert "<p>This server answers as 127.0.0.1 or localhost or [::1] only.</p>" in person.text
    assert ask().get("/", headers={"Host": "evil"}).json()["detail"].startswith("This server answers as")


def test_web_sockets_are_closed(ask):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), ask().websocket_connect("/"):
        pass


# Tokens


def test_the_token_in_the_address_becomes_a_cookie(ask):
    client = ask(token=TOKEN)
    answer = client.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"] == f"polytag-token-8421={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/").text == "page"  # the client has kept the cookie
    assert client.post("/write", content=b"1").status_code == 200


def test_whoever_does_not_know_the_token_reads_and_writes_nothing(ask):
    client = ask(token=TOKEN)
    person = client.get("/", headers={"Accept": "text/html"})
    assert person.status_code == 401
    assert "The address that holds it was printed in the terminal where polytag runs." in person.text
    assert person.headers["www-authenticate"] == "Bearer"
    for headers in (
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xff".encode("latin-1")},
        {"Cookie": f"polytag-token-8422={TOKEN}"},
        {"Cookie": f"token={TOKEN}"},
        {"Cookie": "polytag-token-8421="},
    ):
        assert client.get("/", headers=headers).status_code == 401
        assert client.post("/write", headers=headers).status_code == 401
    for token in ("", "wrong", TOKEN[:-1], TOKEN + "%00", "%ff"):
        assert client.get(f"/?token={token}").status_code == 401
    assert client.post(f"/write?token={TOKEN}").status_code == 401, "an address that is posted to may be kept in logs"


def test_a_program_brings_the_token_in_a_header(ask):
    client = ask(token=TOKEN)
    for scheme in ("Bearer", "bearer"):
        assert client.get("/", headers={"Authorization": f"{scheme} {TOKEN}"}).text == "page"
    assert client.post("/write", content=b"12", headers={"Authorization": f"Bearer {TOKEN}"}).json() == {"num_bytes": 2}


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        (f"/kept?token={TOKEN}", "/kept"),
        (f"/kept?class=a%20b&token={TOKEN}&k=5", "/kept?class=a%20b&k=5"),
        (f"/kept?token={TOKEN}&token=x", "/kept"),
        (f"//evil.example/?token={TOKEN}", "/evil.example/"),
        (f"///evil.example/?token={TOKEN}", "/evil.example/"),
        (f"/\\evil.example/?token={TOKEN}", "/evil.example/"),
        (f"/a?token={TOKEN}&b=%0d%0aSet-Cookie:x", "/a?b=%0d%0aSet-Cookie:x"),
    ],
)
def test_signing_in_leads_to_the_same_address_and_to_no_other_site(live, asked, location):
    with live(small_app(), guard_config=GuardConfig(token=TOKEN)) as server:
        head = server.get(asked).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "HTTP/1.1 303 See Other"
    assert [line for line in head if line.startswith("location:")] == [f"location: {location}"]
    assert len([line for line in head if line.lower().startswith("set-cookie")]) == 1


def test_where_a_token_is_needed_any_name_will_do_but_other_sites_still_cannot_write(ask):
    client = ask(allowed_hosts=(), token=TOKEN, base_url="http://box.lan:8421")
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    assert client.get("/").text == "page"
    assert client.post("/write", headers={"Origin": "http://box.lan:8421"}).status_code == 200
    assert client.post("/write", headers={"Origin": "https://box.lan:8421"}).status_code == 200  # TLS ends before us
    assert client.post("/write", headers={"Origin": "http://evil.example"}).status_code == 403
    with pytest.raises(AssertionError, match="needs a token"):
        GuardConfig(allowed_hosts=())


def test_after_a_link_of_another_site_one_click_goes_on(ask):
    link = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    client = ask(token=TOKEN)
    assert '<a href="">continue</a>' in client.get("/", headers=link).text
    assert "continue" not in client.get("/", headers={"Accept": "text/html"}).text
