"""The calls to Label Studio, against a small HTTP server on loopback."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from loopback import Answer

from backend.annotation.client import LabelStudioClient
from backend.errors import LabelStudioError

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "header.payload.signature"
PREDICTION = {"id": 9, "task": 5, "result": [], "model_version": "tem-guide-v3"}


@pytest.fixture
def client(loopback):
    """Connect to the loopback server with a legacy token."""
    with LabelStudioClient(loopback.url, LEGACY) as client:
        yield client


def personal_client(loopback, *access_tokens):
    """Connect with a personal access token, exchanged for one access token after the other."""
    answers = [Answer({"access": token}) for token in access_tokens]
    loopback.answer("POST", "/api/token/refresh", *answers)
    return LabelStudioClient(loopback.url, PERSONAL)


def test_legacy_token_is_sent_as_it_is(loopback, client):
    """Legacy keys go into the header as Label Studio wants them."""
    loopback.answer("GET", "/api/tasks/5/", Answer({"id": 5}))

    assert client.task(5) == {"id": 5}
    assert loopback.requests[0].authorization == f"Token {LEGACY}"


def test_personal_token_is_exchanged_once_and_kept(loopback):
    """Two reads need one exchange."""
    loopback.answer("GET", "/api/tasks/5/", Answer({"id": 5}))
    with personal_client(loopback, "short-lived") as client:
        client.task(5)
        client.task(5)

    exchange, *reads = loopback.requests
    assert exchange.json() == {"refresh": PERSONAL}
    assert [read.authorization for read in reads] == ["Bearer short-lived"] * 2


def test_refused_access_token_is_exchanged_again(loopback):
    """A 401 leads to one more exchange, then the read succeeds."""
    loopback.answer("GET", "/api/tasks/5/", Answer(status=401), Answer({"id": 5}))
    with personal_client(loopback, "stale", "fresh") as client:
        assert client.task(5) == {"id": 5}

    assert [request.authorization for request in loopback.requests if request.method == "GET"] == [
        "Bearer stale",
        "Bearer fresh",
    ]


def test_access_token_is_exchanged_before_label_studio_forgets_it(loopback, monkeypatch):
    """After five minutes Label Studio would refuse the token, so it is renewed earlier."""
    loopback.answer("GET", "/api/tasks/5/", Answer({"id": 5}))
    with personal_client(loopback, "first", "second") as client:
        client.task(5)
        later_s = time.monotonic() + 299
        monkeypatch.setattr("backend.annotation.token_auth.time.monotonic", lambda: later_s)
        client.task(5)

    assert loopback.requests[-1].authorization == "Bearer second"


def test_revoked_personal_token_names_the_setting(loopback):
    """The sentence names the variable, and the key is not in it."""
    loopback.answer("POST", "/api/token/refresh", Answer({"detail": PERSONAL}, status=401))
    with (
        LabelStudioClient(loopback.url, PERSONAL) as client,
        pytest.raises(LabelStudioError, match="check LABEL_STUDIO_API_KEY") as caught,
    ):
        client.task(5)

    assert PERSONAL not in str(caught.value)


def test_exchange_without_a_token_is_an_error(loopback):
    """Another program behind the address does not answer like Label Studio."""
    loopback.answer("POST", "/api/token/refresh", Answer(b"<html>"))
    with (
        LabelStudioClient(loopback.url, PERSONAL) as client,
        pytest.raises(LabelStudioError, match="did not answer with an access token"),
    ):
        client.task(5)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "check LABEL_STUDIO_API_KEY"),
        (404, "was it deleted"),
        (301, "final address"),
        (502, "see the log of Label Studio"),
        (400, "did not accept"),
    ],
)
def test_refusal_says_what_to_do(loopback, client, status, sentence):
    """Each status leads to its own advice, for reads and for writes."""
    loopback.answer("GET", "/api/projects/1/", Answer({}, status=status))
    loopback.answer("POST", "/api/predictions/", Answer({"detail": "no"}, status=status))

    with pytest.raises(LabelStudioError, match=sentence):
        client.project(1)
    with pytest.raises(LabelStudioError, match=sentence):
        client.replace_predictions(5, result=[], score=0.5, model_version="v1", prefix="v")


def test_forbidden_is_not_blamed_on_the_key(loopback, client):
    """Label Studio's own words are quoted, for reads and for writes."""
    refused = Answer({"detail": "URL is blocked"}, status=403)
    loopback.answer("GET", "/api/projects/1/", refused)
    loopback.answer("POST", "/api/predictions/", refused)
    sentence = "URL is blocked.*may lack rights, or it blocks the address"

    with pytest.raises(LabelStudioError, match=sentence):
        client.project(1)
    with pytest.raises(LabelStudioError, match=sentence) as caught:
        client.replace_predictions(5, result=[], score=0.5, model_version="v1", prefix="v")
    assert "LABEL_STUDIO_API_KEY" not in str(caught.value)


