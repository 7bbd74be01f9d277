"""A real SLURM on this machine, for tests: a controller, two nodes with pretended GPUs, and accounting.

    python tests/slurm/cluster.py up /tmp/s      starts it in a folder of its own; then: . /tmp/s/env
    python tests/slurm/cluster.py down /tmp/s    ends what `up` started and nothing else

It needs root and the packages in PACKAGES, but no systemd and no cgroups. Every file is in the folder, whose path must
be short (a socket's is at most 107 characters). Ports are free ones on the loopback interface; slurmdbd alone listens
on all interfaces, to those who have the cluster's key. CPUs, memory and GPUs of the nodes are pretended: a GPU is a
device file like /dev/null.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = "slurm-wlm munge mariadb-server slurmdbd slurm-wlm-mysql-plugin"
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
NODES = ("n1", "n2")

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=10
SlurmdTimeout=30
GresTypes=gpu
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5,sched_min_interval=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.sock
AccountingStorageTRES=gres/gpu
{nodes}
PartitionName=gpu Nodes=n1,n2 Default=YES MaxTime=1-00:00:00 DefaultTime=10 DefMemPerCPU=1000 State=UP
"""
NODE = """\
NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=64 ThreadsPerCore=1 RealMemory=600000 Gres=gpu:fake:4 Feature=fake State=UNKNOWN"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass=slurm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.txt
"""
# A job step's own `srun` is started without SLURM_CONF.
SRUN = '#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n'


def missing() -> str | None:
    """Why a cluster cannot be started here; None if it can."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install --no-install-recommends {PACKAGES}"
    return None if os.geteuid() == 0 else "starting SLURM needs root"


def up(folder: Path) -> dict[str, str]:
    """Start the cluster in an empty folder; returns the environment for its commands. OSError if it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    env = _configure(folder)
    (folder / "env").write_text("".join(f"export {k}={env[k]}\n" for k in ("SLURM_CONF", "PATH")), encoding="utf-8")
    try:
        _start_daemons(folder, env)
    except OSError:
        down(folder)
        raise
    return env


def down(folder: Path) -> None:
    """Cancel the jobs and end the daemons, the last one first."""
    env = _environment(folder)
    subprocess.run(["scancel", "--user=root"], env=env, check=False, capture_output=True, timeout=30)
    listed = folder / "pids"
    for word in reversed(listed.read_text(encoding="utf-8").split() if listed.exists() else []):
        _end(int(word))
    listed.unlink(missing_ok=True)


def start_node(folder: Path, name: str) -> None:
    """Start a node's daemon."""
    _daemon(folder, _environment(folder), f"slurmd-{name}", "slurmd", "-D", "-N", name)


def _environment(folder: Path) -> dict[str, str]:
    path = os.environ["PATH"].removeprefix(f"{folder}:")
    return os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder}:{path}"}


def _configure(folder: Path) -> dict[str, str]:
    """Write what the daemons read."""
    host = socket.gethostname().split(".")[0]
    ctld, dbd, sql, *ports = _free_ports(3 + len(NODES))
    nodes = "\n".join(NODE.format(name=n, host=host, port=port) for n, port in zip(NODES, ports, strict=True))
    names = {"folder": folder, "host": host, "ctld": ctld, "dbd": dbd, "sql": sql, "nodes": nodes}
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**names), encoding="utf-8")
    (folder / "slurmdbd.conf").touch(mode=0o600)
    (folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**names), encoding="utf-8")
    gpus = f"AutoDetect=off\nName=gpu Type=fake File={folder}/nvidia[0-3]\n"
    (folder / "gres.conf").write_text(gpus, encoding="utf-8")
    for i in range(4):
        os.mknod(folder / f"nvidia{i}", 0o666 | 0o020000, os.makedev(1, 3))
    (folder / "srun").write_text(
        SRUN.format(folder=folder, srun=shutil.which("srun", path="/usr/local/bin:/usr/bin")), encoding="utf-8"
    )
    (folder / "srun").chmod(0o755)
    (folder / "munge").mkdir(mode=0o700)
    (folder / "munge/key").touch(mode=0o400)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "state").mkdir()
    (folder / "sql-port").write_text(str(sql), encoding="utf-8")
    return _environment(folder)


