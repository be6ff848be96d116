"""Flags and callbacks of Lightning: each works and leaves training alone, or a sentence says why not."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file

from nft_lightning.app import run as running
from nft_lightning.app.lightning_use import REFUSED_CALLBACKS, REFUSED_FLAGS
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.errors import UserError
from tests.end_to_end import lightning_table as table

pytestmark = pytest.mark.slow
TINY = (
    "rollout.problems_per_rollout=4",
    "rollout.completions_per_problem=4",
    "rollout.max_new_tokens=8",
    "evaluation.problems=2",
    "evaluation.completions_per_problem=2",
    "evaluation.every_epochs=1",
    "batching.updates_per_rollout=2",
    "trainer.max_epochs=2",
    # Wrong answers teach it too: eight tokens rarely hold a right one.
    "algorithm=topr",
    "verifier=exact",
    "callbacks=none",
    "logger=csv",
)


@pytest.fixture(autouse=True)
def settings_of_the_process():
    """Flags such as ``deterministic`` outlive the run."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.benchmark = False


@pytest.fixture
def run_in(compose_config):
    def run(folder, *overrides):
        summary = running.run(compose_config(f"run_dir={folder}", *TINY, *overrides))
        return summary, losses(folder)

    return run


def losses(folder):
    path = folder / "updates.csv"
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {row["step"]: row["update/loss"] for row in csv.DictReader(file) if row["update/loss"]}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The losses of a run without any of them."""
    from hydra import compose, initialize_config_dir

    from nft_lightning.app.build import CONF_DIR

    folder = tmp_path_factory.mktemp("plain") / "run"
    with initialize_config_dir(str(CONF_DIR.resolve())):
        cfg = compose("train", [f"run_dir={folder}", *TINY])
    running.run(cfg)
    found = losses(folder)
    assert len(found) == 4
    assert len(set(found.values())) == 4
    return found


def test_every_flag_and_callback_has_its_place():
    """A new one of Lightning's is named here: try it, and say in a table what becomes of it."""
    flags = [*table.FLAGS, *REFUSED_FLAGS, *table.PLACES]
    assert sorted(flags) == table.all_flags()
    assert sorted([*table.CALLBACKS, *REFUSED_CALLBACKS], key=str.lower) == table.all_callbacks()


def test_the_page_says_so():
    page = table.PAGE.read_text()
    assert table.written(page) == page, "run: python -m tests.end_to_end.lightning_table"


