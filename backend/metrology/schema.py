"""The tables and views of the CD database, and how an older database becomes a newer one.

Points are pixels of the image as it lies on disk, x to the right and y down, the centre of the
first pixel at 0. JSON is kept as TEXT. Tables are STRICT: what is no number is no measurement.
"""

from __future__ import annotations

import math

from sqlite_utils import Database, Migrations

from backend.databases import execute_all
from backend.metrology.results import UNEVEN

TABLES = """
CREATE TABLE images (id TEXT PRIMARY KEY, name TEXT NOT NULL, path_rel TEXT NOT NULL,
  dataset TEXT NOT NULL DEFAULT '', file_sha256 TEXT NOT NULL, label_png_sha256 TEXT,
  width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, bit_depth INTEGER,
  mode TEXT NOT NULL DEFAULT 'unknown' CHECK (mode IN ('TEM','BF','DF','HAADF','unknown')),
  instrument TEXT, voltage_kv REAL, acquired_at TEXT, lot TEXT, wafer TEXT,
  die_x INTEGER, die_y INTEGER, site TEXT, label_studio_task_id INTEGER,
  metadata TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE calibrations (id TEXT PRIMARY KEY, name TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images(id),
  nm_per_px_x REAL NOT NULL CHECK (nm_per_px_x > 0),
  nm_per_px_y REAL NOT NULL CHECK (nm_per_px_y > 0), rel_uncertainty REAL NOT NULL,
  source TEXT NOT NULL
    CHECK (source IN ('metadata','sidecar','manual','scale_bar','lattice','pitch')),
  detail TEXT, raw TEXT, reader TEXT, reader_version TEXT, created_by TEXT,
  created_at TEXT NOT NULL) STRICT;
CREATE TABLE recipes (id TEXT PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL,
  definition TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT,
  weights_sha256 TEXT NOT NULL, classes TEXT NOT NULL) STRICT;
CREATE TABLE runs (id TEXT PRIMARY KEY, name TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images(id),
  calibration_id TEXT REFERENCES calibrations(id),
  recipe_id TEXT NOT NULL REFERENCES recipes(id),
  source TEXT NOT NULL CHECK (source IN ('ground_truth','inference')),
  annotation_id INTEGER, annotator TEXT, label_sha256 TEXT,
  model_id TEXT REFERENCES models(id), engine_version TEXT NOT NULL,
  tilt_deg REAL, tilt_u_deg REAL,
  status TEXT NOT NULL CHECK (status IN ('ok','review','failed')),
  flags TEXT NOT NULL DEFAULT '[]', overlay_png TEXT, overlay_svg TEXT,
  created_at TEXT NOT NULL, last_run_at TEXT NOT NULL, duration_s REAL,
  CHECK ((source = 'inference') = (model_id IS NOT NULL))) STRICT;
CREATE TABLE measurements (id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
  measurement TEXT NOT NULL, kind TEXT NOT NULL, structure TEXT NOT NULL,
  instance INTEGER NOT NULL, side TEXT NOT NULL DEFAULT '', part TEXT NOT NULL DEFAULT '',
  quantity TEXT NOT NULL DEFAULT '', at_fraction REAL,
  value REAL, unit TEXT NOT NULL CHECK (unit IN ('nm','nm^2','deg','ratio')), value_px REAL,
  value_label REAL, u_value REAL, u_scale REAL, n_lines INTEGER, std REAL, min REAL, max REAL,
  edge_method TEXT CHECK (edge_method IN ('gray','prob','label')),
  edge_sigma_px REAL, cnr REAL, chi2_red REAL,
  x0_px REAL, y0_px REAL, x1_px REAL, y1_px REAL, cx_px REAL, cy_px REAL, reach_px REAL,
  geometry TEXT, status TEXT NOT NULL CHECK (status IN ('ok','flagged','missing','failed')),
  flags TEXT NOT NULL DEFAULT '[]', CHECK (value IS NOT NULL OR status <> 'ok')) STRICT;
CREATE TABLE measurement_stats (id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, measurement TEXT NOT NULL,
  side TEXT NOT NULL DEFAULT '', unit TEXT NOT NULL, n INTEGER NOT NULL, mean REAL, median REAL,
  std REAL, three_sigma REAL, min REAL, max REAL, range REAL, ci95_low REAL,
  ci95_high REAL) STRICT;
CREATE TABLE edges (id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, structure TEXT NOT NULL,
  instance INTEGER NOT NULL, side TEXT NOT NULL, edge_method TEXT NOT NULL,
  points TEXT NOT NULL) STRICT;
CREATE TABLE reviews (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, measurement_id TEXT,
  reviewer TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT, created_at TEXT NOT NULL) STRICT;
CREATE INDEX runs_image ON runs(image_id);
CREATE INDEX measurements_run ON measurements(run_id, measurement, side);
CREATE INDEX measurement_stats_run ON measurement_stats(run_id);
CREATE INDEX edges_run ON edges(run_id)
"""
# reviews refer softly, on purpose: a run that is written again must not wipe verdicts. Ids follow
# from what was measured, so a verdict finds its measurement again.

