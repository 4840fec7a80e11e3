"""Who is answered: the secret of the address on every request, names of this machine, static files kept by content."""

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from fastapi.testclient import TestClient

from srft.env.errors import InputError
from srft.harness.look.web.app import listen, make_app
from srft.harness.look.web.guard import Access
from srft.harness.look.web.pages import asset_hash
from srft.harness.look.web.viewer import Viewer
from tests.harness.look.web.conftest import client_of

ADDRESSES = ["/", "/table/round-000", "/run/round-000/abc1", "/static/view.css", "/version", "/live", "/csv/round-000"]


@pytest.fixture
def access():
    return Access.here(8117)


def stranger(run, access, **options):
    app = make_app(Viewer(run), access=access)
    return TestClient(app, base_url="http://127.0.0.1:8117", follow_redirects=False, **options)


@pytest.mark.parametrize("cookie", [("srft-8117", "guess"), ("srft-8118", "right"), None])
def test_without_the_key_nothing_is_answered(run, access, cookie):
    values = {"guess": Access.here(8117).secret, "right": access.secret}
    client = stranger(run, access, cookies={cookie[0]: values[cookie[1]]} if cookie else None)
    for address in ADDRESSES:
        for asked in (address, f"{address}?key=", f"{address}?key={values['guess']}"):
            answer = client.get(asked)
            assert (answer.status_code, "needs the key" in answer.text) == (401, True)
            assert "set-cookie" not in answer.headers
    word = {"place": "round-000", "run": "abc1", "step": 1, "verdict": "good"}
    assert client.post("/labels", json=word).status_code == 401
    assert client.post(f"/labels?key={access.secret}", json=word).status_code == 401


def test_the_printed_address_gives_a_cookie_and_leads_to_the_page_without_the_key(run, access):
    client = stranger(run, access)
    first = client.get(f"/table/round-000?outcome=unresolved&key={access.secret}&q=a%26b")
    assert (first.status_code, first.headers["location"]) == (303, "/table/round-000?outcome=unresolved&q=a%26b")
    assert first.headers["set-cookie"] == f"srft-8117={access.secret}; Path=/; HttpOnly; SameSite=Lax"
    assert client.get("/").status_code == 200  # the cookie
    assert access.secret not in client.get("/").text
    elsewhere = f"http://127.0.0.1:8117//evil.example/x?key={access.secret}"
    assert client.get(elsewhere).headers["location"] == "/evil.example/x"


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({"allowed": ("lab.example.org",)}, "lab.example.org", 200),
        ({"allowed": ("*.example.org",)}, "a.example.org:443", 200),
        ({"allowed": ("*.example.org",)}, "example.org.evil.net", 403),
        ({"host": "10.0.0.7"}, "10.0.0.7:8117", 200),
        ({"host": "10.0.0.7"}, "10.0.0.8:8117", 403),
        ({"host": "0.0.0.0"}, "192.168.1.5:8117", 200),
        ({"host": "0.0.0.0"}, "[fe80::1]:8117", 200),
        ({"host": "0.0.0.0"}, "evil.example", 403),
    ],
)
def test_names_that_are_let_in(run, options, host, status):
    access = Access.here(8117, **options)
    answer = client_of(make_app(Viewer(run), access=access), access).get("/", headers={"host": host})
    assert answer.status_code == status
    if status == 403:
        assert "--allow-host NAME" in answer.text


def test_behind_a_proxy_with_tls_a_label_comes_from_our_own_page(run):
    access = Access.here(8117, allowed=("lab.example.org",))
    client = client_of(make_app(Viewer(run), access=access), access)
    token = re.search(r'name="srft-token" content="([^"]+)"', client.get("/").text)[1]
    word = {"place": "round-000", "run": "abc1", "step": 1, "verdict": "good"}
    own = {"host": "lab.example.org", "origin": "https://lab.example.org", "x-srft-token": token}
    assert client.post("/labels", json=word, headers=own).status_code == 200
    assert client.post("/labels", json=word, headers={**own, "origin": "https://evil.example"}).status_code == 403


def test_static_files_are_kept_by_what_is_in_them_and_pages_are_not(run, access):
    client = client_of(make_app(Viewer(run), access=access), access)
    (link,) = re.findall(r'href="(/static/view\.css\?v=[^"]+)"', client.get("/").text)
    assert link == f"/static/view.css?v={asset_hash('view.css')}"
    assert client.get(link).headers["cache-control"] == "private, max-age=31536000, immutable"
    assert client.get("/static/view.css?v=000000000000").headers["cache-control"] == "no-store"
    assert client.get("/").headers["cache-control"] == "no-store"


def test_the_command_prints_the_key_and_how_to_look_from_elsewhere(run):
    command = [sys.executable, "-m", "srft.harness.cli", "view", str(run), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[0]
            hint = next(line for line in process.stderr if "ssh" in line)
            base, _, key = address.partition("/?key=")
            port = base.rpartition(":")[2]
            assert f"ssh -L {port}:127.0.0.1:{port} " in hint
            assert len(key) == 32
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(base)
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            assert b'id="places"' in opener.open(address).read()
        finally:
            process.kill()


def test_all_addresses_are_listened_on_and_it_is_said_what_that_means(run):
    command = [sys.executable, "-m", "srft.harness.cli", "view", str(run), "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(
        [*command, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            address = process.stdout.readline().split()[0]
            assert address.startswith(f"http://{socket.gethostname()}:")
            assert any("not encrypted" in line for line in process.stderr)
        finally:
            process.kill()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.9: cannot be listened on"):
        listen(None, "203.0.113.9")
    with pytest.raises(InputError, match="--host no such name: not an address"):
        listen(None, "no such name")
