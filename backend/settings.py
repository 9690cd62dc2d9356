"""All that can be configured, read from the environment once at start-up."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of the backend; each is an environment variable of the same name."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    label_studio_url: str
    """Where Label Studio answers, as seen from the backend."""
    label_studio_api_key: SecretStr
    """Legacy token or personal access token of a Label Studio user."""
    model_dir: Path = Path("model-data")
    """Folder for scribbles, predictions and weights."""
    image_root: Path | None = None
    """Folder below which tasks may name image files; unset: none."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=9090, ge=1, le=65535)
    basic_auth_user: str = ""
    """User that Label Studio must name; unset: nobody is asked."""
    basic_auth_pass: SecretStr = SecretStr("")
    log_level: str = "INFO"
    max_image_mb: float = Field(default=200, gt=0)
    """Largest image file accepted."""
    max_body_mb: float = Field(default=64, gt=0)
    """Largest body of a request accepted; a task with all its strokes must fit."""
    draft_timeout_s: float = Field(default=6, ge=0)
    """How long to wait for the draft that holds the newest strokes."""
    answer_timeout_s: float = Field(default=60, gt=0)
    """Hard stop of an interactive answer; Label Studio itself gives up after 100 s."""
    guide_cache_mb: float = Field(default=1000, ge=0)
    """Memory for the guides of open tasks; the one used last is always kept."""
    feature_cache_mb: float = Field(default=1000, ge=0)
    """Disk space for the features of images; 13 MB for 1024 x 1024 px."""
    cd_recipe: Path | None = None
    """CD recipe by which boxes are ranked and CDs are reported while annotating; unset: none.

    A project needs the materials it names, and a task `pixel_size_nm` for nanometres.
    """
    cd_timeout_s: float = Field(default=2, ge=0)
    """How long an answer waits for its CDs; later ones replace its boxes when nobody waits."""

    train_steps: int = Field(default=0, ge=0)
    """Of each training of the shared model; 0: by the number of images."""
    train_folds: int = Field(default=3, ge=2)
    """Parts of the images, each held out once."""
    train_crop_px: int = Field(default=448, ge=128, multiple_of=64)
    """Side of what a step sees of an image."""

    @property
    def registry(self) -> Path:
        """Folder of the shared models."""
        return self.model_dir / "models"

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("give DEBUG, INFO, WARNING or ERROR")
        return value.upper()