STATED = """
ALTER TABLE calibrations ADD COLUMN stated_at TEXT;
UPDATE calibrations SET stated_at = (
  SELECT max(last_run_at) FROM runs WHERE runs.calibration_id = calibrations.id)
  WHERE created_by IN ('measure_cds.py', 'rescale_cds.py')
"""
# What the scripts had stored of users before.

MODEL_RUNS = """
ALTER TABLE models ADD COLUMN prior_sha256 TEXT;
ALTER TABLE runs ADD COLUMN model_errors TEXT
"""
# What runs of a model stand on besides its weights; nobody knows it of older ones.

_IN_PX = ("value_label", "u_value", "std", "min", "max")
PIXELS = ";\n".join(f"ALTER TABLE measurements ADD COLUMN {name}_px REAL" for name in _IN_PX)
FROM_NM = f"""
UPDATE measurements SET {", ".join(f"{name}_px = {name} / :scale" for name in _IN_PX)}
  WHERE unit = :unit AND run_id IN (SELECT id FROM runs WHERE calibration_id = :id)
"""  # noqa: S608 - put together from constants
NOT_KEPT = """
UPDATE measurements SET flags = json_insert(flags, '$[#]', 'no_uncertainty')
  WHERE value_px IS NOT NULL AND run_id IN (SELECT id FROM runs WHERE calibration_id IS NULL)
"""
# Of lengths without a scale only the value was kept before, and their rows say so.


def _counted(row: str) -> str:
    """`summary.is_counted` in SQL."""
    return f"({row}.status IN ('ok', 'flagged') AND instr({row}.flags, '{UNEVEN}') = 0)"


COMPARED_RUNS = """
  SELECT g.id AS truth_run, i.id AS model_run, i.model_id, g.image_id, g.recipe_id
  FROM newest g JOIN newest i ON g.image_id = i.image_id AND g.recipe_id = i.recipe_id
    AND g.calibration_id IS i.calibration_id
  WHERE g.source = 'ground_truth' AND i.source = 'inference'"""
"""The newest run on drawn labels beside the newest of each model: same recipe, same scale."""

NEWEST_RUNS = """
  SELECT * FROM (SELECT runs.*, row_number() OVER (
    PARTITION BY image_id, recipe_id, source, model_id ORDER BY last_run_at DESC, id) AS age
    FROM runs) WHERE age = 1"""

