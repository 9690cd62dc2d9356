"""Calls to Label Studio's API: a task id goes in, Label Studio's own JSON comes out.

What is read stays plain JSON over httpx, because `tasks.py` takes it apart and because reads may be
repeated after a broken connection. What is written goes through label-studio-sdk, once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeAlias

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from backend.annotation.token_auth import TokenAuth
from backend.errors import LabelStudioError, LateAnswerError

Json: TypeAlias = dict[str, Any]

TASKS_A_PAGE = 100
PROJECTS_A_PAGE = 100
_SHORTEST_LOOK_S = 1.0
_KEY = re.compile(r"\b[0-9a-fA-F]{40}\b|\b[\w-]{10,}(?:\.[\w-]{10,}){2}\b")
"""What looks like a key, should Label Studio, or a proxy before it, quote what it was sent."""
_retried = retry(  # only for GETs: repeating one changes nothing in Label Studio
    # no timeouts: who waited once would wait three times
    retry=retry_if_exception_type((httpx.NetworkError, httpx.ProtocolError)),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.1, max=1.0),
    reraise=True,
)


class LabelStudioClient:
    """Talks to one Label Studio, with a legacy token or a personal access token.

    Every failure is a `LabelStudioError` that says what to do; none of them holds the key.
    """

    def __init__(self, url: str, api_key: str, timeout_s: float = 10.0) -> None:
        """Prepare the connection; nothing is sent yet.

        Args:
            url: Where Label Studio answers, `http://` or `https://`, a path prefix is allowed.
            api_key: Legacy token (40 hex digits) or personal access token (with two dots).
            timeout_s: Longest wait for a connection, and for each piece of an answer, seconds.
        """
        self.url = _checked_url(url)
        self.http = httpx.Client(
            base_url=self.url,
            auth=TokenAuth(self.url, api_key),
            timeout=timeout_s,
            follow_redirects=False,  # a redirect could carry the key to another host
            trust_env=not is_loopback(self.url.host),  # HTTP_PROXY does not lead back to us
        )
        # TokenAuth overrides the header of the sdk; retries of the sdk would POST twice
        self.sdk = LabelStudio(  # type: ignore[no-untyped-call]  # the sdk forgot its annotations
            base_url=str(self.url), api_key="unused", httpx_client=self.http, max_retries=0
        )

    def __enter__(self) -> LabelStudioClient:
        """Use the client in a `with` block, which closes its connections."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.http.close()

    def drafts(self, task_id: int) -> list[Json]:
        """Return the drafts of all users on a task."""
        return self._objects(_drafts_path(task_id))

    def annotation(self, annotation_id: int) -> Json:
        """Return one submitted annotation, with its results."""
        return self._object(f"/api/annotations/{annotation_id}/")

    def task(self, task_id: int) -> Json:
        """Return one task, with its annotations."""
        return self._object(f"/api/tasks/{task_id}/")

    def tasks(self, project_id: int, behind: int = 0) -> Iterator[Json]:
        """Read all tasks of a project in the order of their ids, a page at a time.

        Without annotations: see `annotations`, and `total_annotations` of a task. Pages begin
        behind the last id read, so a task that is deleted meanwhile does not hide another.
        """
        last = behind  # the number of a task
        while page := self._tasks_behind(last, project_id):
            yield from page
            last = page[-1]["id"]

    def annotations(self, task_id: int) -> list[Json]:
        """Return the submitted annotations of a task with their results, but no skipped ones.

        Unlike `task`, this never makes Label Studio ask the backend for a prediction.
        """
        return self._objects(f"/api/tasks/{task_id}/annotations/")

    def project(self, project_id: int) -> Json:
        """Return one project, with its `label_config`."""
        return self._object(f"/api/projects/{project_id}/")

    def projects(self) -> Iterator[Json]:
        """Read number, title and labeling interface of all projects, a page at a time.

        No more: Label Studio would also count all tasks, and hand over passwords of cloud storage.
        """
        number, has_more = 1, True
        while has_more:
            page = self._object(
                "/api/projects/",
                {"page": number, "page_size": PROJECTS_A_PAGE, "include": "id,title,label_config"},
            )
            yield from page.get("results") or []
            number, has_more = number + 1, bool(page.get("next"))

    def predictions(self, task_id: int) -> list[Json]:
        """Return the predictions stored for a task, of all versions and backends."""
        return self._objects("/api/predictions/", {"task": task_id})

    def replace_predictions(
        self, task_id: int, *, result: Sequence[Json], score: float, model_version: str, prefix: str
    ) -> int:
        """Store a prediction, then delete this backend's older ones for the same task.

        Args:
            task_id: The task predicted.
            result: Regions in Label Studio's form.
            score: Confidence of the whole prediction, 0 to 1.
            model_version: Version shown to the annotator; begins with `prefix`.
            prefix: How the versions of this backend begin; predictions of others are kept.

        Returns:
            The id of the new prediction. Nothing is deleted unless it exists.
        """
        with errors_as_sentences(self.url):
            created = self.sdk.predictions.create(
                task=task_id, result=list(result), score=score, model_version=model_version
            )
        for old in self.predictions(task_id):
            if old["id"] < created.id and str(old.get("model_version") or "").startswith(prefix):
                self._delete_prediction(old["id"])
        return int(created.id)

    def show_in_task(self, project_id: int, task_id: int, columns: Json) -> None:
        """Set keys of a task's data, which the Data Manager shows as columns; others stay.

        By the Data Manager's action for it, which writes nothing but the data. A PATCH saves the
        whole task as it was read, so a submission in between would not be counted: the task would
        stay among those to do, and be handed out again. None becomes an empty text.
        """
        action: dict[str, str | int] = {"id": "add_data_field", "project": project_id}
        for name, value in columns.items():
            field = {
                "value_name": name,
                "value_type": "Number" if isinstance(value, int | float) else "String",
                "value": "" if value is None else value,
                "selectedItems": {"all": False, "included": [task_id]},
            }
            with errors_as_sentences(self.url):
                response = self.http.post("/api/dm/actions/", params=action, json=field)
            if response.status_code != httpx.codes.OK:
                what = f"column {name}"
                raise refusal(self.url, response.status_code, what, detail_of(response))

    def change_data(self, task_id: int, changes: Json) -> None:
        """Set keys of a task's data by a PATCH, None among them; others stay.

        For tasks that nobody annotates at the moment: see `show_in_task`. The data is what a PATCH
        of nothing returns: a GET would rewrite the addresses of images in cloud storage, and make
        Label Studio ask the backend for a prediction.
        """
        with errors_as_sentences(self.url):
            data: Json = dict(self.sdk.tasks.update(id=str(task_id)).data)
            if not changes.items() <= data.items():
                self.sdk.tasks.update(id=str(task_id), data={**data, **changes})

    def serve_version(self, project_id: int, model_version: str) -> None:
        """Let a project show and order by the predictions of a version; one must exist."""
        with errors_as_sentences(self.url):
            self.sdk.projects.update(id=project_id, model_version=model_version)

    def wait_for_draft(
        self,
        task_id: int,
        region_ids: Collection[str],
        timeout_s: float = 6.0,
        interval_s: float = 0.25,
    ) -> Json | None:
        """Poll until a draft of the task holds all the given regions.

        The editor saves drafts up to 5 s late. A prompt is itself a region of the draft, so the
        draft that holds it also holds every stroke painted before, and tells whose draft it is.

        Args:
            task_id: The task being annotated.
            region_ids: Ids of the prompts just drawn.
            timeout_s: When to give up, seconds. At least one look is taken, and a look may take
                what is left of the time, but at least a second.
            interval_s: Pause between two looks, seconds.

        Returns:
            The newest such draft, or None when none came in time.
        """
        wanted = set(region_ids)
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), _SHORTEST_LOOK_S)
            try:
                drafts = self._objects(_drafts_path(task_id), timeout_s=left_s)
            except LateAnswerError:
                return None
            holding = [draft for draft in drafts if wanted <= _region_ids(draft)]
            if holding:
                return max(holding, key=lambda draft: str(draft.get("updated_at", "")))
            if time.monotonic() + interval_s > deadline:
                return None
            time.sleep(interval_s)

    @contextmanager
    def stream(self, reference: str | httpx.URL) -> Iterator[httpx.Response]:
        """Open a path or an absolute URL of this Label Studio for reading piece by piece.

        The answer is passed on whatever its status; redirects are not followed. The key is only
        sent when scheme, host and port are those of this Label Studio.
        """
        with errors_as_sentences(self.url), self.http.stream("GET", reference) as response:
            yield response

    def _tasks_behind(self, last: int, project_id: int) -> list[Json]:
        item = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": last}
        query = {"filters": {"conjunction": "and", "items": [item]}, "ordering": ["tasks:id"]}
        page = self._object(
            "/api/tasks/",
            {"project": project_id, "page_size": TASKS_A_PAGE, "query": json.dumps(query)},
        ).get("tasks")
        if not isinstance(page, list) or not _are_in_order(page, last):
            raise LabelStudioError(
                f"Label Studio at {self.url} does not list the tasks of project {project_id} in "
                "order of their ids: its version cannot be read, 1.23 can"
            )
        return page

    def _delete_prediction(self, prediction_id: int) -> None:
        try:
            self.sdk.predictions.delete(prediction_id)
        except ApiError as error:
            if error.status_code != httpx.codes.NOT_FOUND:  # someone else deleted it: as wanted
                raise refusal(
                    self.url, error.status_code or 0, "deleting a prediction", _detail(error.body)
                ) from None
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None

    def _object(self, path: str, params: Mapping[str, int | str] | None = None) -> Json:
        body = self._get(path, params or {})
        if not isinstance(body, dict):
            raise LabelStudioError(f"{path} of Label Studio holds no object but {type(body)}")
        return body

    def _objects(
        self, path: str, params: Mapping[str, int] | None = None, timeout_s: float | None = None
    ) -> list[Json]:
        body = self._get(path, params or {}, timeout_s)
        if not isinstance(body, list):
            raise LabelStudioError(f"{path} of Label Studio holds no list but {type(body)}")
        return body

    def _get(
        self, path: str, params: Mapping[str, int | str], timeout_s: float | None = None
    ) -> object:
        timeout = self.http.timeout if timeout_s is None else timeout_s
        with errors_as_sentences(self.url):
            response = self._get_retried(path, params, timeout)
        if response.status_code != httpx.codes.OK:
            raise refusal(self.url, response.status_code, path, detail_of(response))
        try:
            return response.json()
        except ValueError:
            raise LabelStudioError(
                f"{path} did not answer with JSON: does LABEL_STUDIO_URL ({self.url}) really lead "
                "to Label Studio?"
            ) from None

    @_retried
    def _get_retried(
        self, path: str, params: Mapping[str, int | str], timeout: httpx.Timeout | float
    ) -> httpx.Response:
        return self.http.get(path, params=dict(params), timeout=timeout)