def test_label_studio_that_is_down_is_named():
    """The sentence holds the address and the setting."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with (
            LabelStudioClient(url, LEGACY) as client,
            pytest.raises(LabelStudioError, match=r"does not answer.*LABEL_STUDIO_URL"),
        ):
            client.drafts(5)


def test_broken_connection_is_tried_again():
    """The first connection is cut before an answer; the second serves the read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=cut_one_then_answer, args=(listener,))
        thread.start()
        with LabelStudioClient(f"http://127.0.0.1:{port}", LEGACY) as client:
            assert client.drafts(5) == []
        thread.join()


def cut_one_then_answer(listener):
    """Close the first connection in the middle of the request, answer the second."""
    listener.accept()[0].close()
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")


def test_writes_are_not_repeated(loopback, client):
    """A failed POST may have stored the prediction: sending it again could store it twice."""
    loopback.answer("POST", "/api/predictions/", Answer({}, status=503))

    with pytest.raises(LabelStudioError):
        client.replace_predictions(5, result=[], score=0.5, model_version="v1", prefix="v")

    assert len(loopback.paths("POST")) == 1


def test_page_in_place_of_json_names_the_address(loopback, client):
    """A proxy or another program at the address answers with a page."""
    loopback.answer("GET", "/api/annotations/7/", Answer(b"<html>Welcome</html>"))

    with pytest.raises(LabelStudioError, match="did not answer with JSON"):
        client.annotation(7)


@pytest.mark.parametrize("read", [LabelStudioClient.drafts, LabelStudioClient.task])
def test_wrong_kind_of_json_is_refused(loopback, client, read):
    """A number is neither a list of drafts nor a task."""
    loopback.answer("GET", "/api/tasks/5/drafts", Answer(3))
    loopback.answer("GET", "/api/tasks/5/", Answer(3))

    with pytest.raises(LabelStudioError, match="holds no"):
        read(client, 5)


def prepare_predictions(loopback, versions):
    """Let task 5 have predictions with ids 1, 2, ... of these versions, and take the new one, 9."""
    stored = [
        {**PREDICTION, "id": number, "model_version": version}
        for number, version in enumerate(versions, start=1)
    ]
    loopback.answer("POST", "/api/predictions/", Answer(PREDICTION, status=201))
    loopback.answer("GET", "/api/predictions/", Answer([*stored, PREDICTION]))
    for prediction in stored:
        loopback.answer("DELETE", f"/api/predictions/{prediction['id']}/", Answer(status=204))


def replace(client):
    """Push version 3 of the guide for task 5."""
    return client.replace_predictions(
        5, result=[{"id": "a"}], score=0.5, model_version="tem-guide-v3", prefix="tem-guide-"
    )


def test_new_prediction_replaces_the_older_ones_of_this_backend(loopback, client):
    """Predictions of other backends, or of none, stay."""
    prepare_predictions(loopback, ["tem-guide-v1", "other-v1", None, "tem-guide-v2"])

    assert replace(client) == 9
    assert loopback.paths("DELETE") == ["/api/predictions/1/", "/api/predictions/4/"]


def test_prediction_carries_result_score_and_version(loopback, client):
    """What is stored is what was given."""
    prepare_predictions(loopback, [])

    replace(client)

    assert loopback.requests[0].json() == {
        "task": 5,
        "result": [{"id": "a"}],
        "score": 0.5,
        "model_version": "tem-guide-v3",
    }


def test_old_predictions_stay_when_the_new_one_is_refused(loopback, client):
    """Nothing is deleted before its successor exists."""
    prepare_predictions(loopback, ["tem-guide-v1"])
    loopback.answer("POST", "/api/predictions/", Answer({"detail": "no"}, status=400))

    with pytest.raises(LabelStudioError, match="400"):
        replace(client)

    assert loopback.paths("DELETE") == []


def test_prediction_deleted_by_someone_else_is_no_error(loopback, client):
    """It is gone, as wanted."""
    prepare_predictions(loopback, ["tem-guide-v1"])
    loopback.answer("DELETE", "/api/predictions/1/", Answer({}, status=404))

    assert replace(client) == 9


def test_refused_deletion_is_an_error(loopback, client):
    """Otherwise old predictions would pile up without a word."""
    prepare_predictions(loopback, ["tem-guide-v1"])
    loopback.answer("DELETE", "/api/predictions/1/", Answer({}, status=403))

    with pytest.raises(LabelStudioError, match="deleting a prediction"):
        replace(client)


def draft(number, updated_at, *region_ids):
    """Make a draft as Label Studio lists it."""
    regions = [{"id": region_id} for region_id in region_ids]
    return {"id": number, "updated_at": updated_at, "result": regions}


