"""The container files, as far as they can be checked without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import rq
import yaml
from redis_server import find_redis, running_redis

from backend.settings import Settings
from backend.trials.processes import free_port

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
MANDATORY = re.compile(r"(?<!\$)\$\{(\w+):\?")  # ${NAME:?message} refuses an empty value
OPTIONAL = re.compile(r"\$\{(\w+):[-+]")  # ${NAME:-default} and ${NAME:+instead}
OURS = ("backend", "worker", "trainer")
REACHES = {  # who shares a network with whom
    "doors": {"label-studio", "backend"},
    "inside": {"label-studio", "backend", "worker", "trainer"},
    "jobs": {"backend", "worker", "trainer", "redis"},
    "database": {"label-studio", "postgres"},
}


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
def compose():
    """Read the compose file."""
    return yaml.safe_load(COMPOSE.read_text())


@pytest.fixture
def services(compose):
    """Return all services, those of profiles too."""
    return compose["services"]


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


def test_images_are_pinned_to_a_full_version(services, label_studio):
    """A new release must not arrive by itself; PostgreSQL counts in two numbers."""
    images = {service["image"] for service in services.values()} - {"tem-guide"}
    images |= set(instructions("FROM"))

    assert len(images) == 4
    assert all(re.search(r":\d+\.\d+\.\d+|postgres:\d+\.\d+-", image) for image in images), images
    assert label_studio["image"].endswith(f":{version_of_the_demo()}")


def version_of_the_demo():
    """Read the version of Label Studio that the other tests run against."""
    return re.search(r"label-studio==([\d.]+)", (ROOT / "pyproject.toml").read_text()).group(1)


def test_ports_are_published_on_loopback_only(services):
    """A published port passes by the firewall of most machines."""
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports == ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]


def test_nothing_starts_without_its_secrets(services):
    """No default password: each one is named by the example, empty there, and refused empty."""
    mandatory, optional = (set(kind.findall(COMPOSE.read_text())) for kind in (MANDATORY, OPTIONAL))
    example = dict(re.findall(r"^(\w+)=(.*)$", SECRETS.read_text(), re.MULTILINE))
    commented = dict(re.findall(r"^# (\w+)=(.*)$", SECRETS.read_text(), re.MULTILINE))

    assert mandatory == {name for name in example if not example[name]}
    assert optional | {"COMPOSE_PROFILES"} == commented.keys()
    for service in services.values():
        for name, value in service["environment"].items():
            if re.search("PASS|AUTH$|TOKEN$|KEY", name) and "ENABLE" not in name:
                assert MANDATORY.match(value) or re.fullmatch(r"\$\{\w+:-\}", value), name


def test_filled_secrets_stay_out_of_git_and_of_the_image():
    """The image gets what it needs and nothing else."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert ".env" in (ROOT / "docker" / ".gitignore").read_text().splitlines()
    assert "*" in rules
    assert {rule for rule in rules if rule.startswith("!")} == {
        "!backend", "!scripts/connect.py", "!scripts/models.py", "!LICENSE", "!README.md",
        "!pyproject.toml",
    }  # fmt: skip


def test_everything_copied_exists_and_is_not_ignored():
    """A file that moves must be moved here too."""
    sources = [word for line in instructions("COPY") for word in line.split()[:-1]]
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert "backend" in sources
    assert [s for s in sources if not (ROOT / s).exists() or f"!{s}" not in rules] == []


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(services, name):
    """A misspelled one would be ignored without a word; one that is required is given."""
    fields = {field.upper(): info for field, info in Settings.model_fields.items()}
    given = services[name]["environment"].keys()

    assert {*given, *image_environment()} - NOT_SETTINGS <= fields.keys()
    assert {field for field, info in fields.items() if info.is_required()} <= given


