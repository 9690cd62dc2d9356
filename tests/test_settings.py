"""Every setting is an environment variable; a wrong one is named."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from backend.settings import Settings

NEEDED = {"LABEL_STUDIO_URL": "http://label-studio:8080", "LABEL_STUDIO_API_KEY": "k" * 40}
VARIABLES = {
    "LABEL_STUDIO_URL": ("http://a:1", "http://a:1"),
    "LABEL_STUDIO_API_KEY": ("secret", SecretStr("secret")),
    "MODEL_DIR": ("/state", Path("/state")),
    "IMAGE_ROOT": ("/images", Path("/images")),
    "HOST": ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - it is only read
    "PORT": ("9191", 9191),
    "BASIC_AUTH_USER": ("ls", "ls"),
    "BASIC_AUTH_PASS": ("secret", SecretStr("secret")),
    "ALLOW_ANYONE": ("true", True),
    "LOG_LEVEL": ("debug", "DEBUG"),
    "LOG_FORMAT": ("json", "json"),
    "REDIS_URL": ("redis://:x@redis:6379", SecretStr("redis://:x@redis:6379")),
    "WORKER_LEASE_S": ("3", 3),
    "MAX_IMAGE_MB": ("1.5", 1.5),
    "MAX_BODY_MB": ("0.5", 0.5),
    "DRAFT_TIMEOUT_S": ("0", 0),
    "ANSWER_TIMEOUT_S": ("2.5", 2.5),
    "MAX_WAITING": ("5", 5),
    "GUIDE_CACHE_MB": ("0", 0),
    "FEATURE_CACHE_MB": ("0", 0),
    "CD_RECIPE": ("/recipes/gate.yaml", Path("/recipes/gate.yaml")),
    "CD_TIMEOUT_S": ("0", 0),
    "TRAIN_STEPS": ("30", 30),
    "TRAIN_FOLDS": ("5", 5),
    "TRAIN_CROP_PX": ("128", 128),
    "TRAIN_TIMEOUT_S": ("60", 60),
}
TOGETHER = {"BASIC_AUTH_USER": "BASIC_AUTH_PASS", "BASIC_AUTH_PASS": "BASIC_AUTH_USER"}


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    """Only what is needed is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_each_setting_is_tested():
    """A new setting gets its line above."""
    assert {name.lower() for name in VARIABLES} == set(Settings.model_fields)


@pytest.mark.parametrize("name", VARIABLES)
def test_variable_is_read(monkeypatch, name):
    """Under its own name, as its own type."""
    given, read = VARIABLES[name]
    monkeypatch.setenv(name, given)
    if name in TOGETHER:
        monkeypatch.setenv(TOGETHER[name], "x")
    assert getattr(Settings(), name.lower()) == read


@pytest.mark.parametrize("name", sorted(set(VARIABLES) - set(NEEDED)))
def test_empty_variable_is_ignored(monkeypatch, name):
    """Compose files hand over empty strings for what is not set."""
    default = getattr(Settings(), name.lower())
    monkeypatch.setenv(name, "")
    assert getattr(Settings(), name.lower()) == default


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_variable_is_named(monkeypatch, name, value):
    """Unset or empty."""
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=f"(?s){name.lower()}.*required"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("MAX_IMAGE_MB", "0"),
        ("MAX_BODY_MB", "0"),
        ("DRAFT_TIMEOUT_S", "-1"),
        ("ANSWER_TIMEOUT_S", "0"),
        ("GUIDE_CACHE_MB", "-1"),
        ("GUIDE_CACHE_MB", "much"),
    ],
)
def test_value_out_of_range_is_named(monkeypatch, name, value):
    """With the variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_unknown_level_gets_the_known_ones(monkeypatch):
    """The sentence says what to give."""
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ValidationError, match="give DEBUG, INFO, WARNING or ERROR"):
        Settings()


@pytest.mark.parametrize(
    ("user", "password", "sentence"),
    [
        ("ls", "", "set both or none"),
        ("", "secret", "set both or none"),
        ("l:s", "secret", "ASCII characters"),
        ("ls", "gehe\u00efm", "ASCII characters"),
    ],
)
def test_password_that_cannot_be_given_is_refused(monkeypatch, user, password, sentence):
    """The sentence does not show it."""
    monkeypatch.setenv("BASIC_AUTH_USER", user)
    monkeypatch.setenv("BASIC_AUTH_PASS", password)
    with pytest.raises(ValidationError, match=sentence) as caught:
        Settings()
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["redis://:hunter22/x@host", "host:6379", "http://:hunter22@host", "redis://h:0"]
)
def test_address_of_redis_is_checked_and_not_quoted(monkeypatch, address):
    """A password with a slash makes a port of it, which the library's sentence would show."""
    monkeypatch.setenv("REDIS_URL", address)
    with pytest.raises(ValidationError, match=r"give redis://\[:password@\]host") as caught:
        Settings()
    assert "hunter22" not in str(caught.value)


def test_secrets_are_not_shown(monkeypatch):
    """Logs and tracebacks show settings."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "hidden-key")
    monkeypatch.setenv("BASIC_AUTH_USER", "ls")
    monkeypatch.setenv("BASIC_AUTH_PASS", "hidden-password")
    settings = Settings()
    assert "hidden" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_settings_do_not_change():
    """They are read once."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1