def test_draft_with_all_prompts_is_awaited(loopback, client):
    """The draft arrives at the third look, as late as the editor saves."""
    old, new = draft(1, "10:00", "stroke"), draft(1, "10:05", "stroke", "prompt", "late stroke")
    loopback.answer("GET", "/api/tasks/5/drafts", Answer([]), Answer([old]), Answer([new]))

    found = client.wait_for_draft(5, ["stroke", "prompt"], interval_s=0.01)

    assert found == new
    assert len(loopback.requests) == 3


def test_newest_of_several_drafts_is_taken(loopback, client):
    """Two drafts may hold the prompt after the annotation was submitted and drafted again."""
    drafts = [draft(1, "10:00", "p"), draft(2, "10:05", "p"), draft(3, "10:09", "other")]
    loopback.answer("GET", "/api/tasks/5/drafts", Answer(drafts))

    assert client.wait_for_draft(5, ["p"])["id"] == 2


def test_waiting_for_a_draft_ends(loopback, client):
    """None after the time is over, and at least one look."""
    loopback.answer("GET", "/api/tasks/5/drafts", Answer([draft(1, "10:00")]))

    assert client.wait_for_draft(5, ["p"], timeout_s=0.05, interval_s=0.02) is None
    assert len(loopback.requests) > 1


@pytest.mark.parametrize("looks", [[], [Answer([draft(1, "10:00")])]], ids=["first", "later"])
def test_label_studio_that_hangs_is_not_awaited_longer(loopback, client, monkeypatch, looks):
    """A look takes what is left of the time, at least the shortest look, and is not repeated."""
    monkeypatch.setattr("backend.annotation.client._SHORTEST_LOOK_S", 0.2)
    hang, left = threading.Event(), list(looks)

    def answer(_):
        return left.pop(0) if left else hang.wait(10) and Answer([])

    loopback.routes["GET", "/api/tasks/5/drafts"] = answer
    start_s = time.monotonic()
    found = client.wait_for_draft(5, ["p"], timeout_s=0.5, interval_s=0.1)
    took_s = time.monotonic() - start_s
    hang.set()

    assert found is None
    assert took_s < 0.5 + 0.2 + 0.3
    assert len(loopback.requests) == len(looks) + 1


def test_key_refused_while_waiting_is_said(loopback, client):
    """Only lateness means that there is no draft."""
    loopback.answer("GET", "/api/tasks/5/drafts", Answer(status=401))

    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY"):
        client.wait_for_draft(5, ["p"], timeout_s=0)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_loopback_is_reached_without_the_proxy(loopback, monkeypatch, name):
    """HTTP_PROXY, as set in a company, does not lead back to this machine."""
    loopback.answer("GET", "/api/tasks/5/", Answer({"id": 5}))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)

    with LabelStudioClient(loopback.url.replace("127.0.0.1", name), LEGACY) as client:
        assert client.task(5) == {"id": 5}


def test_other_hosts_are_reached_through_the_proxy(loopback, monkeypatch):
    """There it may be the only way."""
    loopback.answer("GET", "http://label-studio.test/api/tasks/5/", Answer({"id": 5}))
    monkeypatch.setenv("http_proxy", loopback.url)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)

    with LabelStudioClient("http://label-studio.test", LEGACY) as client:
        assert client.task(5) == {"id": 5}


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://host", "http://me:hidden@host", "http://host:port",
            "http://me:hidden@[", "me:hidden@host"]
)  # fmt: skip
def test_unusable_address_names_the_setting(url):
    """A missing scheme is the usual slip; a password in it is not shown."""
    with pytest.raises(ValueError, match="LABEL_STUDIO_URL") as caught:
        LabelStudioClient(url, LEGACY)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", [LEGACY, "eyJhbGciOiJIUzI1.eyJ0b2tlbl90eXBl.SflKxwRJSMeKKF2QT4"])
def test_key_that_comes_back_is_not_told(loopback, client, key):
    """Label Studio, or a proxy before it, may quote what it was sent."""
    refused = Answer({"detail": f"bad header: Token {key}, sorry"}, status=403)
    loopback.answer("GET", "/api/projects/1/", refused)
    loopback.answer("POST", "/api/predictions/", refused)

    with pytest.raises(LabelStudioError, match=r"bad header: Token \.\.\., sorry"):
        client.project(1)
    with pytest.raises(LabelStudioError, match=r"bad header: Token \.\.\., sorry"):
        client.replace_predictions(5, result=[], score=0.5, model_version="v1", prefix="v")


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "schlüssel"])
def test_unusable_key_is_refused_without_showing_it(key):
    """Such a key would be quoted by the error of the HTTP library."""
    with pytest.raises(ValueError, match="LABEL_STUDIO_API_KEY") as caught:
        LabelStudioClient("http://host", key)

    assert not key.strip() or key not in str(caught.value)


