"""Each flag and callback of Lightning's under a Trainer of one's own: training is the same, or one
sentence says why not. The page's tables are made of the same lists.
"""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import CSVLogger

from nft_lightning import (
    TOPR,
    ArithmeticProblems,
    EvaluationConfig,
    ExactVerifier,
    PolicyModule,
    RolloutDataModule,
    UserError,
    load_policy,
)
from nft_lightning.training.own_trainer import CALLBACKS, FLAGS
from tests.end_to_end.lightning_table import all_callbacks, all_flags
from tests.front import own_flags as own

pytestmark = pytest.mark.slow


class Losses(L.Callback):
    """Keeps what each update lost, and how often there was an evaluation."""

    def __init__(self):
        self.updates, self.evaluations = [], 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.updates.append(float(outputs["loss"]))

    def on_validation_end(self, trainer, pl_module):
        self.evaluations += 1


@pytest.fixture(autouse=True)
def settings_of_the_process(tmp_path, monkeypatch):
    """Flags such as ``deterministic`` outlive the Trainer; some callbacks write where they are."""
    monkeypatch.chdir(tmp_path)
    yield
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.benchmark = False


def parts():
    policy = load_policy("tiny")
    # Wrong answers teach TOPR too: eight tokens rarely hold a right one.
    data = RolloutDataModule(
        policy,
        ArithmeticProblems(),
        ExactVerifier(),
        prompt_template="equals",
        evaluation=EvaluationConfig(problems=2, completions_per_problem=2),
        problems_per_rollout=4,
        completions_per_problem=4,
        updates_per_rollout=2,
        max_new_tokens=8,
    )
    return PolicyModule(policy, TOPR(), learning_rate=2e-4), data


def fit(*more, **flags):
    """Train two small epochs; return the module and what was seen."""
    seen = Losses()
    module, data = parts()
    given = {"accelerator": "cpu", "max_epochs": 2, "callbacks": [seen, *more]}
    if "barebones" not in flags:
        given |= {"logger": CSVLogger("logs"), "num_sanity_val_steps": 0, "enable_progress_bar": False}
        given |= {"enable_model_summary": False}
    L.Trainer(**{**given, **flags}).fit(module, data)
    return module, seen


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("plain"))
        module, seen = fit()
    assert len(set(seen.updates)) == 4
    return module, seen


def test_every_flag_and_callback_has_its_place():
    """A new one of Lightning's is named here: try it, and say in a table what becomes of it."""
    assert sorted([*own.FLAGS, *own.PLACES, *own.REFUSED]) == all_flags()
    assert sorted([*own.CALLBACKS, *own.REFUSED_CALLBACKS], key=str.lower) == all_callbacks()
    assert own.REFUSED.keys() == FLAGS.keys()
    assert own.REFUSED_CALLBACKS.keys() == CALLBACKS.keys()


WORKING = [(name, value) for name, (values, _) in own.FLAGS.items() for value in values]
EVALUATIONS = {
    ("val_check_interval", 1): 4,
    ("val_check_interval", 0.5): 4,
    ("num_sanity_val_steps", 1): 3,
    ("num_sanity_val_steps", -1): 3,
    ("fast_dev_run", True): 1,
    ("max_steps", 3): 1,
}


@pytest.mark.parametrize(("name", "value"), WORKING)
def test_a_flag_works(name, value, plain):
    module, seen = fit(**{name: value})
    updates = {"max_steps": 3, "fast_dev_run": 1}.get(name, 4)
    assert seen.updates == plain[1].updates[:updates]
    assert module.policy_version == updates
    assert seen.evaluations == EVALUATIONS.get((name, value), 2)


def test_evaluations_can_be_fewer_or_none(plain):
    for flags, count in (({"check_val_every_n_epoch": 2}, 1), ({"limit_val_batches": 0}, 0)):
        _, seen = fit(**flags)
        assert seen.evaluations == count
        assert seen.updates == plain[1].updates


@pytest.mark.parametrize("name", own.CALLBACKS)
def test_a_callback_works(name, plain):
    options = dict(own.CALLBACKS[name])
    if name == "ThroughputMonitor":
        options["batch_size_fn"] = lambda batch: max(1, len(getattr(batch, "micro_batches", ())))
    module, seen = fit(getattr(callbacks, name)(**options), enable_progress_bar="Bar" in name)
    assert seen.updates == plain[1].updates
    assert (module.policy_version, seen.evaluations) == (4, 2)


def test_the_average_is_what_remains(plain, tmp_path):
    """The policy ends as the average, and that is what is written."""
    module, _ = fit(callbacks.EMAWeightAveraging(decay=0.5))
    module.save_pretrained(tmp_path / "average")
    last = dict(plain[0].policy.named_parameters())
    written = dict(load_policy(str(tmp_path / "average")).named_parameters())
    for name, weight in module.policy.named_parameters():
        assert torch.equal(written[name], weight), name
    assert any(not torch.equal(weight, last[name]) for name, weight in module.policy.named_parameters())


VALUES = [(name, value) for name, values in own.REFUSED.items() for value in values]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_a_flag_is_refused(name, value):
    with pytest.raises(UserError) as error:
        fit(**{name: value})
    problem, remedy = FLAGS[name]
    assert str(error.value) == f"Trainer({name})={value!r} {problem}: {remedy}."


@pytest.mark.parametrize("name", own.REFUSED_CALLBACKS)
def test_a_callback_is_refused(name):
    made = type("Own", (getattr(callbacks, name),), {"__abstractmethods__": frozenset()})
    with pytest.raises(UserError) as error:
        fit(made(**own.REFUSED_CALLBACKS[name]))
    refusal = CALLBACKS[name]
    assert str(error.value) == f"Trainer(callbacks)='Own' {refusal.problem}: {refusal.in_script}."