VALUES = [(name, value) for name, (values, _) in table.FLAGS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_a_flag_works(tmp_path, run_in, plain, name, value):
    summary, found = run_in(tmp_path, f"++trainer.{name}={value}")
    ends = {"max_steps": 3, "fast_dev_run": 1}
    assert summary["updates"] == ends.get(name, 4)
    if name == "fast_dev_run":
        assert found == {}  # Lightning leaves out the loggers
    elif name == "log_every_n_steps":
        assert found == {step: plain[step] for step in ("1", "3")}
    else:
        assert found == dict(list(plain.items())[: summary["updates"]])


@pytest.mark.parametrize("name", table.CALLBACKS)
def test_a_callback_works(tmp_path, run_in, plain, name):
    options = table.CALLBACKS[name][0].replace("RUN", str(tmp_path))
    node = f"{{_target_:lightning.pytorch.callbacks.{name}{',' if options else ''}{options}}}"
    summary, found = run_in(tmp_path, f"+callbacks.stock={node}")
    assert (summary["updates"], summary["ended_by"]) == (4, "max_epochs")
    assert found == plain


@pytest.mark.parametrize("name", REFUSED_FLAGS)
def test_a_flag_is_refused(tmp_path, run_in, name):
    with pytest.raises(UserError, match=rf"trainer\.{name}=") as error:
        run_in(tmp_path, f"++trainer.{name}=1")
    assert REFUSED_FLAGS[name][1] in str(error.value)


@pytest.mark.parametrize("name", REFUSED_CALLBACKS)
def test_a_callback_is_refused(tmp_path, run_in, name):
    with pytest.raises(UserError, match=r"callbacks\.stock=") as error:
        run_in(tmp_path, f"+callbacks.stock._target_=lightning.pytorch.callbacks.{name}")
    assert REFUSED_CALLBACKS[name][1] in str(error.value)


def test_two_progress_bars_are_refused(tmp_path, run_in):
    ours = "+callbacks.progress._target_=nft_lightning.callbacks.progress.Progress"
    theirs = "+callbacks.bar._target_=lightning.pytorch.callbacks.RichProgressBar"
    for second in (theirs, "++trainer.enable_progress_bar=true"):
        with pytest.raises(UserError, match=r"callbacks\.progress=null"):
            run_in(tmp_path, ours, second)


def test_the_monitor_sees_the_schedule(tmp_path, run_in):
    monitor = "+callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor"
    run_in(tmp_path, monitor, "optimizer.schedule=linear", "optimizer.learning_rate=1e-4")
    with open(tmp_path / "updates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    used = [float(row["update/learning_rate"]) for row in rows if row["update/learning_rate"]]
    assert used == pytest.approx([1e-4, 0.75e-4, 0.5e-4, 0.25e-4])
    # Weights that decay and those that do not are two groups.
    names = [key for key in rows[0] if key.startswith("lr-")]
    assert len(names) == 2
    for name in names:
        assert [float(row[name]) for row in rows if row[name]] == used


def test_a_checkpoint_of_lightnings_holds_what_ours_holds(tmp_path, run_in):
    monitored = "monitor:eval/avg_at_2,mode:max,dirpath:" + str(tmp_path / "theirs")
    run_in(
        tmp_path,
        f"+callbacks.stock={{_target_:lightning.pytorch.callbacks.ModelCheckpoint,{monitored},save_last:true,save_top_k:-1}}",
    )
    found = read_checkpoint(tmp_path / "theirs" / "last.ckpt")
    assert found["updates_done"] == 4
    assert found["lr_schedulers"][0]["last_epoch"] == 4


def test_a_failing_run_leaves_the_checkpoint_of_its_exception(tmp_path, run_in):
    callback = "lightning.pytorch.callbacks.OnExceptionCheckpoint"
    failing = "on_train_epoch_end:{_target_:tests.end_to_end.test_lightning.fail,_partial_:true}"
    with pytest.raises(ZeroDivisionError):
        run_in(
            tmp_path,
            f"+callbacks.failing={{_target_:lightning.pytorch.callbacks.LambdaCallback,{failing}}}",
            f"+callbacks.stock={{_target_:{callback},dirpath:{tmp_path / 'exceptions'}}}",
        )
    assert read_checkpoint(tmp_path / "exceptions" / "on_exception.ckpt")["updates_done"] == 2


def fail(*_: object) -> None:
    raise ZeroDivisionError


def test_the_average_is_what_is_kept(tmp_path, run_in):
    averaging = "+callbacks.average={_target_:lightning.pytorch.callbacks.EMAWeightAveraging,decay:0.5}"
    export = "+callbacks.export._target_=nft_lightning.callbacks.export.HuggingFaceExport"
    folder = tmp_path / "averaged"
    kept = "_target_:nft_lightning.checkpoints.callback.Checkpoints,monitor:eval/avg_at_2"
    run_in(folder, averaging, export, f"+callbacks.checkpoint={{{kept},run_dir:{folder}}}")
    run_in(tmp_path / "plain", export)
    averaged, plain = (
        load_file(tmp_path / n / "export/model.safetensors") for n in ("averaged", "plain")
    )
    state = read_checkpoint(folder / "checkpoints" / "last")["state_dict"]
    assert all(torch.equal(v, state[f"policy.model.{k}"]) for k, v in averaged.items())
    assert any(not torch.equal(v, plain[k]) for k, v in averaged.items())