def test_path_prefix_is_kept(loopback):
    """Label Studio may live below a path of a shared host."""
    loopback.answer("GET", "/annotate/api/tasks/5/", Answer({"id": 5}))

    with LabelStudioClient(f"{loopback.url}/annotate/", LEGACY) as client:
        assert client.task(5) == {"id": 5}


def test_key_stays_with_label_studio(loopback, client):
    """Another host, another port: no signature."""
    elsewhere = loopback.url.replace("127.0.0.1", "localhost")
    with client.stream(f"{elsewhere}/a.png"):
        pass

    assert loopback.requests[0].authorization == ""


@pytest.mark.parametrize("key", [LEGACY, PERSONAL])
def test_key_is_in_no_log(loopback, caplog, key):
    """Even with everything logged, by httpx and the sdk too."""
    caplog.set_level(logging.DEBUG)
    prepare_predictions(loopback, ["tem-guide-v1"])
    loopback.answer("POST", "/api/token/refresh", Answer({"access": "short-lived"}))
    with LabelStudioClient(loopback.url, key) as client:
        replace(client)

    assert caplog.records
    assert key not in caplog.text
    assert "short-lived" not in caplog.text


def test_httpx_is_asked_not_to_follow_redirects(loopback, client):
    """A redirect is handed to the caller, who knows where images may come from."""
    loopback.answer("GET", "/a.png", Answer(status=302, headers={"Location": "http://x.test/"}))

    with client.stream("/a.png") as response:
        assert response.status_code == httpx.codes.FOUND


def list_tasks(loopback, pages):
    """Let project 1 have these pages of tasks, by id; remember what was asked."""
    answers = [Answer({"tasks": [{"id": id_} for id_ in page]}) for page in pages]
    loopback.answer("GET", "/api/tasks/", *answers)


def test_tasks_are_read_page_by_page(loopback, client):
    """Each page begins behind the last id of the one before; an empty one is the end."""
    list_tasks(loopback, [[1, 2], [5], []])

    tasks = client.tasks(1)

    assert [next(tasks)["id"], len(loopback.requests)] == [1, 1]  # no page is read ahead
    assert [task["id"] for task in tasks] == [2, 5]
    queries = [parse_qs(urlsplit(path).query) for path in loopback.paths()]
    asked = [json.loads(query["query"][0]) for query in queries]
    assert [one["filters"]["items"][0]["value"] for one in asked] == [0, 2, 5]
    assert all(one["ordering"] == ["tasks:id"] for one in asked)
    assert all((query["project"], query["page_size"]) == (["1"], ["100"]) for query in queries)


@pytest.mark.parametrize("pages", [[[1, 2], [2, 3]], [[2, 1]], [[1], [1]]])
def test_tasks_out_of_order_are_an_error(loopback, client, pages):
    """Reading on could skip some, or never end."""
    list_tasks(loopback, pages)

    with pytest.raises(LabelStudioError, match="does not list the tasks of project 1 in order"):
        list(client.tasks(1))


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": [{}]}])
def test_list_without_tasks_is_an_error(loopback, client, body):
    """Another program, or a version that answers otherwise."""
    loopback.answer("GET", "/api/tasks/", Answer(body))

    with pytest.raises(LabelStudioError, match="does not list the tasks"):
        list(client.tasks(1))


def test_annotations_of_a_task_are_read(loopback, client):
    """With their results."""
    loopback.answer("GET", "/api/tasks/5/annotations/", Answer([{"id": 7, "result": []}]))

    assert client.annotations(5) == [{"id": 7, "result": []}]


def test_columns_of_a_task_are_set_one_by_one(loopback, client):
    """Of this task only; what is unknown is empty. Nothing but the data is written."""
    loopback.answer("POST", "/api/dm/actions/", Answer({"detail": "Updated 1 tasks"}))

    client.show_in_task(1, 5, {"guide_state": "new", "guide_turns": 3, "guide_cds": None})

    assert {request.path for request in loopback.requests} == {
        "/api/dm/actions/?id=add_data_field&project=1"
    }
    bodies = [request.json() for request in loopback.requests]
    assert all(body["selectedItems"] == {"all": False, "included": [5]} for body in bodies)
    assert [(body["value_name"], body["value_type"], body["value"]) for body in bodies] == [
        ("guide_state", "String", "new"),
        ("guide_turns", "Number", 3),
        ("guide_cds", "String", ""),
    ]


def test_refused_column_is_an_error(loopback, client):
    """As of any call."""
    loopback.answer("POST", "/api/dm/actions/", Answer({"detail": "No."}, status=403))

    with pytest.raises(LabelStudioError, match="lack rights"):
        client.show_in_task(1, 5, {"guide_state": "new"})
