"""Where images may be read from, and where not."""

from __future__ import annotations

import base64
import gzip
import os
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, loopback_server

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.errors import ForbiddenImageError, InvalidImageError, LabelStudioError

KEY = "0123456789abcdef0123456789abcdef01234567"
PNG = b"\x89PNG and the rest"


@pytest.fixture
def source(loopback, tmp_path):
    """Allow the loopback server and the folder `images`, and 20 bytes an image."""
    (tmp_path / "images").mkdir()
    with LabelStudioClient(loopback.url, KEY) as client:
        yield ImageSource(client, tmp_path / "images", max_bytes=20)


def test_uploaded_image_is_read_with_the_key(loopback, source):
    """Uploads need a signed request."""
    loopback.answer("GET", "/data/upload/1/a b.png", Answer(PNG))
    loopback.answer("GET", "/data/upload/1/a%20b.png", Answer(PNG))

    assert source.read("/data/upload/1/a%20b.png") == PNG
    assert loopback.requests[0].authorization == f"Token {KEY}"


def test_absolute_address_of_label_studio_is_read(loopback, source):
    """Storages hand out absolute addresses, with a query."""
    loopback.answer("GET", "/data/local-files/", Answer(PNG))

    assert source.read(f"{loopback.url}/data/local-files/?d=a.png") == PNG
    assert loopback.paths() == ["/data/local-files/?d=a.png"]


def test_path_prefix_of_label_studio_is_known(loopback):
    """Label Studio below a path writes references with and without that path."""
    loopback.answer("GET", "/annotate/data/upload/a.png", Answer(PNG))
    with LabelStudioClient(f"{loopback.url}/annotate", KEY) as client:
        source = ImageSource(client, None, max_bytes=20)

        assert source.read("/data/upload/a.png") == PNG
        assert source.read("/annotate/data/upload/a.png") == PNG


@pytest.mark.parametrize(
    "reference",
    [
        "https://{host}/a.png",  # another scheme
        "http://127.0.0.1:1/a.png",  # another port
        "http://localhost:{port}/a.png",  # another name
        "http://{host}@example.test/a.png",  # looks like the host, is a user name
        "http://me:secret@{host}/a.png",
        "http://{host}.example.test/a.png",
        "http://169.254.169.254/latest/meta-data",
        "//example.test/a.png",
        "ftp://{host}/a.png",
        "file:///etc/passwd",
        "s3://bucket/a.png",
        "http://[",
        # other ways to write 127.0.0.1, where our server would answer
        "http://2130706433:{port}/data/a.png",
        "http://0x7f000001:{port}/data/a.png",
        "http://0177.0.0.1:{port}/data/a.png",
        "http://127.1:{port}/data/a.png",
        "http://127.0.0.1.:{port}/data/a.png",
        "http://[::1]:{port}/data/a.png",
        "http://[::ffff:127.0.0.1]:{port}/data/a.png",
        "http://[::ffff:7f00:1]:{port}/data/a.png",
        "http://0.0.0.0:{port}/data/a.png",
        "http://%31%32%37.0.0.1:{port}/data/a.png",
        "http://127.0.0.1%2f@example.test:{port}/data/a.png",
        "http://\uff11\uff12\uff17.0.0.1:{port}/data/a.png",  # full-width digits
        # a user, a port or a fragment that looks like the host, or hides it
        "http://{host}\\@example.test/data/a.png",
        "http://example.test\\@{host}/data/a.png",
        "http://example.test#@{host}/data/a.png",
        "http://example.test?@{host}/data/a.png",
        "http://:@example.test/data/a.png",
        "http://{host}:{port}/data/a.png",
        "http:///data/a.png",
        "http:data/a.png",
        "http:/{host}/data/a.png",
        "///{host}/data/a.png",
        "//{host}@example.test/data/a.png",
        "\\\\example.test\\data\\a.png",
        "HTTPS://{host}/data/a.png",
        "jar:http://{host}/data/a.png",
        "gopher://{host}/data/a.png",
        "file://{host}/data/a.png",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "unix:///var/run/docker.sock",
        "http+unix://%2fvar%2frun%2fdocker.sock/data/a.png",
        " http://{host}/data/a.png\0.example.test/",
        "http://{host}\0.example.test/data/a.png",
        "http://{host}\r\n.example.test/data/a.png",
        "http://{host}/data/a.png\r\nX-Header: injected",
        "http://{host}/data/a.png\0",
        "http://{host}/data/\ud800.png",
    ],
)
def test_other_addresses_are_forbidden(loopback, source, reference):
    """No request leaves, to whatever host, and no file is read."""
    loopback.answer("GET", "/data/a.png", Answer(PNG))
    host = loopback.url.removeprefix("http://")

    with pytest.raises((ForbiddenImageError, InvalidImageError)):
        source.read(reference.format(host=host, port=host.partition(":")[2]))
    assert loopback.requests == []