VIEWS = f"""
CREATE VIEW measurement_report AS SELECT
  images.name AS image, images.dataset, images.lot, images.wafer, images.die_x, images.die_y,
  images.site, images.instrument, images.mode, images.acquired_at,
  recipes.name AS recipe, recipes.version AS recipe_version, runs.source,
  models.name AS model, models.version AS model_version, runs.annotator,
  m.measurement, m.kind, m.structure, m.instance, m.side, m.part, m.quantity, m.at_fraction,
  m.value, m.unit, m.value_px, m.value_label, m.u_value, m.u_scale, m.n_lines, m.std, m.min, m.max,
  m.value_label_px, m.u_value_px, m.std_px, m.min_px, m.max_px,
  m.edge_method, m.edge_sigma_px, m.cnr, m.chi2_red, m.status, m.flags,
  runs.status AS run_status, runs.flags AS run_flags, runs.tilt_deg,
  calibrations.name AS calibration, calibrations.source AS calibration_source,
  calibrations.nm_per_px_x, calibrations.nm_per_px_y, calibrations.rel_uncertainty,
  m.x0_px, m.y0_px, m.x1_px, m.y1_px, m.cx_px, m.cy_px, m.reach_px,
  runs.engine_version, runs.last_run_at, m.id, m.run_id, runs.image_id, runs.recipe_id,
  runs.model_id, runs.calibration_id
  FROM measurements m JOIN runs ON runs.id = m.run_id JOIN images ON images.id = runs.image_id
  JOIN recipes ON recipes.id = runs.recipe_id LEFT JOIN models ON models.id = runs.model_id
  LEFT JOIN calibrations ON calibrations.id = runs.calibration_id;
CREATE VIEW measurement_latest AS SELECT * FROM measurement_report WHERE run_id IN (
  SELECT id FROM (SELECT runs.id, row_number() OVER (
    PARTITION BY runs.image_id, recipes.name, runs.source
    ORDER BY runs.last_run_at DESC, runs.id) AS age
    FROM runs JOIN recipes ON recipes.id = runs.recipe_id) WHERE age = 1);
CREATE VIEW label_vs_model AS WITH newest AS ({NEWEST_RUNS}), compared AS ({COMPARED_RUNS}),
  near AS (SELECT compared.*, g.id AS truth_id, i.id AS model_row_id,
    (g.cx_px - i.cx_px) * (g.cx_px - i.cx_px) + (g.cy_px - i.cy_px) * (g.cy_px - i.cy_px) AS far
    FROM compared JOIN measurements g ON g.run_id = compared.truth_run
    JOIN measurements i ON i.run_id = compared.model_run
      AND g.measurement = i.measurement AND g.structure = i.structure AND g.side = i.side
      AND g.part = i.part AND g.quantity = i.quantity AND g.at_fraction IS i.at_fraction
      AND ((g.cx_px IS NULL AND i.cx_px IS NULL)
        OR (abs(g.cx_px - i.cx_px) < min(g.reach_px, i.reach_px)
        AND abs(g.cy_px - i.cy_px) < min(g.reach_px, i.reach_px)))
    WHERE {_counted("g")} AND {_counted("i")}),
  ranked AS (SELECT *,
    row_number() OVER (PARTITION BY model_run, truth_id ORDER BY far, model_row_id) AS of_truth,
    row_number() OVER (PARTITION BY model_run, model_row_id ORDER BY far, truth_id) AS of_model
    FROM near)
  SELECT images.name AS image, recipes.name AS recipe, recipes.version AS recipe_version,
  models.name AS model, models.version AS model_version,
  g.measurement, g.kind, g.structure, g.instance, i.instance AS model_instance, g.side, g.part,
  g.quantity, g.at_fraction, g.unit,
  g.value AS label_value, i.value AS model_value, i.value - g.value AS delta,
  g.value_px AS label_value_px, i.value_px AS model_value_px, i.value_px - g.value_px AS delta_px,
  g.u_value AS label_u_value, i.u_value AS model_u_value,
  g.edge_method AS label_edge_method, i.edge_method AS model_edge_method,
  ranked.truth_run, ranked.model_run, g.id AS truth_id, i.id AS model_row_id,
  ranked.image_id, ranked.recipe_id, ranked.model_id
  FROM ranked JOIN measurements g ON g.id = ranked.truth_id
  JOIN measurements i ON i.id = ranked.model_row_id
  JOIN images ON images.id = ranked.image_id JOIN recipes ON recipes.id = ranked.recipe_id
  JOIN models ON models.id = ranked.model_id
  WHERE ranked.of_truth = 1 AND ranked.of_model = 1;
CREATE VIEW spec_check AS SELECT *, CASE
  WHEN value IS NULL THEN 'not measured' WHEN value < lsl THEN 'low' WHEN value > usl THEN 'high'
  ELSE 'inside' END AS verdict
  FROM (SELECT r.image, r.dataset, r.lot, r.wafer, r.recipe, r.recipe_version, r.source, r.model,
    r.measurement, r.kind, r.structure, r.instance, r.side, r.part, r.quantity, r.at_fraction,
    r.value, r.unit, r.u_value, r.u_scale, r.status, r.flags,
    json_extract(rule.value, '$.target' || CASE r.unit WHEN 'nm' THEN '_nm' WHEN 'deg' THEN '_deg'
      WHEN 'ratio' THEN '' ELSE '_none' END) AS target,
    json_extract(rule.value, '$.lsl' || CASE r.unit WHEN 'nm' THEN '_nm' WHEN 'deg' THEN '_deg'
      WHEN 'ratio' THEN '' ELSE '_none' END) AS lsl,
    json_extract(rule.value, '$.usl' || CASE r.unit WHEN 'nm' THEN '_nm' WHEN 'deg' THEN '_deg'
      WHEN 'ratio' THEN '' ELSE '_none' END) AS usl,
    r.id, r.run_id, r.image_id
    FROM measurement_latest r JOIN recipes ON recipes.id = r.recipe_id
    JOIN json_each(recipes.definition, '$.measurements') rule
      ON json_extract(rule.value, '$.id') = r.measurement
    WHERE r.quantity NOT IN ('std', 'floor')
      AND NOT (r.kind = 'thickness' AND r.quantity IN ('min', 'max'))
      AND r.flags NOT LIKE '%"short_line"%')
  WHERE target IS NOT NULL OR lsl IS NOT NULL OR usl IS NOT NULL;
CREATE VIEW orphan_reviews AS SELECT * FROM reviews WHERE CASE
  WHEN measurement_id IS NULL THEN run_id NOT IN (SELECT id FROM runs)
  ELSE measurement_id NOT IN (SELECT id FROM measurements) END
"""  # noqa: S608 - put together from constants

