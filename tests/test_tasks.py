"""Label Studio's JSON to ours: real requests, percent to pixels, and what is refused."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regions import annotation, request_body, scribble

from backend.annotation.rle import MAX_BYTES
from backend.annotation.task_bodies import (
    MAX_ANNOTATIONS,
    MAX_REGIONS,
    MAX_TOUCH_POINTS,
    MAX_TOUCHES,
)
from backend.annotation.tasks import (
    Annotation,
    Region,
    Task,
    parse_annotation,
    parse_draft,
    parse_prompts,
    parse_results,
    parse_task,
)
from backend.errors import InvalidTaskError

INTERACTIVE = request_body("interactive_request_with_draft")
BATCH = request_body("batch_request_with_ground_truth")
STARRED = request_body("webhook_ground_truth_starred")
FINISHED = Region("c", "status", "choices", None, "manual", choices=("Finished GT",))


def result(**changes):
    """Draw one stroke on an image 200 wide and 100 high."""
    value = {"brushlabels": ["Si"], "touches": [touch()]}
    return {
        "id": "r1",
        "from_name": "scribble",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": 200,
        "original_height": 100,
        "value": value,
    } | changes


def touch(**changes):
    """Press the mouse in the middle of the image."""
    return {"type": "add", "relativePoints": [50, 50], "relativeStrokeWidth": 1} | changes


def stroked(**changes):
    """Draw one stroke that differs in some key."""
    return result(value={"brushlabels": ["Si"], "touches": [touch(**changes)]})


def draft(updated_at="2026-11-22T08:00:00Z", *, annotation_id=None, ids=("s1",)):
    """Leave a draft with scribbles of these ids."""
    regions = tuple(scribble(id=id_) for id_ in ids)
    return Annotation(annotation_id, "a@example.com", updated_at, regions)


def test_interactive_request_is_read():
    """Two fresh strokes in a draft, and no annotation."""
    task = parse_task(INTERACTIVE["tasks"][0], "image")

    (only_draft,) = task.drafts
    assert (task.id, task.image, task.annotations) == (10, "/data/upload/2/90838cc4-extra.png", ())
    assert (only_draft.id, only_draft.user) == (None, "admin@example.com")
    assert [(region.label, region.origin) for region in only_draft.regions] == [
        *(("Si", "manual"), ("Oxide", "manual"))
    ]
    assert all(region.rle is None and len(region.touches) == 1 for region in only_draft.regions)


def test_prompt_is_read_from_the_context():
    """It tells which draft to wait for."""
    (prompt,) = parse_prompts(INTERACTIVE["params"]["context"])

    assert (prompt.id, prompt.control, prompt.label) == ("FeaoQRYkCm", "ask", "Update guide")
    assert prompt.id not in parse_task(INTERACTIVE["tasks"][0], "image").drafts[0].region_ids


@pytest.mark.parametrize("context", [None, {}, {"result": []}, {"result": None}])
def test_request_without_prompt_has_no_prompts(context):
    """Retrieving predictions sends no context."""
    assert parse_prompts(context) == ()


def test_submitted_annotation_is_read():
    """It holds an RLE and the ground-truth star."""
    (submitted,) = parse_task(BATCH["tasks"][0], "image").annotations

    assert (submitted.id, submitted.user, submitted.finished) == (5, "1", True)
    assert submitted.regions[0].rle[:6] == (0, 16, 0, 0, 57, 27)
    assert submitted.regions[0].shape == (512, 512)


def test_name_that_cannot_be_stored_is_mended():
    """JSON may hold half of a surrogate pair; the record of turns and UTF-8 may not."""
    body = copy.deepcopy(INTERACTIVE["tasks"][0])
    body["drafts"][0]["user"] = "\ud800ann"
    assert parse_task(body, "image").drafts[0].user == "?ann"


def test_webhook_annotation_is_read():
    """The same annotation as in the task."""
    submitted = parse_annotation(STARRED["annotation"])

    assert submitted == parse_task(BATCH["tasks"][0], "image").annotations[0]


def test_percent_become_pixels_with_centers_at_integers():
    """The middle of 200 columns lies between columns 99 and 100."""
    (region,) = parse_results([result()])

    assert region.touches[0].points_px.tolist() == [[49.5, 99.5]]
    assert region.touches[0].width_px == 2.0


def test_points_are_pairs_of_x_and_y():
    """The first pair is the upper left corner of the image, the second the lower right one."""
    (region,) = parse_results([stroked(relativePoints=[0, 0, 100, 100])])

    assert region.touches[0].points_px.tolist() == [[-0.5, -0.5], [99.5, 199.5]]


def test_box_is_no_paint():
    """It tells its label and the image it was drawn on."""
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["Uncertain"]}
    (region,) = parse_results([result(type="rectanglelabels", value=value)])

    assert region.label == "Uncertain"
    assert region.shape == (100, 200)
    assert not region.is_painted


def test_eraser_is_told_from_the_brush():
    """Both are touches of one region, in the order they were made."""
    value = {"brushlabels": ["Si"], "touches": [touch(), touch(type="eraser")]}
    (region,) = parse_results([result(value=value)])

    assert [stroke.erases for stroke in region.touches] == [False, True]


def test_region_with_two_labels_has_none():
    """Nobody can tell which one was meant."""
    (region,) = parse_results([result(value={"brushlabels": ["Si", "Oxide"], "rle": [0]})])

    assert region.label is None


def test_relations_are_left_out():
    """They belong to no control."""
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}

    assert [region.id for region in parse_results([relation, result()])] == ["r1"]


def test_result_of_another_control_is_kept_as_it_is():
    """A project may have a text field beside ours."""
    note = {"id": "t", "from_name": "note", "type": "textarea", "value": {"text": ["fine"]}}

    assert parse_results([note]) == (Region("t", "note", "textarea", None, ""),)


def test_stroke_outside_the_image_is_fine():
    """Annotators start and end strokes beside the image."""
    (region,) = parse_results([stroked(relativePoints=[-50, 150])])

    assert region.touches[0].points_px.tolist() == [[149.5, -100.5]]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (stroked(relativePoints=[float("nan"), 0]), "relativePoints"),
        (stroked(relativePoints=[0, float("inf")]), "relativePoints"),
        (stroked(relativePoints=[0, 1e9]), "relativePoints"),
        (stroked(relativePoints=[0, 1, 2]), "3 numbers are not pairs"),
        (stroked(relativePoints=["1", "2"]), "relativePoints"),
        (stroked(relativeStrokeWidth=-1), "relativeStrokeWidth"),
        (stroked(relativeStrokeWidth=1e4), "relativeStrokeWidth"),
        (stroked(relativeStrokeWidth=float("nan")), "relativeStrokeWidth"),
        (stroked(type="smudge"), "'add' or 'eraser'"),
        (result(original_width=0), "original_width"),
        (result(original_width="200"), "original_width"),
        (result(original_height=10**9), "original_height"),
        (result(original_height=None), "original_width or original_height"),
        (result(value=None), "value"),
        (result(value={"brushlabels": "Si", "rle": [0]}), "brushlabels"),
        (result(value={"brushlabels": ["Si"], "rle": "00"}), "rle"),
        (result(from_name=None), "from_name"),
    ],
)
def test_malformed_region_is_refused_by_name(broken, complaint):
    """The message names task, draft, region and key."""
    body = {"id": 7, "data": {"image": "a.png"}, "drafts": [{"id": 3, "result": [broken]}]}

    with pytest.raises(InvalidTaskError, match=complaint) as caught:
        parse_task(body, "image")

    assert str(caught.value).startswith("task 7, draft 3, region r1")


@pytest.mark.parametrize("key", ["id", "from_name", "type", "value"])
def test_region_without_a_key_is_refused(key):
    """The message names the key."""
    broken = {name: value for name, value in result().items() if name != key}

    with pytest.raises(InvalidTaskError, match=f"{key}: Field required"):
        parse_results([broken])


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "task without id: id"),
        ([], "task without id"),
        ({"id": "7", "data": {}}, "task 7: id"),
        ({"id": 7}, "task 7: data"),
        ({"id": 7, "data": {"image": ""}}, "no image under 'image'"),
        ({"id": 7, "data": {"tem": "a.png"}}, "no image under 'image'"),
        ({"id": 7, "data": {"image": 3}}, "no image under 'image'"),
        ({"id": 7, "data": {"image": "a.png"}, "drafts": {}}, "task 7: drafts"),
        ({"id": 7, "data": {"image": "a.png"}, "annotations": [3]}, "task 7, annotation"),
        ({"id": 7, "data": {"image": "a"}, "drafts": [{"result": [5]}]}, "region without id"),
        ({"id": 7, "data": {"image": "a"}, "drafts": [{"result": 5}]}, "result"),
    ],
)
def test_malformed_task_is_refused_by_name(body, complaint):
    """Missing keys and wrong types are mistakes of the sender, not of ours."""
    with pytest.raises(InvalidTaskError, match=complaint):
        parse_task(body, "image")


@pytest.mark.parametrize(
    "changes",
    [
        {"id": -1},
        {"id": 2**63},
        {"id": 10**40},
        {"drafts": [{}] * (MAX_ANNOTATIONS + 1)},
        {"annotations": [{}] * (MAX_ANNOTATIONS + 1)},
        {"drafts": [{"result": [result(value={"rle": [0] * (MAX_BYTES + 1)})]}]},
    ],
    ids=["negative", "too large", "far too large", "drafts", "annotations", "long mask"],
)
def test_task_beyond_the_limits_is_refused(changes):
    """Numbers that no database has, and lists that nobody draws."""
    with pytest.raises(InvalidTaskError, match=r"less than|greater than|at most"):
        parse_task({"id": 7, "data": {"image": "a.png"}, **changes}, "image")


@pytest.mark.parametrize(
    ("results", "complaint"),
    [
        ([result()] * (MAX_REGIONS + 1), "regions, at most"),
        ([stroked(relativePoints=[1] * (2 * MAX_TOUCH_POINTS + 2))], "points, at most"),
        ([result(value={"touches": [touch()] * (MAX_TOUCHES + 1)})], "strokes, at most"),
        ("abc", "no list"),
    ],
)
def test_too_much_is_refused(results, complaint):
    """A request must not keep the server busy for minutes."""
    with pytest.raises(InvalidTaskError, match=complaint):
        parse_results(results)


def paths(value, at=()):
    """List the way to every value in a piece of JSON."""
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in steps:
        yield (*at, step)
        if isinstance(inner, dict | list) and not (isinstance(inner, list) and len(inner) > 10):
            yield from paths(inner, (*at, step))


PATHS = list(paths(INTERACTIVE["tasks"][0]))


@given(st.sampled_from(PATHS), st.sampled_from([None, "", -1, 1e300, [], {}, [[]], True]))
def test_task_with_any_value_replaced_is_read_or_refused(path, value):
    """Nothing but our own exception ever comes out."""
    body = copy.deepcopy(INTERACTIVE["tasks"][0])
    holder = body
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value

    try:
        parsed = parse_task(body, "image")
    except InvalidTaskError:
        return
    assert parsed.id == body["id"]


def test_infinity_in_the_request_text_is_refused():
    """Python's JSON reader lets it through; the task does not."""
    text = json.dumps(stroked(relativePoints=[float("inf"), 0]))

    with pytest.raises(InvalidTaskError, match="finite"):
        parse_results([json.loads(text)])


