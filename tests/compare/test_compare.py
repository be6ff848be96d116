from __future__ import annotations

import json
import sys
from html.parser import HTMLParser

import pytest

from nft_lightning.cli.compare import main
from nft_lightning.compare.comparison import compare
from nft_lightning.compare.conclusions import conclusions
from nft_lightning.compare.tables import (
    Table,
    comma_separated,
    cost_table,
    difference_table,
    latex,
    level_table,
    markdown,
    probability,
    run_table,
)
from nft_lightning.errors import UserError
from tests.compare.made_runs import PROBLEMS, SAMPLES, make_run


@pytest.fixture
def three(tmp_path):
    for algorithm, rise in (("nft", 0.1), ("grpo", 0.1), ("rft", 0.17)):
        for seed in range(4):
            make_run(tmp_path / f"{algorithm}_{seed}", algorithm, seed, rise)
    return tmp_path


def nft_compare(monkeypatch, capsys, *arguments):
    """Exit code, output, errors of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["nft-compare", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_a_report_names_runs_as_they_were_given(three, monkeypatch, capsys):
    monkeypatch.chdir(three.parent)
    given = three.relative_to(three.parent)
    code, *_ = nft_compare(monkeypatch, capsys, given, given, "--out", "report")
    assert code == 0
    for path in (three.parent / "report").glob("*.*"):
        assert str(three.parent) not in path.read_text()
    assert f"{given}/nft_0" in (three.parent / "report" / "comparison.json").read_text()


def test_links_to_run_folders_are_followed(three, tmp_path_factory):
    """A folder of links, as one is made to compare runs of several places; each run counts once."""
    links = tmp_path_factory.mktemp("links")
    for name in ("nft_0", "nft_1", "grpo_0", "grpo_1"):
        (links / name).symlink_to(three / name, target_is_directory=True)
    (links / "nft_0_again").symlink_to(three / "nft_0", target_is_directory=True)
    (links / "all").symlink_to(links, target_is_directory=True)
    (links / "gone").symlink_to(three / "nowhere", target_is_directory=True)
    found = compare([links], baseline="nft")
    named = [run.folder for group in found.runs.values() for run in group]
    assert named == [links / name for name in ("nft_0", "nft_1", "grpo_0", "grpo_1")]


def test_levels_and_paired_differences(three):
    found = compare([three], baseline="nft")
    assert list(found.runs) == ["nft", "grpo", "rft"]
    assert [level.seeds for level in found.levels] == [4, 4, 4]
    for level, group in zip(found.levels, found.runs.values(), strict=True):
        right = sum(float(r.final.right.sum()) for r in group)
        assert level.final.mean == pytest.approx(right / (4 * PROBLEMS * SAMPLES))
        assert level.final.low < level.final.mean < level.final.high <= 1
        assert level.gained.mean == pytest.approx(level.final.mean - level.before.mean)
        assert 0 < level.gained.low < level.gained.mean < level.gained.high
    by_pair = {(d.first, d.second): d for d in found.differences}
    assert len(by_pair) == 3
    nft, _, rft = found.levels
    assert by_pair["nft", "rft"].final.mean == pytest.approx(rft.final.mean - nft.final.mean)
    assert by_pair["nft", "rft"].curve_p < 0.05 < by_pair["nft", "grpo"].curve_p
    assert all(d.final_p >= d.final.p_value for d in found.differences)
    said = conclusions(found)
    assert said[0].startswith("rft is above nft: +0.")
    assert said[1].startswith("Not significantly different from nft: grpo. Compared: four seeds each")


def test_conclusions_say_what_they_compare(three):
    said = conclusions(compare([three], baseline="nft"))
    basis = (
        "Compared: four seeds each, accuracy on the same 20 held-out problems, "
        "mean of four evaluations over the same four rollouts."
    )
    assert all(text.endswith(basis) for text in said)
    for path in (three / "grpo_2" / "evaluations").glob("update_000016*"):
        path.unlink()
    said = conclusions(compare([three], baseline="nft"))
    assert "after different numbers of rollouts (3 to 4)" in said[1]


def test_figures_of_runs_as_wholes(three):
    found = compare([three], baseline="nft")
    scores = {
        label: sorted(float(r.final.accuracy.mean()) for r in g) for label, g in found.runs.items()
    }
    for level in found.levels:
        assert level.middle.mean == pytest.approx(sum(scores[level.label][1:3]) / 2)
        assert level.middle.low <= level.middle.mean <= level.middle.high
    for d in found.differences:
        wins = [(b > a) + 0.5 * (b == a) for a in scores[d.first] for b in scores[d.second]]
        assert d.improvement.mean == pytest.approx(sum(wins) / 16)
    assert run_table(found).rows[0][-1] == "-"
    assert run_table(found).rows[2][-1].startswith("1.000 [")


def test_tables_fit_into_100_columns(three):
    found = compare([three], baseline="nft")
    for make in (level_table, run_table, cost_table, difference_table):
        table = make(found)
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        assert sum(widths) + 3 * len(widths) + 1 <= 100


def test_p_values_never_round_to_the_level_of_significance():
    shown = [probability(p) for p in (0.0496, 0.0494, 0.05, 0.0504, 0.0004, 1.0, float("nan"))]
    assert shown == ["0.0496", "0.049", "0.050", "0.050", "< 0.001", "1.000", "-"]


def test_significance_after_the_correction_is_marked(three):
    from nft_lightning.compare.figures import against_baseline, curves

    found = compare([three], baseline="nft")
    rows = {row[0]: row for row in difference_table(found).rows}
    assert rows["rft - nft"][-1].endswith(" *")
    assert not rows["grpo - nft"][-1].endswith("*")
    labels = {text.get_text() for text in curves(found).axes[-1].texts}
    assert labels == {"nft", "grpo", "rft *"}
    dots = [line for line in against_baseline(found).axes[1].lines if line.get_marker() == "o"]
    filled = [line.get_markerfacecolor() == line.get_color() for line in dots]
    assert filled == [True, False]  # the best first


def test_a_target_that_some_seeds_miss_gets_no_mean(three):
    found = compare([three], target=0.999)
    assert all(level.tokens_to_target is None for level in found.levels)
    assert "of 4 seeds" in cost_table(found).rows[0][-1]


def test_unequal_conditions_are_refused_and_named(three):
    make_run(three / "other", "dapo", 0, optimizer={"learning_rate": 3e-4})
    with pytest.raises(UserError, match=r"optimizer.learning_rate=.*--may-differ optimizer"):
        compare([three])
    found = compare([three], may_differ=["optimizer.learning_rate"])
    assert "dapo" in found.runs
    assert any("optimizer.learning_rate" in text for text in found.warnings)
    assert found.config_differences["optimizer.learning_rate"].count(3e-4) == 1


def test_runs_of_one_algorithm_are_told_apart_by_what_differs(tmp_path):
    for floor in (0.5, 1.0):
        make_run(tmp_path / str(floor), "nft", 0, options={"negative_floor": floor})
    assert list(compare([tmp_path]).runs) == ["nft negative_floor=0.5", "nft negative_floor=1.0"]


def test_other_problems_are_refused(three):
    make_run(three / "other", "dapo", 0, problem="2+2")
    with pytest.raises(UserError, match="other problems"):
        compare([three])


def test_a_seed_twice_is_refused(three):
    make_run(three / "again", "nft", 2)
    with pytest.raises(UserError, match="repeats nft with seed 2"):
        compare([three])


def test_an_unfinished_run_is_left_out_loudly(three):
    (make_run(three / "short", "nft", 9) / "summary.json").unlink()
    found = compare([three])
    assert [r.seed for r in found.runs["nft"]] == [0, 1, 2, 3]
    assert "has not finished and is left out" in found.warnings[0]


def test_seeds_that_only_one_has_are_not_paired(three):
    make_run(three / "more", "nft", 9)
    found = compare([three], baseline="nft")
    assert found.levels[0].seeds == 5
    assert {d.seeds for d in found.differences} == {4}
    assert any("Seeds differ" in text for text in found.warnings)


def test_versions_that_differ_are_told(three):
    folder = make_run(three / "more", "dapo", 0)
    (folder / "versions.json").write_text(json.dumps({"torch": "2.12", "conditions": "abcd1234"}))
    assert any("versions of torch differ" in text for text in compare([three]).warnings)


def test_the_files_of_two_ranks_are_one_evaluation(tmp_path):
    import pyarrow.parquet as pq

    whole, split = make_run(tmp_path / "a", "nft", 0), make_run(tmp_path / "b", "nft", 0)
    for path in sorted((split / "evaluations").iterdir()):
        table = pq.read_table(path)
        for rank, rows in enumerate((table.slice(0, 28), table.slice(28))):
            pq.write_table(rows, path.with_name(f"{path.stem}_rank{rank}.parquet"))
        path.unlink()
    one, two = (compare([p]).levels[0] for p in (whole, split))
    assert one == two


class Text(HTMLParser):
    """The text of a page, and the tags in it."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags = "", set()
        self.feed(page)

    def handle_starttag(self, tag, _):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_the_report(three, tmp_path, monkeypatch, capsys):
    hostile = "<script>alert(1)</script>$x_{"
    for seed in range(4):
        make_run(three / f"hostile_{seed}", hostile, seed)
    out = tmp_path / "report"
    arguments = (three, "--out", out, "--baseline", "nft", "--title", "A & B")
    code, said, errors = nft_compare(monkeypatch, capsys, *arguments)
    assert code == 0, errors
    assert f"Report: {out / 'report.html'}" in said
    page = Text((out / "report.html").read_text())
    assert "script" not in page.tags
    assert {"svg", "table", "details"} <= page.tags
    assert hostile in page.text
    assert "A & B" in page.text
    # Nothing is fetched: no address but the names of SVG's own vocabulary.
    assert "src=" not in (out / "report.html").read_text()
    for name in ("curves", "against_baseline", "over_runs", "profiles", "pass_at_n", "diagnostics"):
        assert (out / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "currentColor" in (out / f"figures/{name}.svg").read_text()
    numbers = json.loads((out / "comparison.json").read_text())
    assert {v["label"] for v in numbers["levels"]} == {"nft", "grpo", "rft", hostile}
    assert (out / "levels.csv").read_text().count("\n") == 5


def test_one_run_alone_is_reported(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run")
    out = tmp_path / "report"
    code, _, errors = nft_compare(monkeypatch, capsys, tmp_path / "run", "--out", out)
    assert code == 0, errors
    assert "With one seed" in errors
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "RUNS='nowhere' holds no run"),
        (["{runs}", "--baseline", "ppo"], "--baseline='ppo' is not among the runs"),
        (["{runs}", "--target", "7"], "--target=7.0 is no accuracy"),
    ],
)
def test_bad_input_is_one_sentence(three, tmp_path, monkeypatch, capsys, arguments, message):
    out = tmp_path / "out"
    given = [a.format(runs=three) for a in arguments]
    code, _, errors = nft_compare(monkeypatch, capsys, *given, "--out", out)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not out.exists()


def test_a_report_that_can_not_be_written(three, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    code, _, errors = nft_compare(monkeypatch, capsys, three, "--out", tmp_path / "file")
    assert code == 2
    assert "--out=" in errors


def test_tables_escape_what_their_format_reads():
    table = Table(["a|b", "50%"], [["x_1 & y", "1, 2"]])
    assert markdown(table).splitlines()[0] == r"| a\|b | 50% |"
    assert r"x\_1 \& y" in latex(table)
    assert r"50\%" in latex(table)
    assert '"1, 2"' in comma_separated(table)