@contextmanager
def errors_as_sentences(url: httpx.URL) -> Iterator[None]:
    """Turn what httpx and the sdk raise into `LabelStudioError`s.

    The originals are left out of the chain: they may quote requests and headers.
    """
    try:
        yield
    except ApiError as error:
        detail = _detail(error.body)
        raise refusal(url, error.status_code or 0, "a call of its API", detail) from None
    except httpx.HTTPError as error:
        raise unreachable(url, error) from None


def refusal(url: httpx.URL, status: int, what: str, detail: str = "") -> LabelStudioError:
    """Say in one sentence why Label Studio at `url` answered `what` with an error `status`.

    `detail` is quoted: Label Studio's own words, if it had any.
    """
    match status:
        case 401:
            advice = "it refuses the key: check LABEL_STUDIO_API_KEY (legacy tokens may be off)"
        case 403:
            advice = "the user of the key may lack rights, or it blocks the address"
        case 404:
            advice = "it does not know that: was it deleted, or is LABEL_STUDIO_URL another one?"
        case _ if httpx.codes.is_redirect(status):
            advice = "it redirects: set LABEL_STUDIO_URL to the final address (http or https?)"
        case _ if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            advice = "it failed inside: see the log of Label Studio"
        case _:
            advice = "it did not accept the request"
    quoted = f"{what}: {detail}" if detail else what
    return LabelStudioError(f"Label Studio at {url} answered {status} ({quoted}): {advice}")