def test_draft_of_an_annotation_has_its_id():
    """So it can replace it."""
    assert parse_draft({"id": 9, "annotation": 5, "result": []}).id == 5
    assert parse_draft({"id": 9, "annotation": None, "result": None}).id is None


@pytest.mark.parametrize(
    ("who", "name"),
    [(1, "1"), ({"id": 1, "email": "a@b.c"}, "a@b.c"), ({"id": 1}, "1"), (None, None)],
)
def test_annotator_is_told(who, name):
    """Label Studio sends an id or an object, depending on the door."""
    assert parse_annotation({"id": 5, "completed_by": who, "result": []}).user == name


@pytest.mark.parametrize("shown", [" a@b.c, 1", "a@b.c, 1"])
def test_annotator_has_a_title(shown):
    """Label Studio puts a blank before an address without a name."""
    body = {"id": 5, "created_username": shown, "result": []}

    assert parse_annotation(body).user_title == "a@b.c, 1"
    assert parse_annotation(body | {"created_username": None}).user_title == ""


@pytest.mark.parametrize(
    ("regions", "flags", "finished"),
    [
        ((), {}, False),
        ((FINISHED,), {}, True),
        ((), {"ground_truth": True}, True),
        ((FINISHED,), {"ground_truth": True, "was_cancelled": True}, False),
        ((Region("c", "status", "choices", None, "", choices=("Weak labels only",)),), {}, False),
        ((Region("c", "other", "choices", None, "", choices=("Finished GT",)),), {}, False),
    ],
)
def test_finished_is_ticked_or_starred_and_not_skipped(regions, flags, finished):
    """Community Label Studio has no review state; these are its signs."""
    assert annotation(*regions, **flags).finished is finished