def test_name_that_leads_to_label_studio_is_not_even_looked_up(loopback, source, monkeypatch):
    """What it leads to may change between two looks (DNS rebinding): only the name counts."""
    loopback.answer("GET", "/data/a.png", Answer(PNG))
    asked = []

    def lead_to_loopback(host, *rest, **options):
        asked.append(host)
        return look_up("127.0.0.1", *rest, **options)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lead_to_loopback)
    port = loopback.url.rpartition(":")[2]
    with pytest.raises(ForbiddenImageError, match="not on"):
        source.read(f"http://rebind.test:{port}/data/a.png")
    assert (asked, loopback.requests) == ([], [])
    with httpx.Client(trust_env=False) as client:  # without the rule it would have been reached
        assert client.get(f"http://rebind.test:{port}/data/a.png").content == PNG
    assert asked == ["rebind.test"]


@pytest.mark.parametrize(
    "location",
    [
        "//{other}/data/a.png",
        "http://{other}/data/a.png",
        "http://{host}@{other}/data/a.png",
        "http://localhost:{port}/data/a.png",
        "http://2130706433:{port}/data/a.png",
        "file:///etc/passwd",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "https://{host}/data/a.png",
        "data:image/png;base64,AAAA",
        "http://[",
        "",
    ],
)
def test_redirect_is_held_to_the_same_rules(loopback, source, location):
    """And the key is not sent along."""
    with loopback_server() as other:
        other.answer("GET", "/data/a.png", Answer(PNG))
        host = loopback.url.removeprefix("http://")
        names = {"host": host, "port": host.partition(":")[2],
                 "other": other.url.removeprefix("http://")}  # fmt: skip
        moved = Answer(status=302, headers={"Location": location.format(**names)})
        loopback.answer("GET", "/data/b.png", moved)
        with pytest.raises((ForbiddenImageError, InvalidImageError, LabelStudioError)):
            source.read("/data/b.png")
        assert other.requests == []
        assert set(loopback.paths()) == {"/data/b.png"}


def test_double_coded_dots_stay_a_name(loopback, source):
    """They are undone once, by us as by Label Studio."""
    loopback.answer("GET", "/data/%252e%252e/a.png", Answer(PNG))
    assert source.read("/data/%252e%252e/a.png") == PNG
    assert loopback.paths() == ["/data/%252e%252e/a.png"]


@pytest.mark.parametrize("start", ["/data/", "{url}/data/", "a/", "http://example.test/"])
def test_very_long_address_is_refused(loopback, source, start):
    """Before it is sent to anybody, and in a short sentence."""
    with pytest.raises(InvalidImageError, match="at most 4096 are read") as caught:
        source.read(start.format(url=loopback.url) + "x" * 100_000)
    assert len(str(caught.value)) < 300
    assert loopback.requests == []


def test_image_that_never_ends_is_given_up(source, loopback):
    """A compressed answer is counted as it unfolds, not as it travels."""
    bomb = Answer(gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})
    loopback.answer("GET", "/data/a.png", bomb)
    with pytest.raises(InvalidImageError, match="more than 20 bytes"):
        source.read("/data/a.png")


