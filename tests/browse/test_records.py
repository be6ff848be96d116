from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nft_lightning.browse.records import Question, Records
from nft_lightning.errors import UserError
from tests.browse.made import PROBLEM


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        (
            Question(),
            [
                ("epoch_0000", 0),
                ("epoch_0000", 4),
                ("epoch_0001", 0),
                ("epoch_0001", 4),
                ("epoch_0001", 6),
            ],
        ),
        (Question(moment=0), [("epoch_0000", 0), ("epoch_0000", 4)]),
        (Question(text="HOSTILE"), [("epoch_0001", 6)]),
        (Question(text="id:7+12"), [("epoch_0000", 0), ("epoch_0001", 0)]),
        (Question(verdict="unparsable"), [("epoch_0000", 4), ("epoch_0001", 4)]),
        (Question(shortest=150), [("epoch_0001", 6)]),
        (Question(moment=0, longest=6), [("epoch_0000", 0), ("epoch_0000", 4)]),
        (Question(verdict="wrong", moment=0, longest=1), []),
        (Question(moment=7), []),
        (Question(text=".*"), []),
    ],
)
def test_filters(run_folder, question, rows):
    total, found = Records(run_folder).search(question, 0, 50)
    assert [(f.name, f.row) for f in found] == rows
    assert total == len(rows)


def test_pages_join_to_the_whole(run_folder):
    records = Records(run_folder)
    whole = records.search(Question(), 0, 50)[1]
    parts = [records.search(Question(), i, 2) for i in (0, 2, 4, 6)]
    assert [f for _, page in parts for f in page] == whole
    assert {total for total, _ in parts} == {5}


def test_a_group_has_its_own_rows(run_folder):
    records = Records(run_folder)
    index, group = records.locate("rollouts", "epoch_0001", 6)
    rows = records.completions(index, group)
    assert [r["sample"] for r in rows] == [0, 1, 2, 3]
    assert {r["problem"][:7] for r in rows} == {"hostile"}


@pytest.mark.parametrize(
    ("part", "name", "row"),
    [
        ("rollouts", "epoch_0001", 5),
        ("rollouts", "epoch_0001", 10_000),
        ("rollouts", "../rollouts/epoch_0001", 0),
        ("rollouts", "/etc/passwd", 0),
        ("../run/rollouts", "epoch_0001", 0),
        ("checkpoints", "epoch_00000", 0),
    ],
)
def test_links_that_lead_nowhere(run_folder, part, name, row):
    with pytest.raises(KeyError):
        Records(run_folder).locate(part, name, row)


def test_history_has_both_parts_in_order(run_folder):
    found = list(Records(run_folder).history(f"id:{PROBLEM}"))
    assert [(f.part, f.version, f.accuracy) for f in found] == [
        ("rollouts", 0, 0.5),
        ("rollouts", 4, 0.5),
        ("evaluations", 0, 0.5),
        ("evaluations", 4, 1.0),
    ]


def test_a_run_that_goes_on_is_seen(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    records = Records(run)
    assert records.moments("rollouts") == [0, 1]
    shutil.copy(run / "rollouts/epoch_0000.parquet", run / "rollouts/epoch_0002.parquet")
    assert records.moments("rollouts") == [0, 1, 2]
    (run / "rollouts/epoch_0001.parquet").write_bytes(b"PAR1 not really")
    assert records.moments("rollouts") == [0, 2]
    assert list(records.unreadable) == ["rollouts/epoch_0001.parquet"]


def test_no_run_and_no_answers(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        Records(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds neither rollouts"):
        Records(tmp_path)


def test_against_a_plain_loop(tmp_path):
    random = np.random.default_rng(0)
    verdicts = random.choice(["correct", "wrong", "timeout"], 300, p=[0.3, 0.6, 0.1]).tolist()
    sizes = random.integers(1, 6, 200)
    sample = [k for s in sizes for k in range(s)][:300]
    lengths = random.integers(1, 50, 300).tolist()
    table = {
        "problem_id": [f"p{i}" for i in range(300)],
        "problem": ["1+1"] * 300,
        "prompt_accuracy": [0.5] * 300,
        "sample": sample,
        "verdict": verdicts,
        "length_tokens": lengths,
        "policy_version": [0] * 300,
    }
    (tmp_path / "rollouts").mkdir()
    pq.write_table(pa.table(table), tmp_path / "rollouts" / "epoch_0000.parquet")
    groups: list[list[int]] = []
    for i, k in enumerate(sample):
        if k == 0:
            groups.append([])
        groups[-1].append(i)
    wanted = [
        g[0] for g in groups if any(verdicts[i] == "timeout" and 10 <= lengths[i] <= 40 for i in g)
    ]
    asked = Question(verdict="timeout", shortest=10, longest=40)
    total, found = Records(tmp_path).search(asked, 0, 500)
    assert [f.row for f in found] == wanted
    assert 0 < total < len(groups)
