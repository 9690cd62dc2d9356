"""Exports a project by the settings of the backend, and marks its tasks as exported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from backend.annotation.client import LabelStudioClient
from backend.annotation.dataset_files import Dataset, Legend
from backend.annotation.export import Outcome, Source, export_project
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import parse_label_config, parse_material_colors
from backend.annotation.task_columns import state_column
from backend.settings import Settings
from backend.state.store import SentRegions

TIMEOUT_S = 60.0  # no annotator waits for these answers


@dataclass(frozen=True)
class ProjectExport:
    """A project and the dataset that it is exported to."""

    source: Source
    dataset: Dataset
    notice: str
    """What the export goes on without; "" if nothing is missing."""

    def run(self) -> Iterator[Outcome]:
        """Export; yield what became of each task."""
        for outcome in export_project(self.source, self.dataset):
            if outcome.state:  # "exported" again and again: it may have been overtaken
                self.source.client.show_in_task(
                    self.source.project, outcome.task, state_column(outcome.state)
                )
            yield outcome


@dataclass(frozen=True)
class OpenProject:
    """A project that can be exported."""

    source: Source
    legend: Legend
    notice: str
    """What an export goes on without; "" if nothing is missing."""

    @property
    def name(self) -> str:
        """Names a dataset of this project under these materials, in this Label Studio: no other."""
        identity = json.dumps([str(self.source.client.url), *self.legend.materials])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        return f"project-{self.source.project}-{digest}"

    def export_to(self, folder: Path) -> ProjectExport:
        """Prepare an export to a folder, which is made if it does not exist.

        Raises:
            InvalidDatasetError: There is a dataset of other materials, or a damaged one.
            OSError: It cannot be read.
        """
        return ProjectExport(self.source, Dataset(folder, self.legend), self.notice)


def open_export(settings: Settings, project: int, folder: Path, stack: ExitStack) -> ProjectExport:
    """Prepare an export.

    Args:
        settings: Of the backend.
        project: Number in Label Studio.
        folder: Of the dataset; made if it does not exist.
        stack: Closes what is opened.

    Raises:
        ValueError: The project's labeling config is none of ours, or the dataset has other
            materials.
        LabelStudioError: Label Studio does not answer, or refuses.
        OSError: The folder or the state of the backend cannot be read.
    """
    return open_project(settings, project, stack).export_to(folder)


def open_project(settings: Settings, project: int, stack: ExitStack) -> OpenProject:
    """Open a project, to be exported to a folder that may depend on it.

    Args:
        settings: Of the backend.
        project: Number in Label Studio.
        stack: Closes what is opened.

    Raises:
        ValueError: The project's labeling config is none of ours.
        LabelStudioError: Label Studio does not answer, or refuses.
        OSError: The state of the backend cannot be read.
    """
    key = settings.label_studio_api_key.get_secret_value()
    client = stack.enter_context(LabelStudioClient(settings.label_studio_url, key, TIMEOUT_S))
    xml = client.project(project)["label_config"]
    config = parse_label_config(xml)
    images = ImageSource(client, settings.image_root, int(settings.max_image_mb * 1e6))
    source, notice = Source(client, images, project, config), ""
    try:
        state = stack.enter_context(closing(SentRegions(settings.model_dir)))
        source = replace(source, sent=state.sent)
    except FileNotFoundError as error:
        notice = f"{error} (MODEL_DIR): labels that Auto-Accept changed stay as they are"
    return OpenProject(source, Legend(config.materials, parse_material_colors(xml)), notice)