def test_password_in_an_address_is_not_told(source):
    """Nor the signature of an address in cloud storage: messages reach logs and browsers."""
    with pytest.raises(ForbiddenImageError) as caught:
        source.read("https://me:hidden@bucket.test/a.png?X-Amz-Signature=hidden")
    assert "hidden" not in str(caught.value)
    assert "bucket.test/a.png" in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/upload/..%2F../api/users",
        "/data/upload/.%2E/%2e./api/users",
        "/data//../../api/users",
        "/data/%2e%2e//api/users",
        "/data/./../api/users",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/annotate"])
def test_other_paths_of_label_studio_are_forbidden(loopback, path, prefix):
    """The key opens all of its API; only images may be read with it."""
    with LabelStudioClient(f"{loopback.url}{prefix}", KEY) as client:
        source = ImageSource(client, None, max_bytes=20)
        for reference in (path, f"{prefix}{path}", f"{loopback.url}{prefix}{path}"):
            with pytest.raises(ForbiddenImageError, match="does not lie below"):
                source.read(reference)
    assert loopback.requests == []


@pytest.mark.parametrize("path", ["/api/users", "//data/../api/users", "", "/data", "/database/a"])
def test_absolute_address_beside_the_images_is_forbidden(loopback, source, path):
    """Of the same Label Studio, but no image."""
    with pytest.raises(ForbiddenImageError, match="does not lie below /data/"):
        source.read(f"{loopback.url}{path}")
    assert loopback.requests == []


def test_redirect_beside_the_images_is_forbidden(loopback, source):
    """To the login page, say."""
    moved = Answer(status=302, headers={"Location": "/user/login/?next=/data/a.png"})
    loopback.answer("GET", "/data/a.png", moved)

    with pytest.raises(ForbiddenImageError, match="does not lie below"):
        source.read("/data/a.png")


def test_redirect_elsewhere_is_forbidden(loopback, source):
    """Label Studio redirects to a bucket, or someone made it redirect to an inner host."""
    with loopback_server() as other:
        other.answer("GET", "/a.png", Answer(PNG))
        moved = Answer(status=302, headers={"Location": f"{other.url}/a.png"})
        loopback.answer("GET", "/data/a.png", moved)

        with pytest.raises(ForbiddenImageError, match="not on"):
            source.read("/data/a.png")
        assert other.requests == []


def test_redirect_within_label_studio_is_followed(loopback, source):
    """A missing slash at the end is corrected by a redirect."""
    loopback.answer("GET", "/data/a", Answer(status=301, headers={"Location": "/data/a/"}))
    loopback.answer("GET", "/data/a/", Answer(PNG))

    assert source.read("/data/a") == PNG


def test_redirect_in_circles_ends(loopback, source):
    """A page that redirects to itself is given up."""
    loopback.answer("GET", "/data/a", Answer(status=301, headers={"Location": "/data/a"}))

    with pytest.raises(InvalidImageError, match="in circles"):
        source.read("/data/a")
    assert len(loopback.requests) == 4


def test_missing_upload_is_named(source):
    """The annotator sees which image is gone."""
    with pytest.raises(InvalidImageError, match=r"no image '/data/upload/1/gone\.png'"):
        source.read("/data/upload/1/gone.png")


def test_refused_key_is_named(loopback, source):
    """A wrong key is no fault of the image."""
    loopback.answer("GET", "/data/a.png", Answer(status=401))

    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY"):
        source.read("/data/a.png")


@pytest.mark.parametrize(("size", "fits"), [(20, True), (21, False)])
def test_size_cap_holds_for_every_source(loopback, source, tmp_path, size, fits):
    """One byte over the cap is refused, wherever it comes from."""
    data = b"x" * size
    (tmp_path / "images" / "a.png").write_bytes(data)
    loopback.answer("GET", "/data/a.png", Answer(data))
    encoded = base64.b64encode(data).decode()

    for reference in ("a.png", "/data/a.png", f"data:image/png;base64,{encoded}"):
        if fits:
            assert source.read(reference) == data
        else:
            with pytest.raises(InvalidImageError, match="more than 20 bytes"):
                source.read(reference)


