"""Keys and passwords stay where they belong: a whole run at DEBUG, searched for them."""

import base64
import sys
import time

import httpx
import pytest
from label_studio_stand_in import LABEL_CONFIG, LabelStudioStandIn, draft, prompt, stroke
from loopback import Answer, loopback_server

from backend.annotation.webhook_secret import HEADER, webhook_secret
from backend.trials.processes import Server, free_port, running

USER, PASSWORD = "label-studio", "pass-w0rd-of-the-backend"
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoi.c2lnbmF0dXJlLW9mLWl0"
ACCESS = "eyJhbGciOiJIUzI1NiJ9.c2hvcnQtbGl2ZWQtdG9rZW4.YW5vdGhlci1zaWduYXR1cmU"
HIDDEN = "hidden-in-an-address"
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))
SECRETS = {
    "legacy token": LEGACY,
    "personal access token": PERSONAL,
    "access token": ACCESS,
    "password": PASSWORD,
    "authorization": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
    "secret of webhooks": webhook_secret(USER, PASSWORD),
    "password in an address": HIDDEN,
}


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one task, which quotes the key in what it refuses."""
    stand_in = LabelStudioStandIn(loopback)
    loopback.answer("POST", "/api/token/refresh", Answer({"access": ACCESS}))
    loopback.routes["GET", "/data/refused.png"] = lambda request: Answer(
        {"detail": f"not with {request.authorization}"}, status=403
    )
    loopback.routes["GET", "/api/tasks/9/drafts"] = loopback.routes["GET", "/data/refused.png"]
    loopback.answer("GET", "/api/tasks/8/drafts", Answer([3]))  # no draft: a mistake of ours
    return stand_in


@pytest.fixture
def elsewhere(loopback):
    """Another server, to which Label Studio redirects."""
    with loopback_server() as server:
        moved = Answer(status=302, headers={"Location": f"{server.url}/data/a.png"})
        loopback.answer("GET", "/data/moved.png", moved)
        yield server


class Run:
    """A backend in a process of its own, and all that it answered."""

    def __init__(self, url):
        self.url = url
        self.answers = []

    def post(self, path, body, headers=None, auth=(USER, PASSWORD)):
        """Call it; return the status."""
        answer = httpx.post(
            f"{self.url}{path}", json=body, headers=headers, auth=auth, trust_env=False, timeout=60
        )
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer.status_code

    def ask(self, task):
        """Ask as the editor does."""
        context = {"result": [prompt()]}
        body = {"tasks": [task], "label_config": LABEL_CONFIG, "params": {"context": context}}
        return self.post("/predict", body)


def play(run, label_studio):
    """Do what logs, refuses and fails."""
    drawn, with_image = [draft(*STROKES, prompt())], lambda path: {"data": {"image": path}}
    assert run.post("/setup", {"schema": LABEL_CONFIG, "access_token": LEGACY}) == 200
    assert run.post("/setup", {}, auth=(USER, f"{PASSWORD}x")) == 401
    assert run.post("/setup", [{"key": PASSWORD}]) == 422
    assert run.ask(label_studio.task(drafts=drawn)) == 200
    address = f"http://me:{HIDDEN}@bucket.test/a.png?signature={HIDDEN}"
    for image in ("/data/moved.png", address):
        assert run.ask(label_studio.task(**with_image(image), drafts=drawn)) == 403
    assert run.ask(label_studio.task(**with_image("/data/refused.png"), drafts=drawn)) == 502
    assert run.ask(label_studio.task(id=9)) == 200
    assert run.ask(label_studio.task(id=8)) == 500
    event, secret = label_studio.submit(*STROKES), webhook_secret(USER, PASSWORD)
    assert run.post("/webhook", event, {HEADER: secret}, auth=None) == 200
    assert run.post("/webhook", event, {HEADER: secret[:-1]}, auth=None) == 401
    assert run.post("/webhook", {"action": "START_TRAINING", "project": {"id": 1}}) == 200


@pytest.mark.parametrize("key", [LEGACY, PERSONAL], ids=["legacy", "personal"])
def test_no_secret_is_logged_kept_or_sent_elsewhere(label_studio, elsewhere, tmp_path, key):
    """In logs, tracebacks, answers, the state folder, and what other hosts get."""
    state, log, port = tmp_path / "state", tmp_path / "log", free_port()
    environ = {
        "LABEL_STUDIO_URL": label_studio.server.url, "LABEL_STUDIO_API_KEY": key,
        "BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "MODEL_DIR": str(state),
        "PORT": str(port), "LOG_LEVEL": "DEBUG", "DRAFT_TIMEOUT_S": "0.5",
    }  # fmt: skip
    command = [sys.executable, "-m", "backend"]
    with running(Server("the backend", command, port, log, environ), lambda _: None) as url:
        run = Run(url)
        play(run, label_studio)
        wait_until(lambda: label_studio.predictions)
        wait_until(lambda: (state / "training.log").exists())
        wait_until(lambda: '"state": "exporting"' not in (state / "training.json").read_text())

    signed = {request.authorization for request in label_studio.server.requests}
    assert f"Token {LEGACY}" in signed if key == LEGACY else f"Bearer {ACCESS}" in signed
    assert "Traceback" in log.read_text()
    assert "DEBUG" in log.read_text()
    assert elsewhere.requests == []
    kept = {path: path.read_bytes() for path in [log, *state.rglob("*")] if path.is_file()}
    places = {**kept, **{f"answer {n}": a.encode() for n, a in enumerate(run.answers)}}
    found = [
        (place, name)
        for place, content in places.items()
        for name, secret in SECRETS.items()
        if secret.encode() in content
    ]
    assert found == []


def wait_until(condition, timeout_s=240):
    """Wait for the backend's work."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