def test_draft_with_the_prompt_is_chosen():
    """It holds every stroke that was made before asking, whoever drew later."""
    asked = draft("2026-11-22T08:00:00Z", ids=("s1", "prompt"))
    newer = draft("2026-11-22T09:00:00Z")
    task = Task(1, "a.png", drafts=(asked, newer))

    assert task.newest_scribbled({"prompt"}) is asked
    assert task.newest_scribbled({"other"}) is newer
    assert task.newest_scribbled() is newer


def test_draft_is_chosen_before_an_annotation():
    """A draft is what the annotator sees now."""
    task = Task(1, "a.png", drafts=(draft(),), annotations=(annotation(updated_at="2030-01-01"),))

    assert task.newest_scribbled() is task.drafts[0]


def test_newest_annotation_is_chosen_when_there_is_no_draft():
    """Skipped ones do not count."""
    older = annotation(updated_at="2026-11-22T08:32:27Z")
    newer = annotation(updated_at="2026-11-22T08:32:27.5Z")
    skipped = annotation(updated_at="2026-11-23T00:00:00Z", was_cancelled=True)
    task = Task(1, "a.png", annotations=(newer, older, skipped))

    assert task.newest_scribbled() is newer


def test_nothing_is_chosen_from_an_empty_task():
    """Nobody has drawn yet."""
    assert Task(1, "a.png").newest_scribbled({"prompt"}) is None


def test_annotation_without_a_time_is_the_oldest():
    """Older exports leave it out."""
    undated, dated = annotation(updated_at=""), annotation(updated_at="2026-11-22T08:00:00")

    assert Task(1, "a.png", annotations=(undated, dated)).newest_scribbled() is dated


def test_points_are_an_array_even_without_points():
    """An aborted stroke has none."""
    (region,) = parse_results([stroked(relativePoints=[])])

    assert region.touches[0].points_px.shape == (0, 2)
    assert region.touches[0].points_px.dtype == np.float64
