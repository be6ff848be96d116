"""nft-verify, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.verifiers.adversarial import longest_seconds

COMMAND = [sys.executable, "-m", "nft_lightning.cli.verify"]


def verify(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=120, **options)


def write(path, *lines):
    path.write_bytes(
        b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)
    )
    return path


CASES = [
    {"id": 1, "pred": r"so \boxed{4}", "gold": "4"},
    {"pred": r"\boxed{x+1}", "gold": "1+x", "extra": {"deep": [1, None]}},
    {"pred": "none", "gold": "4"},
    {"pred": r"\boxed{9^{9^{9^9}}}", "gold": "4"},
    {"pred": r"\boxed{4}", "gold": ""},
    {"pred": "\ud800\x00 " + r"\boxed{5}", "gold": "\u0665"},
    {"pred": r"\boxed{5}", "gold": 5},
]


def test_every_case_comes_back_in_order_with_its_verdict(tmp_path):
    result = verify(write(tmp_path / "cases.jsonl", *CASES), "--timeout-seconds", 1)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["verdict"] for r in rows] == [
        "correct",
        "correct",
        "unparsable",
        "timeout",
        "bad_gold",
        "correct",
        "correct",
    ]
    for case, row in zip(CASES, rows, strict=True):
        assert list(row) == [*case, "verdict", "correct", "extracted", "seconds"]
        assert {k: row[k] for k in case} == case
        assert row["correct"] is (row["verdict"] == "correct")
        assert 0 <= row["seconds"] < longest_seconds(1.0)
    assert [r["extracted"] for r in rows[:3]] == ["4", "x+1", None]
    summary = result.stderr.decode().strip().splitlines()
    assert len(summary) == 1
    for words in ("7 cases", "4 correct", "1 timeout", "1 bad_gold", "57.1%"):
        assert words in summary[0]


def test_malformed_lines_are_reported_and_the_rest_goes_on(tmp_path):
    good = {"pred": r"\boxed{4}", "gold": "4"}
    bad = [
        b"{oops",
        b"[1, 2]",
        {"pred": "x"},
        {"gold": "x"},
        {"pred": None, "gold": "4"},
        b"\xff\xfe",
        b"[" * 99999,
        b'{"pred": "4", "gold": NaN}',
        {"pred": "4", "gold": True},
    ]
    result = verify(write(tmp_path / "c.jsonl", good, *bad, b"", good))
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 2
    said = result.stderr.decode()
    for number, words in enumerate(
        ("is not JSON", "is not an object", "lacks gold", "lacks pred", "has a pred that is null"), 2
    ):
        assert f"line {number} {words}" in said
    assert "9 malformed lines" in said
    assert "line 9 has a gold that is NaN" in said
    assert "line 10 has a gold that is true, not text" in said
    assert "Traceback" not in said


def test_standard_input_and_an_empty_file(tmp_path):
    line = json.dumps(CASES[0]).encode()
    result = verify("-", input=b"\xef\xbb\xbf" + line + b"\r\n" + line)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    result = verify(write(tmp_path / "empty.jsonl"))
    assert (result.returncode, result.stdout) == (0, b"")
    assert b"0 cases" in result.stderr


def test_extraction_options(tmp_path):
    file = write(
        tmp_path / "c.jsonl",
        {"pred": r"\boxed{5}" + "x" * 100, "gold": "5"},
        {"pred": "the answer is $5$", "gold": "$5$"},
    )
    found = {}
    for rule in ("boxed", "official", "any"):
        rows = verify(file, "--extract", rule, "--workers", 1).stdout.splitlines()
        found[rule] = [json.loads(r)["verdict"] for r in rows]
    assert found == {
        "boxed": ["correct", "unparsable"],
        "official": ["unparsable", "unparsable"],
        "any": ["correct", "correct"],
    }


def test_bad_golds_are_listed_with_their_lines(tmp_path):
    file = write(
        tmp_path / "p.jsonl",
        {"problem": "1", "answer": "4"},
        {"problem": "2", "answer": r"\frac{1}{"},
        {"problem": "3", "gold": ""},
        {"problem": "4", "answer": r"\text{even}"},
        {"problem": "5", "answer": "4.5e33"},
        {"problem": "6", "answer": r"\$18.90"},
    )
    result = verify("--check-golds", file)
    assert result.returncode == 1
    lines = result.stdout.decode().splitlines()
    assert [x.split(":")[0] for x in lines] == ["line 2", "line 3"]
    assert b"6 golds: 2 cannot be read" in result.stderr
    assert verify("--check-golds", write(tmp_path / "good.jsonl", {"answer": "4"})).returncode == 0
    lacking = verify("--check-golds", write(tmp_path / "none.jsonl", {"problem": "4"}))
    assert lacking.returncode == 1
    assert b"line 1 lacks gold or answer" in lacking.stderr


@pytest.mark.parametrize("name", ["aime24", "amc23", "minerva_math", "olympiadbench"])
def test_no_gold_of_the_benchmarks_is_listed(data_folder, name):
    result = verify("--check-golds", data_folder / "math_eval" / f"{name}.jsonl")
    assert (result.returncode, result.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jsonl"], "FILE='missing.jsonl' cannot be read"),
        (["-", "--workers", "0"], "verifier.workers=0"),
        (["-", "--timeout-seconds", "-1"], "verifier.timeout_seconds=-1"),
        (["-", "--extract", "box"], "invalid choice"),
        ([], "FILE"),
    ],
)
def test_bad_arguments(arguments, words):
    result = verify(*arguments, input=b"")
    assert result.returncode == 2
    assert words in result.stderr.decode()
    assert b"Traceback" not in result.stderr


def test_help_is_worth_reading_and_needs_no_torch():
    started = time.perf_counter()
    result = verify("--help")
    assert time.perf_counter() - started < 20
    for word in (
        "--extract",
        "boxed",
        "official",
        "any",
        "--check-golds",
        "bad_gold",
        "Exit code",
        "extracted",
    ):
        assert word in result.stdout.decode()
    code = (
        "import sys, nft_lightning.cli.verify; print({'torch', 'lightning', 'sympy'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path):
    file = write(tmp_path / "c.jsonl", *([CASES[0]] * 20_000))
    process = subprocess.Popen([*COMMAND, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.wait(60)
    assert b"Traceback" not in said
    assert b"Exception" not in said
