from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from nft_lightning.browse.app import make_app
from nft_lightning.cli.browse import listening
from nft_lightning.errors import UserError

GROUP = {"part": "rollouts", "file": "epoch_0000", "row": "0"}
HOSTILE = {"part": "rollouts", "file": "epoch_0001", "row": "6"}


@pytest.fixture(scope="module")
def client(run_folder):
    return TestClient(make_app(run_folder), base_url="http://127.0.0.1:8421")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8421", "", "[::2]"]
)
def test_other_hosts_get_nothing(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "groups" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8421", "localhost", "LOCALHOST:1", "[::1]:8421"])
def test_loopback_names_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


def test_other_sites_can_not_ask(client):
    assert (
        client.get("/group", params=GROUP, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    )
    assert client.get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/style.css", "/nothing", "/group", "/text?part=x", "/?moment=x"])
def test_every_answer_has_the_policy(client, path):
    policy = client.get(path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?moment=-1", 400),
        ("/?page=one", 400),
        ("/?part=checkpoints", 400),
        ("/?verdict=<script>", 400),
        ("/?shortest=99999999999999", 400),
        ("/?page=999999", 200),
        ("/?path=x&page=1", 200),
        ("/../config.yaml", 404),
        ("/%2e%2e%2fconfig.yaml", 404),
        ("/app.py", 404),
        ("/group?part=rollouts&file=../config.yaml&row=0", 404),
        ("/group?part=rollouts&file=epoch_0000&row=1", 404),
        ("/text?part=rollouts&file=epoch_0000&row=0&sample=99", 404),
        ("/group?part=rollouts&file=epoch_0000&row=0&colour=red", 400),
    ],
)
def test_bad_addresses_get_a_sentence(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert "<script>" not in answer.text
    assert "Traceback" not in answer.text


def test_a_policy_that_is_not_there_is_a_sentence_on_the_page(client):
    answer = client.get("/group", params={**GROUP, "colour": "ratio", "weights": "../../etc"})
    assert answer.status_code == 200
    assert "is no policy of this run" in answer.text


def test_hostile_text_is_text(client):
    for answer in (client.get("/"), client.get("/group", params=HOSTILE)):
        assert "<script>window" not in answer.text
        assert "<img" not in answer.text
        assert "&lt;script&gt;window" in answer.text
        assert not any(c in answer.text for c in "\x00\x1b\u202e\u200b")
    assert "{{ 7 * 7 }}" in client.get("/group", params=HOSTILE).text
    assert len(client.get("/group", params=HOSTILE).content) < 200_000


def test_the_whole_text_is_plain(client):
    answer = client.get("/text", params={**HOSTILE, "sample": "1"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == "a" * 2**20


def test_colours_follow_the_policy(client):
    same = client.get("/group", params={**GROUP, "colour": "ratio", "weights": "epoch_00000"}).text
    other = client.get("/group", params={**GROUP, "colour": "ratio"}).text
    negative = client.get("/group", params={**GROUP, "colour": "negative"}).text
    assert "engine&#39;s" in same or "engine's" in same
    spans = {text: text.count('<span class="n0" title=') for text in (same, other)}
    assert spans[same] > spans[other] > 0
    assert (
        same.count('title="log R') == other.count('title="log R') == negative.count('title="log R') > 0
    )
    assert "below 0" in negative


def test_evaluations_say_that_they_have_no_tokens(client):
    answer = client.get("/group", params={"part": "evaluations", "file": "update_000004", "row": 0})
    assert "Evaluations keep no tokens" in answer.text
    assert answer.text.count("<circle") == 4


def test_a_port_in_use_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"--port=.*cannot be listened on"):
            listening(taken.getsockname()[1])
    with pytest.raises(UserError, match="is no port"):
        listening(70_000)
    with listening(0) as made:
        assert made.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "error: RUN='nothing' is no folder"),
        (["."], "error: RUN='.' holds neither rollouts/*.parquet nor evaluations/*.parquet"),
        ([".", "--device", "abacus"], "error: --device='abacus' cannot be used"),
    ],
)
def test_bad_input_ends_with_one_sentence(tmp_path, arguments, sentence):
    command = [sys.executable, "-m", "nft_lightning.cli.browse", "--no-open", "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
