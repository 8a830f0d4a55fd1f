"""Memory limits of containers, space on the disk, and forks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tifffile

from tfflowdn import Denoiser, ResNetDenoiser, data
from tfflowdn.data import memory, picture_pool

GIB = 2**30


def _group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A machine of 64 GiB; the control groups of this process are in the folder."""

    class Free:
        available = 64 * GIB

    monkeypatch.setattr(memory.psutil, "virtual_memory", Free)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_CGROUPS_OF_PROCESS", tmp_path / "cgroup")
    return tmp_path


def test_without_groups_the_machine_is_the_limit(groups):
    assert data.free_memory() == 64 * GIB
    (groups / "cgroup").write_text("0::/\n")
    assert data.free_memory() == 64 * GIB


@pytest.mark.parametrize("path", ["/", "/pod/one", "/of/the/host"])
def test_version_2(groups, path):
    (groups / "cgroup").write_text(f"0::{path}\n")
    statistics = f"anon 5\ninactive_file {GIB}\nslab 7\n"
    numbers = {"memory__max": f"{4 * GIB}\n", "memory__current": f"{3 * GIB}\n"}
    _group(groups, **numbers, memory__stat=statistics)
    _group(groups / "pod" / "one", memory__max="max\n", memory__current="5\n")
    assert data.free_memory() == 2 * GIB
    with pytest.raises(ValueError, match="3.0 GiB are needed, while 2.0 GiB are free"):
        data.check_fits((3, GIB), np.uint8)


def test_version_1(groups):
    (groups / "cgroup").write_text("5:cpu:/x\n4:memory:/docker/1\n")
    numbers = {"memory__limit_in_bytes": str(2 * GIB)}
    inner = groups / "memory" / "docker" / "1"
    _group(inner, **numbers, memory__usage_in_bytes=str(3 * GIB))
    assert data.free_memory() == 0
    _group(inner, memory__stat=f"inactive_file 1\ntotal_inactive_file {2 * GIB}\n")
    assert data.free_memory() == GIB


def _full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_a_large_result_on_a_full_disk_cannot_be_written(tmp_path, monkeypatch, name):
    source, target = tmp_path / name, tmp_path / "out" / name
    target.parent.mkdir()
    pixels = np.zeros((2, 12, 10), np.uint16)
    if name == "a.npy":
        np.save(source, pixels)
    else:
        tifffile.imwrite(source, pixels, photometric="minisblack")
    monkeypatch.setattr(memory, "is_large", lambda _: True)
    monkeypatch.setattr(os, "posix_fallocate", _full)
    with pytest.raises(OSError, match="must have room for a.*No space left"):
        data.map_pages(source, target, np.copyto)
    assert not list(target.parent.iterdir())


def test_a_file_system_without_reservations_is_used(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    array = memory.mapped_array((3, 2), np.uint8, tmp_path)
    array[:] = 5
    assert array.sum() == 30 and not list(tmp_path.iterdir())


def test_a_fork_of_a_process_that_used_models_is_refused():
    code = """
import os
from tfflowdn import devices

def code_of_fork():
    if os.fork() == 0:
        try:
            devices.check_not_forked()
        except RuntimeError as error:
            os._exit(7 if "spawn" in str(error) else 1)
        os._exit(8)
    return os.waitstatus_to_exitcode(os.wait()[1])

assert code_of_fork() == 8
devices.check_not_forked()
assert code_of_fork() == 7
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def _peaks(folder, num_pages, network):
    """Returns the peak memory of Python in bytes, in training and in use."""
    path, shape = folder / f"{num_pages}.npy", (num_pages, 256, 256)
    np.lib.format.open_memmap(path, "w+", np.uint16, shape).flush()
    tracemalloc.start()
    source = data.open_source(str(path), channels=1, axes="ZYX")
    crops = data.RandomCrops(source, crop_size=16, batch_size=8)
    for _ in crops().take(2):
        pass
    peaks = [tracemalloc.get_traced_memory()[1]]
    tracemalloc.reset_peak()
    denoiser = Denoiser(network, max_pixels=256**2)
    data.map_array(
        path,
        path.with_suffix(".result.npy"),
        lambda array, out: denoiser(array, axes="ZYX", out=out),
    )
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    return np.array(peaks)


def test_memory_stays_flat_for_a_stack(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "is_large", lambda num_bytes: num_bytes > 2**19)
    monkeypatch.setattr(picture_pool, "is_large", lambda _: True)
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2)
    _peaks(tmp_path, 1, network)  # Imports, and the trace of the network.
    few, many = (_peaks(tmp_path, count, network) for count in (4, 24))
    assert (many - few).max() < 8 * 256**2 * 2