def test_data_uri_round_trip():
    """Any bytes survive in base64."""
    with LabelStudioClient("http://127.0.0.1:1", KEY) as client:
        source = ImageSource(client, None, max_bytes=20)

        @given(data=st.binary(max_size=20))
        def survives(data):
            reference = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            assert source.read(reference) == data

        survives()


def test_percent_coded_data_uri_is_read(source):
    """Without base64, bytes are percent-coded."""
    assert source.read("data:image/png,%89PNG") == b"\x89PNG"


@pytest.mark.parametrize(
    "rest", ["text/html,x", "image/png;base64,%%%", "image/png;base64,abc", ""]
)
def test_unreadable_data_uri_is_refused(source, rest):
    """Not an image, or not base64."""
    with pytest.raises(InvalidImageError):
        source.read(f"data:{rest}")


def test_file_below_the_allowed_folder_is_read(source, tmp_path):
    """By its absolute path, by a path from the folder, and through dots that stay inside."""
    path = tmp_path / "images" / "a.png"
    path.write_bytes(PNG)

    for reference in (str(path), "a.png", "lot/../a.png"):
        assert source.read(reference) == PNG


def test_link_inside_the_folder_is_followed(source, tmp_path):
    """A link counts for where it leads."""
    (tmp_path / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "images" / "link.png").symlink_to("a.png")

    assert source.read("link.png") == PNG


def test_file_outside_the_folder_is_forbidden(source, tmp_path):
    """By dots, by an absolute path, by a link, and by a folder whose name begins the same."""
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "images-2").mkdir()
    (tmp_path / "images-2" / "a.png").write_bytes(PNG)
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")

    for reference in ("../secret.png", "/etc/passwd", "link.png", f"{tmp_path}/images-2/a.png"):
        with pytest.raises(ForbiddenImageError, match="outside IMAGE_ROOT"):
            source.read(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "../secret.png",
        "lot/../../secret.png",
        "./.././secret.png",
        "link/secret.png",
        "link/../secret.png",
        "images/../../secret.png",
        "{root}/../secret.png",
        "{root}//..//secret.png",
        "{root}/link/secret.png",
        "/proc/self/cwd/../../etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "~/secret.png",
        "..\\secret.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        "..;/secret.png",
        "\uff0e\uff0e/secret.png",
        "a.png\0/../../secret.png",
        "../secret.png\0.png",
        "\ud800.png",
        "-",
        "|cat /etc/passwd",
        "../" * 1000 + "etc/passwd",
        "a/" * 2000,
    ],
)
def test_no_way_leads_out_of_the_folder(source, tmp_path, reference):
    """By dots, links, coded characters, or files that are none."""
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "images" / "lot").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path)
    with pytest.raises((ForbiddenImageError, InvalidImageError)):
        source.read(reference.format(root=tmp_path / "images"))


def test_no_file_is_allowed_without_a_folder(loopback, tmp_path):
    """IMAGE_ROOT is off unless set."""
    (tmp_path / "a.png").write_bytes(PNG)
    with LabelStudioClient(loopback.url, KEY) as client:
        source = ImageSource(client, None, max_bytes=20)

        with pytest.raises(ForbiddenImageError, match="IMAGE_ROOT is not set"):
            source.read(str(tmp_path / "a.png"))


def test_pipe_is_no_image(source, tmp_path):
    """Reading from a pipe would wait for ever."""
    os.mkfifo(tmp_path / "images" / "pipe.png")

    with pytest.raises(InvalidImageError, match="no image file"):
        source.read("pipe.png")


@pytest.mark.parametrize("reference", ["gone.png", "", ".", "a\0b", "x" * 300])
def test_missing_file_is_named(source, reference):
    """A folder, an empty or an impossible name end in a sentence too."""
    with pytest.raises(InvalidImageError):
        source.read(reference)


def test_loop_of_links_is_refused(source, tmp_path):
    """A link to itself leads nowhere."""
    (tmp_path / "images" / "loop.png").symlink_to("loop.png")

    with pytest.raises((InvalidImageError, ForbiddenImageError)):
        source.read("loop.png")
