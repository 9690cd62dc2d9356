"""A Label Studio of one project on loopback, for tests that need its API but not its editor."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np
from loopback import Answer, LoopbackServer
from PIL import Image

from backend.annotation.label_config import write_label_config
from backend.annotation.rle import encode_mask

MATERIALS = ("Si", "Oxide")
LABEL_CONFIG = write_label_config(MATERIALS)
SIDE_PX = 64
TICK = {"id": "status1", "from_name": "status", "to_name": "image", "type": "choices",
        "value": {"choices": ["Finished GT"]}}  # fmt: skip
HALVES = np.repeat(np.array([0, 1], np.uint8), SIDE_PX // 2)[:, np.newaxis].repeat(SIDE_PX, axis=1)
"""The true classes of `two_halves`."""


def two_halves(seed=0):
    """Draw an image with a dark upper and a bright lower half, (64, 64) uint8."""
    noise = np.random.default_rng(seed).normal(0, 8, (SIDE_PX, SIDE_PX))
    image = np.where(np.arange(SIDE_PX)[:, None] < SIDE_PX // 2, 60, 190) + noise
    return np.clip(image, 0, 255).astype(np.uint8)


def png(image):
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def stroke(region_id, label, y_percent, control="scribble", **changes):
    """Make the result of a horizontal stroke across the image, as a draft holds it."""
    touch = {
        "type": "add",
        "points": [0, 0],
        "relativePoints": [20, y_percent, 80, y_percent],
        "strokeWidth": 12,
        "relativeStrokeWidth": 8,
    }
    return {
        "id": region_id,
        "from_name": control,
        "to_name": "image",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": SIDE_PX,
        "original_height": SIDE_PX,
        "value": {"format": "rle", "brushlabels": [label], "touches": [touch]},
        **changes,
    }


def masks(label_map, **changes):
    """Make the results of accepted masks, one for each class of a label map (H, W)."""
    height, width = label_map.shape
    return [
        {
            "id": f"mask{index}",
            "from_name": "seg",
            "to_name": "image",
            "type": "brushlabels",
            "origin": "prediction",
            "original_width": width,
            "original_height": height,
            "value": {
                "format": "rle",
                "rle": encode_mask(label_map == index),
                "brushlabels": [MATERIALS[index]],
            },
            **changes,
        }
        for index in np.unique(label_map[label_map != 255]).tolist()
    ]


def submitted(number, *results, **changes):
    """Make an annotation, as `GET /api/tasks/{id}/annotations/` lists it."""
    return {"id": number, "completed_by": 2, "created_username": " Ann Bee ann@example.com, 2",
            "updated_at": f"2026-11-22T08:40:{number:02}.5Z", "ground_truth": False,
            "was_cancelled": False, "result": list(results), **changes}  # fmt: skip


def prompt(region_id="prompt1"):
    """Make the result of the smart rectangle that asks the guide."""
    return {
        "id": region_id,
        "from_name": "ask",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": SIDE_PX,
        "original_height": SIDE_PX,
        "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0,
                  "rectanglelabels": ["Update guide"]},
    }  # fmt: skip


def list_projects(projects):
    """Make the route of the projects: Label Studio answers with what is asked for, and no more."""

    def answer(request):
        (wanted,) = parse_qs(urlsplit(request.path).query)["include"]
        found = [{name: one[name] for name in wanted.split(",")} for one in projects]
        return Answer({"count": len(found), "next": None, "previous": None, "results": found})

    return answer


def draft(*results):
    """Make a draft, as `GET /api/tasks/{id}/drafts` lists it."""
    return {"id": 5, "user": "a@example.com", "annotation": None, "result": list(results),
            "updated_at": "2026-11-22T08:32:28.748044Z"}  # fmt: skip


@dataclass
class LabelStudioStandIn:
    """Serves task 7 of project 1, and those a test adds; what its users did is set by the test."""

    server: LoopbackServer
    predictions: list[dict] = field(default_factory=list)
    tasks: dict[int, dict] = field(default_factory=dict)
    shown: defaultdict[int, dict] = field(default_factory=lambda: defaultdict(dict))  # by task

    def __post_init__(self):
        answer = self.server.answer
        answer("GET", "/data/upload/1/a.png", Answer(png(two_halves())))
        answer("GET", "/api/projects/1/", Answer({"id": 1, "label_config": LABEL_CONFIG}))
        answer("GET", "/api/tasks/7/", Answer(self.task()))
        answer("GET", "/api/tasks/7/drafts", Answer([]))
        self.server.routes["POST", "/api/predictions/"] = self._create_prediction
        self.server.routes["GET", "/api/predictions/"] = self._list_predictions
        self.server.routes["DELETE", "/api/predictions/1/"] = self._delete_first
        self.server.routes["GET", "/api/tasks/"] = self._list_tasks
        self.server.routes["POST", "/api/dm/actions/"] = self._show

    def set_task(self, number, *annotations, image=None, **data):
        """Put a task with these annotations into the project, or others into a task."""
        path = f"/data/upload/1/{number}.png"
        self.server.answer("GET", path, Answer(png(two_halves()) if image is None else image))
        self.server.answer("GET", f"/api/tasks/{number}/annotations/", Answer(annotations))
        self.tasks[number] = {"id": number, "project": 1, "data": {"image": path, **data},
                              "total_annotations": len(annotations)}  # fmt: skip

    def delete_task(self, number):
        """Delete a task with its annotations."""
        del self.tasks[number], self.server.routes["GET", f"/api/tasks/{number}/annotations/"]

    def task(self, **changes):
        """Return the task as Label Studio sends it."""
        return {"id": 7, "project": 1, "data": {"image": "/data/upload/1/a.png"},
                "annotations": [], "predictions": [], "drafts": [], **changes}  # fmt: skip

    def submit(self, *results, **changes):
        """Submit an annotation and return the body of its webhook."""
        body = {"id": 3, "task": 7, "result": list(results), "was_cancelled": False,
                "ground_truth": False, "updated_at": "2026-11-22T08:40:00Z", **changes}  # fmt: skip
        self.server.answer("GET", "/api/annotations/3/", Answer(body))
        return {"action": "ANNOTATION_CREATED", "annotation": {"id": 3}, "task": {"id": 7},
                "project": {"id": 1}}  # fmt: skip

    def _create_prediction(self, request):
        created = {"id": len(self.predictions) + 1, **json.loads(request.body)}
        self.predictions.append(created)
        return Answer(created, status=201)

    def _show(self, request):
        """Set a key of a task's data, as the Data Manager's action does."""
        assert request.path.endswith("?id=add_data_field&project=1")
        asked = request.json()
        (number,) = asked["selectedItems"]["included"]
        assert asked["selectedItems"]["all"] is False
        value = {"Number": float, "String": str}[asked["value_type"]](asked["value"])
        self.shown[number][asked["value_name"]] = value
        return Answer({"detail": "Updated 1 tasks"})

    def _list_predictions(self, request):
        """List those of one task."""
        (task,) = parse_qs(urlsplit(request.path).query)["task"]
        return Answer([p for p in self.predictions if str(p["task"]) == task])

    def _list_tasks(self, request):
        """List tasks as the Data Manager does, with a filter by id and a limit."""
        asked = parse_qs(urlsplit(request.path).query)
        (behind,) = json.loads(asked["query"][0])["filters"]["items"]
        tasks = [self.tasks[number] for number in sorted(self.tasks) if number > behind["value"]]
        return Answer({"tasks": tasks[: int(asked["page_size"][0])], "total": len(tasks)})

    def _delete_first(self, _request):
        self.predictions[:] = [p for p in self.predictions if p["id"] != 1]
        return Answer(status=204)
