from __future__ import annotations

import pytest

from tests.browse.made import make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("browse") / "run")
