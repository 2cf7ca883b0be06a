"""The operator as a user with a number but no name, as in its image; kopf once looked up the name."""

import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from support.kubectl import PATIENCE, eventually
from support.operator_process import PROGRAM

NUMBER = 65532
# The program may be in a directory that only root can read.
AS_NOBODY = ["setpriv", f"--reuid={NUMBER}", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
NAMES = ("USER", "LOGNAME", "LNAME", "USERNAME")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as a user without a name")
def test_operator_leads_as_user_without_name(as_operator: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(NUMBER)
    log = tmp_path / "operator.log"
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [PROGRAM, "run", "--http-port=0", "--log-format=json", "--namespace=default"]
    with log.open("wb") as output:
        operator = subprocess.Popen(
            [*AS_NOBODY, *command],
            env={**environment, "KUBECONFIG": str(as_operator)},
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: '"started"' in log.read_text() or operator.poll() is not None)
    finally:
        operator.send_signal(signal.SIGTERM)
        code = operator.wait(timeout=PATIENCE)
    assert code == 0, log.read_text()
    assert '"stopped"' in log.read_text()