def unreachable(url: httpx.URL, error: httpx.HTTPError) -> LabelStudioError:
    """Say in one sentence that Label Studio at `url` cannot be reached; only the kind is named."""
    kind = LateAnswerError if isinstance(error, httpx.ReadTimeout) else LabelStudioError
    return kind(
        f"Label Studio at {url} does not answer ({type(error).__name__}): is it running, and is "
        "LABEL_STUDIO_URL right?"
    )


def detail_of(response: httpx.Response) -> str:
    """Label Studio's own words in a refusal that was read; "" without any."""
    try:
        return _detail(response.json())
    except ValueError:
        return ""


def _detail(body: object) -> str:
    """Keep only Label Studio's own words, not the headers and bodies around them."""
    if not isinstance(body, dict):
        return ""
    words = [str(body[key]) for key in ("detail", "validation_errors") if body.get(key)]
    return _KEY.sub("...", ", ".join(words))[:300]


def _are_in_order(tasks: Sequence[Json], last: int) -> bool:
    """Whether the ids of tasks rise, from above `last`; else reading on might never end."""
    ids = [last, *(task.get("id", last) for task in tasks)]
    return all(before < after for before, after in pairwise(ids))


def _drafts_path(task_id: int) -> str:
    return f"/api/tasks/{task_id}/drafts"


def _region_ids(draft: Mapping[str, Any]) -> set[str]:
    """Ids of the regions in a draft; a region may have several results with the same id."""
    return {str(region["id"]) for region in draft.get("result") or [] if "id" in region}


def is_loopback(host: str) -> bool:
    """Whether a host, by number or by name, is this machine and can be reached from it only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _checked_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.userinfo or "@" in url:  # not shown: a password may be in it
        raise ValueError("LABEL_STUDIO_URL holds a user: it must look like http://host:8080")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"LABEL_STUDIO_URL is {url!r}: it must look like http://host:8080")
    return parsed