def _start_daemons(folder: Path, env: dict[str, str]) -> None:
    keys = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "log", "seed", "pid")]
    _daemon(folder, env, "munged", "munged", "--foreground", "--force", f"--socket={folder}/munge.sock", *keys)
    _wait(folder, "munged", lambda: (folder / "munge.sock").exists())
    _start_database(folder, env)
    _daemon(folder, env, "slurmdbd", "slurmdbd", "-D")
    _wait(folder, "slurmdbd", lambda: _ask(env, "sacctmgr", "-n", "list", "cluster") is not None)
    for what in (["cluster", "test"], ["account", "lab"], ["user", "root", "account=lab"]):
        subprocess.run(["sacctmgr", "-iQ", "add", *what], env=env, check=True, capture_output=True)
    _daemon(folder, env, "slurmctld", "slurmctld", "-D")
    for name in NODES:
        start_node(folder, name)
    idle = "\n".join(f"{name} idle" for name in NODES)
    _wait(folder, "slurmctld", lambda: _ask(env, "sinfo", "-hN", "-o", "%N %T") == idle)


def _start_database(folder: Path, env: dict[str, str]) -> None:
    data, sock = f"--datadir={folder}/sql", f"--socket={folder}/sql.sock"
    make = ["mariadb-install-db", "--no-defaults", "--user=root", data, "--auth-root-authentication-method=normal"]
    subprocess.run([*make, "--skip-test-db"], check=True, capture_output=True)
    port = (folder / "sql-port").read_text(encoding="utf-8")
    where = ["--bind-address=127.0.0.1", f"--port={port}", f"--pid-file={folder}/sql.pid"]
    quick = "--innodb-flush-log-at-trx-commit=0"
    _daemon(folder, env, "mariadbd", "mariadbd", "--no-defaults", "--user=root", data, sock, *where, quick)
    client = ["mariadb", "--no-defaults", sock, "-uroot", "-e"]
    _wait(folder, "mariadbd", lambda: _ask(env, *client, "SELECT 1") is not None)
    grants = "CREATE USER slurm@'%' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct_db.* TO slurm@'%'"
    subprocess.run([*client, grants], check=True, capture_output=True)


def _daemon(folder: Path, env: dict[str, str], name: str, program: str, *words: str) -> None:
    """Start a program in a session of its own and remember its number."""
    with open(folder / f"{name}.txt", "ab") as log:
        found = shutil.which(program) or program
        process = subprocess.Popen(
            [found, *words], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    with open(folder / "pids", "a", encoding="utf-8") as file:
        file.write(f"{process.pid}\n")


def _wait(folder: Path, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a daemon answers; OSError with the end of its log if it does not."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            tail = (folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise OSError(f"{name} did not come up in {folder}:\n{tail}")
        time.sleep(0.1)


def _ask(env: dict[str, str], *words: str) -> str | None:
    """A command's answer; None if it failed."""
    done = subprocess.run(words, env=env, check=False, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else None


def _end(pid: int) -> None:
    """End a process, by force after ten seconds, and wait for it."""
    for number, patience in ((signal.SIGTERM, 100), (signal.SIGKILL, 50)):
        for attempt in range(patience):
            try:
                if attempt == 0:
                    os.kill(pid, number)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:  # started by another process, as `down` on the command line finds it
                if not Path(f"/proc/{pid}").exists():
                    return
            except ProcessLookupError:
                return
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    if sys.argv[1:2] not in (["up"], ["down"]) or len(sys.argv) != 3:
        sys.exit(__doc__)
    if why := missing():
        sys.exit(why)
    {"up": up, "down": down}[sys.argv[1]](Path(sys.argv[2]).resolve())
