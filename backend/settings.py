"""All that can be configured, read from the environment once at start-up."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of the backend; each is an environment variable of the same name."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a password
    )

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
    """User that Label Studio must name; unset: nobody is asked, and `host` must be loopback."""
    basic_auth_pass: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """Password of that user."""
    allow_anyone: bool = False
    """Serve a network without a password all the same."""
    log_level: str = "INFO"
    log_format: Literal["text", "json"] = "text"
    """Of log lines: for people, or an object a line for programs."""
    max_image_mb: float = Field(default=200, gt=0)
    """Largest image file accepted."""
    max_body_mb: float = Field(default=64, gt=0)
    """Largest body of a request accepted; a task with all its strokes must fit."""
    draft_timeout_s: float = Field(default=6, ge=0)
    """How long to wait for the draft that holds the newest strokes."""
    answer_timeout_s: float = Field(default=60, gt=0)
    """Hard stop of an interactive answer; Label Studio itself gives up after 100 s."""
    max_waiting: int = Field(default=60, ge=1)
    """Jobs that may wait when somebody asks; an ask more gets the last answer, its strokes kept."""
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

    redis_url: SecretStr | None = None
    """Redis through which work is handed to workers on other hosts; unset: done in this process.

    They need the same settings, and `model_dir` in a folder that all share.
    """
    worker_lease_s: int = Field(default=15, ge=1)
    """A worker that was not heard of for so long is taken for dead, and its work is done again."""

    train_steps: int = Field(default=0, ge=0)
    """Of each training of the shared model; 0: by the number of images."""
    train_folds: int = Field(default=3, ge=2)
    """Parts of the images, each held out once."""
    train_crop_px: int = Field(default=448, ge=128, multiple_of=64)
    """Side of what a step sees of an image."""
    train_timeout_s: float = Field(default=14_400, gt=0)
    """Longest training of the shared model; it is stopped then, and goes on when started again."""

    @property
    def registry(self) -> Path:
        """Folder of the shared models."""
        return self.model_dir / "models"

    @property
    def images_aside(self) -> Path:
        """Folder of images that came within their tasks and wait for their jobs."""
        return self.model_dir / "images"

    @property
    def has_password(self) -> bool:
        """Whether callers must name a user and a password."""
        return bool(self.basic_auth_user)

    @field_validator("basic_auth_pass")
    @classmethod
    def _usable_password(cls, value: SecretStr, others: ValidationInfo) -> SecretStr:
        user, password = others.data.get("basic_auth_user", ""), value.get_secret_value()
        if bool(user) != bool(password):
            raise ValueError("goes with BASIC_AUTH_USER: set both or none")
        if not f"{user}{password}".isascii() or ":" in user:
            raise ValueError("and BASIC_AUTH_USER need ASCII characters, the user none of them ':'")
        return value

    @field_validator("redis_url")
    @classmethod
    def _usable_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = urlsplit(value.get_secret_value())
            known = url.scheme in {"redis", "rediss"} and url.hostname and url.port != 0
        except ValueError:  # its sentence quotes a part, which may be of the password
            known = False
        if not known:
            raise ValueError(
                "give redis://[:password@]host[:port][/number], with %2F, %40 and %23 for '/', "
                "'@' and '#' in the password"
            )
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("give DEBUG, INFO, WARNING or ERROR")
        return value.upper()


def read_settings() -> Settings:
    """Read them from the environment.

    Raises:
        ValueError: Some are missing or wrong; a line names each, never what stands in it.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ValueError("\n".join(map(_told, error.errors()))) from None


def _told(mistake: ErrorDetails) -> str:
    """Name a setting, and say what is wrong with it."""
    is_missing = mistake["type"] == "missing"
    sentence = "set it in the environment, it is needed" if is_missing else mistake["msg"]
    return f"{'_'.join(map(str, mistake['loc'])).upper()}: {sentence}"
