"""Loggers that a resumed run cuts back."""

from __future__ import annotations

from lightning.pytorch.loggers import CSVLogger

from nft_lightning.checkpoints.resumable_logger import resumable
from nft_lightning.records.loggers import MetricsTable


def test_two_loggers_of_one_class_are_kept_apart(tmp_path):
    one, two = MetricsTable(str(tmp_path / "one")), MetricsTable(str(tmp_path / "two"))
    found = resumable([one, CSVLogger(str(tmp_path)), two])
    assert found == {"MetricsTable": one, "MetricsTable 2": two}
    two.log_metrics({"a": 1.0}, step=1)
    two.save()
    assert [logger.position()["updates"] + logger.position()["metrics"] for logger in (one, two)] == [
        0,
        1,
    ]
    two.cut(one.position())
    assert two.position() == one.position()
