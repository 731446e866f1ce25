"""What a page of another site gets out of a real browser that also has the inspector open: nothing."""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from polytag.web.request_rules import GuardConfig

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOKEN = "abcdefghijklmnop-_0123456789"


class Bait(BaseHTTPRequestHandler):
    """An empty page of another site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>bait</title>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of another site: another port, under another name of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bait)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def small_app(heard: list[str]) -> FastAPI:
    """Notes whatever gets through to it."""
    app = FastAPI()

    @app.get("/")
    def page(request: Request) -> Response:
        heard.append(f"GET {request.headers.get('sec-fetch-site')}")
        script = '<script src="/script.js"></script><script>document.title = "inline"</script>'
        return Response(f"<!doctype html><title>page</title><body>{script}", media_type="text/html")

    @app.get("/script.js")
    def script() -> Response:
        return Response('document.body.append("own script")', media_type="text/javascript")

    @app.get("/image")
    def image() -> Response:
        heard.append("image")
        return Response('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', media_type="image/svg+xml")

    @app.post("/write")
    async def write(request: Request) -> str:
        heard.append("write")
        return (await request.body()).decode()

    return app


ATTACKS = """async address => {
  const tried = {};
  const attempt = async (name, work) => {
    try { tried[name] = await work(); } catch { tried[name] = "refused"; }
  };
  await attempt("read", async () => (await fetch(address)).text());
  await attempt("read blind", async () => (await fetch(address, {mode: "no-cors"})).type);
  await attempt("write", async () => (await fetch(address + "write", {method: "POST", body: "1"})).text());
  await attempt("write blind", async () => (await fetch(address + "write", {method: "POST", mode: "no-cors", body: "1"})).type);
  await attempt("write json", async () =>
    (await fetch(address + "write", {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}})).text());
  await attempt("beacon", async () => { navigator.sendBeacon(address + "write", "1"); });
  await attempt("image", () => new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done("shown");
    image.onerror = failed;
    image.src = address + "image";
  }));
  await attempt("script", () => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.onload = () => done("run");
    script.onerror = failed;
    script.src = address + "script.js";
    document.head.append(script);
  }));
  for (const [name, target] of [["form", "_blank"], ["form in a frame", "inner"]]) {
    const frame = document.createElement("iframe");
    frame.name = "inner";
    document.body.append(frame);
    const form = document.createElement("form");
    form.method = "post";
    form.action = address + "write";
    form.target = target;
    document.body.append(form);
    form.submit();
  }
  const frame = document.createElement("iframe");
  frame.src = address;
  document.body.append(frame);
  await new Promise(done => setTimeout(done, 500));
  return tried;
}"""


def test_another_site_neither_reads_nor_writes(live, browser, elsewhere):
    heard: list[str] = []
    with live(small_app(heard)) as server:
        context = browser.new_context()
        own = context.new_page()
        own.goto(server.url)
        assert heard == ["GET none"]
        page = context.new_page()
        page.goto(elsewhere)
        tried = page.evaluate(ATTACKS, server.url + "/")
        context.close()
    # "opaque": the browser had an answer that the page cannot look into; the guard's 403, for nothing was heard.
    assert {name: what for name, what in tried.items() if what not in ("refused", "opaque", None)} == {}
    assert tried["image"] == tried["read"] == tried["write"] == "refused"
    assert heard == ["GET none"]


def test_a_rebound_name_reads_nothing(live, browser):
    """evil.example is made to stand for 127.0.0.1, as its owner could: to the browser it is then one site with what is served."""
    heard: list[str] = []
    arguments = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    rebound = browser.browser_type.launch(executable_path=shutil.which("chromium") or "chromium-browser", args=arguments)
    with live(small_app(heard)) as server:
        page = rebound.new_page()
        answer = page.goto(f"http://evil.example:{server.port}/")
        status, title = answer.status, page.title()
        tried = page.evaluate("async () => (await fetch('/write', {method: 'POST', body: '1'})).status")
        rebound.close()
    assert (status, title, tried, heard) == (421, "polytag: 421", 421, [])


def test_the_policy_stops_scripts_inside_the_page_and_lets_our_own_run(live, browser):
    with live(small_app([])) as server:
        context = browser.new_context()
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        assert page.title() == "page"
        assert "own script" in page.text_content("body")
        context.close()
    assert len([each for each in said if "Content Security Policy" in each]) == 1


def test_the_address_with_the_token_opens_the_page_however_one_comes(live, browser, elsewhere):
    heard: list[str] = []
    with live(small_app(heard), guard_config=GuardConfig(token=TOKEN)) as server:
        address = f"{server.url}/?token={TOKEN}"
        typed = browser.new_context()
        page = typed.new_page()
        page.goto(server.url)
        assert "This page needs a token." in page.text_content("body")
        page.goto(address)
        assert (page.title(), page.url) == ("page", server.url + "/")
        answer = page.evaluate("async () => (await fetch('/write', {method: 'POST', body: 'by the page'})).text()")
        assert answer == '"by the page"'
        assert page.evaluate("() => document.cookie") == "", "no script reads the token"
        typed.close()

        followed = browser.new_context()  # a link of another site, such as a notebook's page or a mail in the browser
        page = followed.new_page()
        page.goto(elsewhere)
        page.evaluate(
            "address => { const a = document.createElement('a'); a.href = address; document.body.append(a); a.click(); }", address
        )
        page.wait_for_url(server.url + "/")
        if page.title() != "page":  # the cookie is not sent with what another site began
            page.click("text=continue")
        page.wait_for_function("document.title === 'page'")
        followed.close()
