"""Files that are written completely or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from tfflowdn import checks, files


def _temporaries(folder):
    return sorted(folder.glob(".tmp*"))


def test_replace_returns_the_result_and_leaves_one_file(tmp_path):
    path = tmp_path / "a.txt"
    assert files.replace(path, lambda file: file.write_text("seven")) == 5
    assert path.read_text() == "seven" and list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path):
    names = []
    files.replace(tmp_path / "a.keras", lambda file: names.append(file.name))
    assert names[0].startswith(".") and names[0].endswith(".keras")


@pytest.mark.parametrize("name", [251 * "a" + ".png", 255 * "b", "c." + 253 * "d"])
def test_a_name_of_255_bytes_can_be_written(tmp_path, name):
    files.replace(tmp_path / name, lambda file: file.write_text("x"))
    assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failed_write_changes_nothing(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(file):
        file.write_text("half")
        raise error

    with pytest.raises(error):
        files.replace(path, fail)
    assert path.read_text() == "old" and not _temporaries(tmp_path)


def test_threads_and_processes_never_share_a_temporary_file(tmp_path):
    path, names = tmp_path / "a.txt", []
    barrier = threading.Barrier(4)

    def write(file):
        names.append(file.name)
        barrier.wait(timeout=60)

    threads = [
        threading.Thread(target=files.replace, args=(path, write)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 4
    assert all(str(os.getpid()) in name for name in names)


def test_temporary_files_of_dead_processes_are_deleted(tmp_path):
    dead = multiprocessing.get_context("spawn").Process(target=int)
    dead.start()
    dead.join()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as alive:
        own = files._temporary_name(".txt")
        of_dead = own.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        of_alive = own.replace(f"-{os.getpid()}-", f"-{alive.pid}-")
        of_earlier_run = own.replace(files._RUN, "0" * len(files._RUN))
        of_other_machine = of_dead.replace(files._HOST, "0" * len(files._HOST))
        foreign = f".tmp.{files._HOST}-x.txt"
        kept = [own, of_alive, of_other_machine, foreign]
        for name in (*kept, of_dead, of_earlier_run):
            (tmp_path / name).touch()
        files.replace(tmp_path / "a.txt", lambda file: file.write_text("x"))
        alive.communicate(b"\n")
    assert {file.name for file in _temporaries(tmp_path)} == set(kept)


def test_check_choice_names_the_choices():
    checks.check_choice("color", "red", {"red": 1, "blue": 2})
    message = r"color must be one of \('red', 'blue'\)\. Received: color='green'\."
    with pytest.raises(ValueError, match=message):
        checks.check_choice("color", "green", {"red": 1, "blue": 2})


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_check_probability_refuses_what_is_not_within_0_and_1(value):
    checks.check_probability("share", 1.0)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]\. Received: "):
        checks.check_probability("share", value)


def test_json_has_no_numbers_that_are_not_finite():
    value = {"a": [1.5, float("nan"), (float("inf"), "x")], "b": {"c": -float("inf")}}
    text = files.json_text(value)
    expected = {"a": [1.5, None, [None, "x"]], "b": {"c": None}}
    assert json.loads(text) == expected and "NaN" not in text