@pytest.mark.parametrize("password", ["", "abc-1_2"])
def test_settings_of_the_compose_file_are_accepted(services, password, monkeypatch):
    """As the containers get them: an empty address of Redis is none."""
    for name, value in {**image_environment(), **services["backend"]["environment"]}.items():
        url = f"redis://:{password}@redis:6379/0" if password else ""
        filled = url if name == "REDIS_URL" else MANDATORY.sub("x", value).split("fill in")[0]
        monkeypatch.setenv(name, filled)

    settings = Settings()

    assert (settings.host, settings.log_format, settings.has_password) == ("0.0.0.0", "json", True)  # noqa: S104 - within the container
    assert (settings.redis_url is None) == (not password)


def test_image_listens_to_its_network_and_keeps_its_state_in_the_volume(backend):
    """And its idle threads sleep."""
    expected = {"HOST": "0.0.0.0", "MODEL_DIR": "/data", "OMP_WAIT_POLICY": "PASSIVE"}  # noqa: S104 - within the container

    assert expected.items() <= image_environment().items()
    assert backend["volumes"] == ["backend-data:/data"]
    assert instructions("VOLUME") == ["/data"]


def test_backend_runs_as_one_process(backend):
    """Its guides live in the process."""
    assert instructions("CMD")[-1] == '["python", "-m", "backend"]'
    assert "command" not in backend


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_rights(services, name):
    """They never need root, nor to write beside their state."""
    service = services[name]

    assert instructions("USER") == ["10001:10001"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - within the container
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["backend-data:/data"]


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_servers_of_profiles_run_without_rights(services, name):
    """Not as root, whatever their images do by default."""
    service = services[name]

    assert (service["user"], service["read_only"]) == ("999:999", True)
    assert service["cap_drop"] == ["ALL"]


def test_health_is_asked_of_all_and_the_backend_waits(services, backend):
    """Label Studio's first start takes minutes."""
    for service in services.values():
        assert service["healthcheck"]["test"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name in ("label-studio", "backend"):
        assert "/health" in services[name]["healthcheck"]["test"][-1]
    assert f"127.0.0.1:{image_environment()['PORT']}/health" in instructions("HEALTHCHECK")[0]
    assert backend["depends_on"]["label-studio"] == {"condition": "service_healthy"}
    assert backend["environment"]["LABEL_STUDIO_URL"] == "http://label-studio:8080"


def test_no_service_can_take_the_whole_machine(services):
    """Memory, processes and log files have limits."""
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits["memory"], name
        assert limits["pids"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_who_reaches_whom(compose, services):
    """Label Studio calls addresses that its users choose: Redis must not be among them."""
    reached = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in compose["networks"]
    }

    assert reached == REACHES
    internal = {name for name, options in compose["networks"].items() if options.get("internal")}
    assert internal == reached.keys() - {"doors"}
    assert not set(services["redis"]["networks"]) & set(services["label-studio"]["networks"])


def test_profiles_are_optional(services):
    """Without one there are Label Studio and the backend, and they wait for nobody else."""
    profiles = {name: service.get("profiles") for name, service in services.items()}

    assert profiles == {
        "label-studio": None, "backend": None, "worker": ["workers"], "trainer": ["workers"],
        "redis": ["workers"], "postgres": ["postgres"],
    }  # fmt: skip
    assert services["backend"]["depends_on"]["redis"]["required"] is False
    assert services["label-studio"]["depends_on"]["postgres"]["required"] is False


def test_volumes_are_named_and_used(compose, services):
    """What is kept outlives its container."""
    used = {volume.partition(":")[0] for one in services.values() for volume in one["volumes"]}

    assert used == compose["volumes"].keys()


def test_workers_are_a_program_of_ours(services):
    """Which knows the option that is given to the trainer."""
    (python, *worker), trainer = (services[name]["command"] for name in ("worker", "trainer"))
    command = [sys.executable, *trainer[1:], "--help"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603 - ours

    assert (python, trainer) == ("python", [python, *worker, "--train"])
    assert (run.returncode, "usage" in run.stdout) == (0, True), run.stderr


def test_worker_is_healthy_once_it_is_registered(services, tmp_path):
    """The check runs as it stands, against a real Redis."""
    code = services["worker"]["healthcheck"]["test"][-1]

    def check(url):
        environ = {**os.environ, "REDIS_URL": url}
        return subprocess.run([sys.executable, "-c", code], env=environ).returncode  # noqa: S603 - ours

    with running_redis(tmp_path) as server, redis.Redis.from_url(server.url) as connection:
        before = check(server.url)
        worker = rq.SimpleWorker([rq.Queue("tem-guide-asked", connection=connection)])
        worker.register_birth()
        registered = check(server.url)
        worker.register_death()

    assert (before, registered) == (1, 0)


@pytest.mark.skipif(find_redis() is None, reason="redis-server is not installed")
def test_redis_starts_with_a_password_only(services, tmp_path):
    """Its command runs as it stands, but for folder and port."""
    port = free_port()
    script = services["redis"]["command"][-1].replace("$$", "$")
    script = script.replace("--dir /data", f"--dir {tmp_path} --port {port} --bind 127.0.0.1")
    command = ["sh", "-c", script]
    url = f"redis://127.0.0.1:{port}"

    without = subprocess.run(command, env=os.environ, capture_output=True, text=True)  # noqa: S603 - ours
    environ = {**os.environ, "REDISCLI_AUTH": "abc"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as server:  # noqa: S603 - ours
        try:
            answers = [ping(url), ping(url, password="abc")]  # noqa: S106 - of this test
        finally:
            server.terminate()

    assert without.returncode != 0
    assert "fill in REDIS_PASSWORD" in without.stderr
    assert answers == ["Authentication required.", True]


def ping(url, **options):
    """Ask a Redis that may not be up yet; return what it says."""
    with redis.Redis.from_url(url, **options) as connection:
        for _ in range(200):
            try:
                return connection.ping()
            except redis.AuthenticationError as error:
                return str(error)
            except redis.ConnectionError:
                time.sleep(0.05)
    raise TimeoutError(url)


def check_schema(path):
    """Check a compose file against the schema of the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603 - ours


def test_compose_file_keeps_to_the_specification(tmp_path):
    """A misspelled key would be found."""
    misspelled = tmp_path / "compose.yaml"
    misspelled.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchek:"))

    good, bad = check_schema(COMPOSE), check_schema(misspelled)

    assert good.returncode == 0, good.stdout
    assert bad.returncode == 1
    assert "healthchek" in bad.stdout


@pytest.mark.skipif(not find_tool("hadolint"), reason="hadolint is not installed")
def test_dockerfile_has_no_lint():
    """Not even warnings."""
    run = subprocess.run([find_tool("hadolint"), DOCKERFILE], capture_output=True, text=True)  # noqa: S603 - ours

    assert (run.returncode, run.stdout) == (0, "")


def compose_program():
    """Find Docker Compose, 2.20 or newer: as a plugin or by itself; [] without."""
    for program in (["docker", "compose"], ["docker-compose"]):
        path = find_tool(program[0])
        command = [path, *program[1:]]
        run = path and subprocess.run([*command, "version", "--short"], capture_output=True)  # noqa: S603 - theirs
        version = re.findall(r"\d+", run.stdout.decode()) if run and run.returncode == 0 else []
        if [int(number) for number in version[:2]] >= [2, 20]:
            return command
    return []


@pytest.mark.skipif(not compose_program(), reason="docker compose is not installed")
def test_compose_file_is_valid_once_the_secrets_are_filled_in(tmp_path):
    """And invalid before."""
    filled = tmp_path / "filled.env"
    filled.write_text(re.sub(r"=$", "=x", SECRETS.read_text(), flags=re.MULTILINE))
    command = [*compose_program(), "--file", COMPOSE, "--env-file"]

    codes = [
        subprocess.run([*command, secrets, "config"], capture_output=True).returncode  # noqa: S603 - ours
        for secrets in (filled, SECRETS)
    ]

    assert codes[0] == 0
    assert codes[1] != 0
