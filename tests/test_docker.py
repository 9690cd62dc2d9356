"""The container files, as far as they can be checked without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backend.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
SECRETS = ROOT / "docker" / ".env.example"

NOT_SETTINGS = {
    "MPLCONFIGDIR",
    "OMP_WAIT_POLICY",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
}
MANDATORY = re.compile(r"\$\{(\w+):\?")  # ${NAME:?message} refuses an empty value


def instructions(name):
    """List the arguments of an instruction of the Dockerfile, lines joined."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")
    ]


def image_environment():
    """Read what the image sets."""
    return dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())


@pytest.fixture
def services():
    """Read both services from the compose file."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.fixture
def backend(services):
    """Return the service of the backend."""
    return services["backend"]


@pytest.fixture
def label_studio(services):
    """Return the service of Label Studio."""
    return services["label-studio"]


def find_tool(name):
    """Look for a program on the PATH and beside this Python."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("switch", ["ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"])
def test_label_studio_accepts_a_backend_with_a_private_address(label_studio, switch):
    """With either switch left on, it refuses the backend or drops its webhooks silently."""
    assert label_studio["environment"][switch] == "false"


def test_label_studio_sends_nothing_out(label_studio):
    """Images of devices are confidential."""
    names = ("SENTRY_DSN", "FRONTEND_SENTRY_DSN", "COLLECT_ANALYTICS", "LATEST_VERSION_CHECK")

    assert [label_studio["environment"][name] for name in names] == ["", "", "false", "false"]


def test_strangers_cannot_sign_up(label_studio):
    """Label Studio lets anybody in by default."""
    assert label_studio["environment"]["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"


def test_backend_opens_label_studio_with_the_token_made_there(label_studio, backend):
    """Both come from one line of the secrets."""
    environment = label_studio["environment"]

    assert environment["LABEL_STUDIO_USER_TOKEN"] == backend["environment"]["LABEL_STUDIO_API_KEY"]
    assert environment["LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN"] == "true"  # noqa: S105 - a switch


def test_images_are_pinned_to_a_full_version(label_studio):
    """A new release must not arrive by itself."""
    images = [label_studio["image"], *instructions("FROM")]

    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images), images
    assert label_studio["image"].endswith(f":{version_of_the_demo()}")


def version_of_the_demo():
    """Read the version of Label Studio that the other tests run against."""
    return re.search(r"label-studio==([\d.]+)", (ROOT / "pyproject.toml").read_text()).group(1)


def test_ports_are_published_on_loopback_only(services):
    """A published port passes by the firewall of most machines."""
    ports = [port for service in services.values() for port in service["ports"]]

    assert ports == ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]


def test_nothing_starts_without_its_secrets(services):
    """No default password: each one is named by the example, empty there, and refused empty."""
    example = dict(re.findall(r"^(\w+)=(.*)$", SECRETS.read_text(), re.MULTILINE))
    secrets = {name for name in example if not example[name]}

    assert set(MANDATORY.findall(COMPOSE.read_text())) == secrets
    assert COMPOSE.read_text().count("${") == len(MANDATORY.findall(COMPOSE.read_text()))
    for service in services.values():
        for name, value in service["environment"].items():
            if re.search("PASS|TOKEN$|KEY", name) and "ENABLE" not in name:
                assert MANDATORY.match(value), name


def test_filled_secrets_stay_out_of_git_and_of_the_image():
    """The image gets what it needs and nothing else."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert ".env" in (ROOT / "docker" / ".gitignore").read_text().splitlines()
    assert "*" in rules
    assert {rule for rule in rules if rule.startswith("!")} == {
        "!backend", "!scripts/connect.py", "!LICENSE", "!README.md", "!pyproject.toml",
    }  # fmt: skip


def test_everything_copied_exists_and_is_not_ignored():
    """A file that moves must be moved here too."""
    sources = [word for line in instructions("COPY") for word in line.split()[:-1]]
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert "backend" in sources
    assert [s for s in sources if not (ROOT / s).exists() or f"!{s}" not in rules] == []


def test_every_variable_of_the_backend_is_a_setting(backend):
    """A misspelled one would be ignored without a word."""
    names = {*backend["environment"], *image_environment()} - NOT_SETTINGS

    assert names <= {name.upper() for name in Settings.model_fields}


def test_required_settings_of_the_backend_are_given(backend):
    """It would not start without."""
    required = {
        name.upper() for name, field in Settings.model_fields.items() if field.is_required()
    }

    assert required <= backend["environment"].keys()


def test_image_listens_to_its_network_and_keeps_its_state_in_the_volume(backend):
    """And its idle threads sleep."""
    expected = {"HOST": "0.0.0.0", "MODEL_DIR": "/data", "OMP_WAIT_POLICY": "PASSIVE"}  # noqa: S104 - within the container

    assert expected.items() <= image_environment().items()
    assert backend["volumes"] == ["backend-data:/data"]
    assert instructions("VOLUME") == ["/data"]


def test_backend_runs_as_one_process_without_rights(backend):
    """Its guides live in the process; it never needs root, nor to write beside its state."""
    assert instructions("CMD")[-1] == '["python", "-m", "backend"]'
    assert instructions("USER") == ["10001:10001"]
    assert backend["read_only"] is True
    assert backend["tmpfs"] == ["/tmp"]  # noqa: S108 - within the container
    assert backend["cap_drop"] == ["ALL"]


def test_health_is_asked_of_both_and_the_backend_waits(services, backend):
    """Label Studio's first start takes minutes."""
    for service in services.values():
        assert "/health" in service["healthcheck"]["test"][-1]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert f"127.0.0.1:{image_environment()['PORT']}/health" in instructions("HEALTHCHECK")[0]
    assert backend["depends_on"] == {"label-studio": {"condition": "service_healthy"}}
    assert backend["environment"]["LABEL_STUDIO_URL"] == "http://label-studio:8080"


@pytest.mark.skipif(not find_tool("hadolint"), reason="hadolint is not installed")
def test_dockerfile_has_no_lint():
    """Not even warnings."""
    run = subprocess.run([find_tool("hadolint"), DOCKERFILE], capture_output=True, text=True)  # noqa: S603 - ours

    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.skipif(not find_tool("docker-compose"), reason="docker-compose is not installed")
def test_compose_file_is_valid_once_the_secrets_are_filled_in(tmp_path):
    """And invalid before."""
    filled = tmp_path / "filled.env"
    filled.write_text(re.sub(r"=$", "=x", SECRETS.read_text(), flags=re.MULTILINE))
    command = [find_tool("docker-compose"), "--file", COMPOSE, "--env-file"]

    codes = [
        subprocess.run([*command, secrets, "config"], capture_output=True).returncode  # noqa: S603 - ours
        for secrets in (filled, SECRETS)
    ]

    assert codes[0] == 0
    assert codes[1] != 0
