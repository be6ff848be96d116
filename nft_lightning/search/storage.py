"""Where a study is kept, and trials that a process left behind in it."""

from __future__ import annotations

import logging
import os
import re
import socket
import time

import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from nft_lightning.errors import UserError, first_line

log = logging.getLogger(__name__)
TRIES = 3


def storage_of(given: str | None) -> optuna.storages.BaseStorage | None:
    """Optuna's storage: a database by its address, or one file that several hosts append to.

    Raises:
        UserError: it cannot be opened.
    """
    if given is None:
        return None
    try:
        if given.startswith("journal:"):
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(given.removeprefix("journal:")))
        return database(given)
    except Exception as error:  # whatever the database's driver raises
        reason = first_line(error)
        raise UserError(
            "hydra.sweeper.storage",
            re.sub(r"://([^:/@]+):[^@]*@", r"://\1:***@", given),
            f"cannot be used ({reason})",
            "use sqlite:///FILE, postgresql+psycopg://USER@HOST/NAME or journal:FILE",
        ) from error


def database(address: str) -> optuna.storages.BaseStorage:
    """Return a database's storage. Processes that meet in a new one race to make its tables; losers
    retry.
    """
    for _ in range(TRIES):
        try:
            return optuna.storages.RDBStorage(address)
        except sqlalchemy.exc.DBAPIError:
            time.sleep(1.0)
    return optuna.storages.RDBStorage(address)


def close_abandoned(study: optuna.Study) -> None:
    """Record trials as failed that a process of this host left behind when it died."""
    host = socket.gethostname()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner, _, pid = str(trial.user_attrs.get("process", "")).rpartition(":")
        if owner == host and not alive(int(pid)):
            study.tell(trial.number, state=TrialState.FAIL)
            log.warning("trial %d was left behind by process %s and counts as failed", trial.number, pid)


def alive(pid: int) -> bool:
    """Does that process of this host exist?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