NO_VIEWS = ";\n".join(
    f"DROP VIEW {name}"
    for name in ("orphan_reviews", "spec_check", "label_vs_model", "measurement_latest",
                 "measurement_report")
)  # fmt: skip

migrations = Migrations("tem_cd")


@migrations()
def m001_tables(database: Database) -> None:
    """Make all tables."""
    execute_all(database, TABLES)


@migrations()
def m002_views(database: Database) -> None:
    """Make the five views that tables, figures and Datasette read."""
    execute_all(database, VIEWS)


@migrations()
def m003_stated_scales(database: Database) -> None:
    """Note when a user last said a scale: the newest one is the image's, whatever its file says."""
    execute_all(database, STATED)


@migrations()
def m004_model_runs(database: Database) -> None:
    """Note the guide's prior of a model, and which of its errors a run has in its uncertainties."""
    execute_all(database, MODEL_RUNS)


@migrations()
def m005_pixels(database: Database) -> None:
    """Keep in pixels all that a length or an area comes with, and not its value alone."""
    execute_all(database, PIXELS)
    sizes = "SELECT id, nm_per_px_x * nm_per_px_y AS area FROM calibrations"
    for row in list(database.query(sizes)):
        for unit, scale in (("nm", math.sqrt(row["area"])), ("nm^2", row["area"])):
            database.execute(FROM_NM, {"scale": scale, "unit": unit, "id": row["id"]})
    database.execute(NOT_KEPT)
    execute_all(database, NO_VIEWS)
    execute_all(database, VIEWS)


@migrations()
def m006_comparable_rows(database: Database) -> None:
    """Compare ratios over all instances too, and no gaps in which a structure may be lost."""
    execute_all(database, NO_VIEWS)
    execute_all(database, VIEWS)
