"""Who may call what: every path by the password, webhooks by their secret, health by anybody."""

import base64
import hmac
import logging

import anyio
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from backend.annotation.webhook_secret import HEADER, webhook_secret
from backend.serving.access import check_listening
from backend.serving.server import create_app
from backend.settings import Settings

USER, PASSWORD = "label-studio", "open sesame"
SECRET = webhook_secret(USER, PASSWORD)
OPEN = {"/", "/health"}


class CountingService:
    """Counts the events that got through."""

    model_version = "tem-guide-v0"
    training = None
    events = 0

    def handle_event(self, *_):
        """Count."""
        self.events += 1
        return True

    def project_opened(self, _):
        """Do nothing."""


@pytest.fixture
def settings():
    """Without a password, on loopback."""
    return Settings(label_studio_url="http://127.0.0.1:9", label_studio_api_key="k")


@pytest.fixture
def guarded(settings):
    """The settings with a password."""
    return settings.model_copy(
        update={"basic_auth_user": USER, "basic_auth_pass": SecretStr(PASSWORD)}
    )


def client_of(settings, host="127.0.0.1", service=None):
    """Make a client that calls the application by this host name."""
    app = create_app(settings, service or CountingService())
    return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)


def paths_of(app):
    """All paths that the application knows, with a method of each."""
    return sorted({(route.path, min(route.methods)) for route in app.routes})


def test_every_path_asks_for_the_password_but_health(guarded):
    """Also those of the description, and those that do not exist."""
    client = client_of(guarded)
    known = paths_of(client.app)
    assert {"/predict", "/setup", "/webhook", "/openapi.json"} <= {path for path, _ in known}
    for path, method in [*known, ("/docs", "GET"), ("/redoc", "GET"), ("/nowhere", "GET")]:
        answer = client.request(method, path)
        assert answer.status_code == (200 if path in OPEN else 401), path
        if path not in OPEN:
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
            assert answer.json() == {"detail": "wrong user or password"}


def test_password_opens_every_path(guarded):
    """None is refused."""
    client = client_of(guarded)
    for path, method in paths_of(client.app):
        assert client.request(method, path, auth=(USER, PASSWORD)).status_code != 401, path


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic \xe9",
        "Bearer " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
        "Basic " + base64.b64encode(USER.encode()).decode(),
        "Basic " + base64.b64encode(f"{USER}:{PASSWORD}x".encode()).decode(),
        "Basic " + base64.b64encode(f"x{USER}:{PASSWORD}".encode()).decode(),
        "Basic " + base64.b64encode(f"{USER}:".encode()).decode(),
        "Basic " + base64.b64encode(b"\xff\x00").decode(),
    ],
)
def test_wrong_credentials_are_refused(guarded, authorization):
    """Whatever is wrong about them, and without a crash."""
    headers = {"Authorization": authorization.encode("latin-1")}
    assert client_of(guarded).get("/versions", headers=headers).status_code == 401


def test_pages_of_documentation_do_not_exist(settings):
    """They would run scripts of another host, with the password in their hands."""
    client = client_of(settings)
    assert [client.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]


def test_secret_of_webhooks_opens_webhook_and_nothing_else(guarded):
    """Every user of Label Studio may read it."""
    service = CountingService()
    client, headers = client_of(guarded, service=service), {HEADER: SECRET}
    assert client.post("/webhook", json={"action": "x"}, headers=headers).status_code == 200
    assert service.events == 1
    for path, method in paths_of(client.app):
        if path not in {*OPEN, "/webhook"}:
            assert client.request(method, path, headers=headers).status_code == 401, path


@pytest.mark.parametrize("given", ["", "no", SECRET[:-1], SECRET.upper(), PASSWORD])
def test_wrong_secret_is_refused(guarded, given):
    """With what to do, and no event."""
    service = CountingService()
    answer = client_of(guarded, service=service).post(
        "/webhook", json={"action": "x"}, headers={HEADER: given}
    )
    assert (answer.status_code, service.events) == (401, 0)
    assert "scripts/connect.py" in answer.json()["detail"]


def test_webhook_is_opened_by_the_password_too(guarded):
    """Label Studio's own call of *Start Training* carries it."""
    answer = client_of(guarded).post("/webhook", json={"action": "x"}, auth=(USER, PASSWORD))
    assert answer.json() == {"status": "queued"}


def test_comparison_takes_the_same_time_for_every_guess(guarded, monkeypatch):
    """By the standard library, on digests of one length, whether anything fits or not."""
    compared = []

    def compare(given, known):
        compared.append((len(given), len(known)))
        return hmac_compare(given, known)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    client = client_of(guarded)
    client.get("/versions")
    client.get("/versions", auth=(USER, "x" * 1000))
    client.get("/versions", auth=(USER, PASSWORD))
    client.post("/webhook", json={}, headers={HEADER: "x"})
    assert compared == [(32, 32)] * 4


def test_body_of_a_refused_request_is_not_read(guarded):
    """Nobody without the password can make us hold 64 MB, or parse them."""
    answers = []

    async def receive():
        raise AssertionError("the body was read")

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [],
             "query_string": b""}  # fmt: skip
    anyio.run(client_of(guarded).app, scope, receive, send)
    assert answers[0]["status"] == 401


def test_refusal_is_logged_without_what_was_given(guarded, caplog):
    """A mistyped password is close to the right one."""
    caplog.set_level(logging.DEBUG)
    client_of(guarded).get("/versions", auth=(USER, "nearly right"))
    assert "'/versions': 401: wrong user or password" in caplog.text
    assert "nearly" not in caplog.text
    assert base64.b64encode(f"{USER}:nearly right".encode()).decode() not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9090", "[::1]:9090", "127.8.8.8"])
def test_open_backend_is_called_by_the_names_of_loopback(settings, host):
    """They lead to this machine only."""
    assert client_of(settings, host).get("/versions").status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "evil.test:9090", "localhost.evil.test", "10.0.0.1"])
def test_open_backend_is_not_called_by_other_names(settings, host):
    """A web page may let its name lead to loopback (DNS rebinding), and then reads the answers."""
    answer = client_of(settings, host).get("/versions")
    assert answer.status_code == 401
    assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["", "[", "a b", "\xff"])
def test_malformed_host_is_refused(settings, host):
    """Without a crash."""
    headers = {"Host": host.encode("latin-1")}
    assert client_of(settings).get("/versions", headers=headers).status_code == 401


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}])
def test_web_page_cannot_start_a_training(settings, headers):
    """A form of another site can send text to loopback, but no JSON without asking first."""
    service = CountingService()
    answer = client_of(settings, service=service).post(
        "/webhook", content='{"action": "START_TRAINING"}', headers=headers
    )
    assert (answer.status_code, service.events) == (422, 0)


def test_anyone_is_served_if_that_is_wanted(settings):
    """By any name."""
    open_to_all = settings.model_copy(update={"allow_anyone": True})
    assert client_of(open_to_all, "guide.fab.test").get("/versions").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "guide.fab.test"])  # noqa: S104
def test_network_is_not_served_without_a_password(settings, guarded, host):
    """With one, or if that is wanted, it is."""
    with pytest.raises(ValueError, match=r"set BASIC_AUTH_USER and .* or ALLOW_ANYONE=true"):
        check_listening(settings.model_copy(update={"host": host}))
    check_listening(guarded.model_copy(update={"host": host}))
    check_listening(settings.model_copy(update={"host": host, "allow_anyone": True}))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_is_served_without_a_password(settings, host):
    """Only this machine reaches it."""
    check_listening(settings.model_copy(update={"host": host}))
