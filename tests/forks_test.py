"""Forks are processes of their own, like the processes of `subprocess`."""

from __future__ import annotations

import os
import signal
import time

import forks

SCRIPT = """
import os, sys
loaded = "tensorflow" in sys.modules
print(sys.argv[1:], os.getcwd(), os.environ["A"], __name__, loaded, flush=True)
print("error", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_a_fork_has_arguments_folder_environment_and_exit_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "A": "b"}
    done = forks.run([script, "3", "x"], cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert done.stdout == f"['3', 'x'] {tmp_path} b __main__ True\n"
    assert done.stderr == "error\n"
    assert "A" not in os.environ
    done = forks.run([script, "no number"], cwd=tmp_path, env=env)
    assert done.returncode == 1 and "ValueError" in done.stderr


def test_a_fork_can_be_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import time; open('began', 'w').close(); time.sleep(600)")
    fork = forks.Fork([script], cwd=tmp_path)
    while not (tmp_path / "began").exists():
        assert fork.poll() is None
        time.sleep(0.01)
    fork.kill()
    assert fork.communicate() == ("", "")
    assert fork.returncode == -signal.SIGKILL
