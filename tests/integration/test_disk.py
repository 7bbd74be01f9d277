"""A disk that is full or read-only: one clear line, exit code 1, whole files only; with room again, the result."""

import os
import subprocess

import pytest

from helpers import steps

BLOCK = 4096


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MB."""
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path / "disk"], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def fill(disk, free):
    """Write a file that leaves so many bytes, in whole blocks, free."""
    space = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(space.f_bavail * space.f_frsize - int(free) // BLOCK * BLOCK))


def refused(name, made, out, why):
    """Run a step that cannot write: it says so in its last line, and leaves nothing half-written."""
    ended = steps.run(name, made, out)
    said = ended.said.strip().splitlines()[-1]
    assert ended.code == 1, ended.said
    assert "Traceback" not in ended.said
    assert said.startswith(f"{name}: {out}/")
    assert said.endswith(f": cannot be written: {why}. Fix this and start again.")
    found, whole = steps.results(out), steps.results(made / name)
    assert found == {file: whole.get(file) for file in found}


@pytest.mark.parametrize("share", [0.0, 0.5])  # of the room that the results need
@pytest.mark.parametrize("name", steps.NAMES)
def test_a_full_disk(made, disk, name, share):
    made = made[0]
    whole, out = steps.results(made / name), disk / "out"
    out.mkdir()
    fill(disk, share * sum(file.stat().st_size for file in (made / name).rglob("*")))
    refused(name, made, out, "No space left on device")
    assert not [path.name for path in out.rglob("*") if path.name == "lock" or path.name.endswith(".tmp")]
    (disk / "ballast").unlink()
    assert steps.run(name, made, out).code == 0
    assert steps.results(out) == whole


@pytest.mark.parametrize("name", steps.NAMES)
def test_a_read_only_disk(made, disk, name):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    refused(name, made[0], disk, "Read-only file system")
    assert not list(disk.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
@pytest.mark.parametrize("name", steps.NAMES)
def test_a_folder_of_others(made, tmp_path, name):
    (tmp_path / "out").mkdir(mode=0o555)
    refused(name, made[0], tmp_path / "out", "Permission denied")
