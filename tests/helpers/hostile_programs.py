"""Programs that try to pass without solving, to harm, or to get out. The problem: f(x) returns x + 1.

Each has a name, its text, and what it is counted as: a word of `tried`, or "" for an ordinary failure. {secret} is a
file of the parent with the right answers, {outside} a path that it tries to write, {parent} the parent's process id.
"""

RIGHT = "def f(x):\n    return x + 1\n"

# A class whose values equal everything.
EQUAL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
def f(x): return Equal()
"""
# Messages in the form of the protocol, written to every descriptor that a process could have.
IMITATE = """
import json, os
def send(message):
    body = json.dumps(message).encode()
    for descriptor in range(3, 40):
        try:
            os.write(descriptor, len(body).to_bytes(4, 'big') + body)
        except OSError:
            pass
"""

PROGRAMS = {
    # Ends early.
    "exit": ("exit()", "exit"),
    "quit": ("quit(0)", "exit"),
    "sys_exit_in_the_function": ("import sys\ndef f(x):\n    sys.exit(0)", "exit"),
    "raise_system_exit": ("raise SystemExit", "exit"),
    "raise_system_exit_zero_in_the_function": ("def f(x):\n    raise SystemExit(0)", "exit"),
    "os_exit": ("import os\nos._exit(0)", "exit"),
    "os_exit_in_the_function": ("import os\ndef f(x):\n    os._exit(0)", "exit"),
    "kill_itself": (
        "import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n    return x + 1", "signal"),
    "crash_in_c": ("import ctypes\ndef f(x):\n    return ctypes.string_at(0)", "exit"),
    "exit_at_exit": ("import atexit, os\natexit.register(os._exit, 0)\nraise KeyboardInterrupt", ""),
    # Fakes an answer.
    "print_passed": ("print('passed')\nprint('{\"value\": 2}')\ndef f(x):\n    print(x + 1)", ""),
    "equal_to_everything": (EQUAL.format(base=""), "equality"),
    "integer_equal_to_everything": (EQUAL.format(base="(int)"), "equality"),
    "list_equal_to_everything": (EQUAL.format(base="(list)"), "equality"),
    "string_equal_to_everything": (EQUAL.format(base="(str)"), "equality"),
    "answers_before_the_questions": (
        IMITATE + "for value in (2, 3, 11):\n    send({{'value': value, 'tried': [], 'id': 'x'}})\ndef f(x): return 0",
        "forged"),
    "says_that_the_tests_passed": (IMITATE + "def f(x):\n    send({{'passed': True}})\n    return 0", "forged"),
    "an_endless_message": (
        "import os\ndef f(x):\n    for n in range(3, 40):\n        try: os.write(n, b'\\xff' * 100)\n"
        "        except OSError: pass\n    return 0", "forged"),
    "no_json": (
        "import os\ndef f(x):\n    for n in range(3, 40):\n        try: os.write(n, b'\\0\\0\\0\\4' + b'[[[[')\n"
        "        except OSError: pass\n    return 0", "forged"),
    "answers_of_another_type": ("def f(x):\n    return [x + 1]", ""),
    "a_huge_answer": ("def f(x):\n    return 'x' * 10_000_000", ""),
    "a_deep_answer": ("def f(x):\n    one = []\n    for _ in range(10_000): one = [one]\n    return one", ""),
    "a_circular_answer": ("def f(x):\n    one = []\n    one.append(one)\n    return one", ""),
    "close_standard_output": ("import os, sys\nsys.stdout.close()\nos.close(1)\ndef f(x): return 0", ""),
    "close_every_descriptor": ("import os\ndef f(x):\n    os.closerange(0, 64)\n    return x + 1", "exit"),
    # Changes what checks it.
    "replace_the_encoder": (
        "import json, sys\njson.dumps = lambda *a, **k: '{{\"value\": 2}}'\n"
        "for name in ('values', 'candidate', 'frames'):\n    module = sys.modules.get(name)\n"
        "    if module: module.encode = lambda *a: 2\ndef f(x): return 0", "forged"),
    "replace_builtins": (
        "import builtins\nbuiltins.bool = builtins.all = builtins.isinstance = lambda *a: True\n"
        "builtins.int = type('int', (), {{'__eq__': lambda *a: True}})\ndef f(x): return 0", "exit"),
    "search_the_frames": (
        "import gc, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in frame.f_locals.values():\n"
        "            if isinstance(value, dict) and 'expected' in value: return value['expected']\n"
        "        frame = frame.f_back\n    for one in gc.get_objects():\n"
        "        if isinstance(one, dict) and 'expected' in one: return one['expected']\n    return 0",
        "introspection"),
    "trace_the_process": (
        "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return x + 1", "introspection"),
    # Starts something.
    "fork_bomb": (
        "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: break\n"
        "    return x + 1",
        "process"),
    "fork_a_double": (
        "import os\ndef f(x):\n    try: os.fork()\n    except OSError: pass\n    return x + 1", "process"),
    "subprocess": (
        "import subprocess\ndef f(x):\n    try: return int(subprocess.check_output(['expr', str(x), '+', '1']))\n"
        "    except OSError: return x + 1", "process"),
    "shell": ("import os\ndef f(x):\n    os.system('touch {outside}')\n    return x + 1", "process"),
    "threads": (
        "import threading\ndef f(x):\n    try:\n        while True: threading.Thread(target=lambda: None).start()\n"
        "    except RuntimeError: pass\n    return x + 1", "thread"),
    "signal_the_parent": (
        "import os\ndef f(x):\n    for pid in ({parent}, 1, os.getppid(), -1):\n"
        "        try: os.kill(pid, 15)\n        except OSError: pass\n    return x + 1", "signal"),
    "ignore_all_signals": (
        "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef f(x):\n    while True: pass", ""),
    # Takes what there is.
    "list_of_4_gib": ("def f(x):\n    one = [0] * (1 << 29)\n    return x + 1", "memory"),
    "strings_without_end": ("def f(x):\n    one = ['x']\n    while True: one.append(one[-1] * 2)", "memory"),
    "shared_memory": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    one = libc.shmget(0, 1 << 30, 0o1600)\n"
        "    return x + 1 if one < 0 else 0", "native"),
    "fill_the_disk": (
        "import os\ndef f(x):\n    for path in ('big', '/tmp/big', '/dev/shm/big', '{outside}'):\n        try:\n"
        "            with open(path, 'wb') as file:\n                while True: file.write(bytes(1 << 20))\n"
        "        except OSError: pass\n    return x + 1", "files"),
    "infinite_loop": ("def f(x):\n    while True: pass", ""),
    "infinite_loop_in_c": ("def f(x):\n    return sum(iter(int, 1))", ""),
    "infinite_loop_while_loading": ("while True: pass", ""),
    "endless_power": ("def f(x):\n    return len(str(9 ** 9 ** 9))", ""),
    "sleep": ("import time\ndef f(x):\n    time.sleep(1000)\n    return x + 1", "sleep"),
    "sleep_otherwise": ("import select\ndef f(x):\n    select.select([], [], [], 1000)\n    return x + 1", "sleep"),
    # Looks around, or writes outside.
    "read_the_answers": ("def f(x):\n    return eval(open('{secret}').read())[x]", "files"),
    "read_proc": (
        "import os\ndef f(x):\n    for pid in [{parent}, os.getppid(), 'self']:\n        try:\n"
        "            text = open(f'/proc/{{pid}}/environ').read() + open(f'/proc/{{pid}}/maps').read()\n"
        "        except OSError: pass\n    return x + 1", "files"),
    "list_folders": ("import os\ndef f(x):\n    return [os.listdir('/'), x + 1][1]", "files"),
    "write_outside": (
        "def f(x):\n    try: open('{outside}', 'w').write('x')\n    except OSError: pass\n    return x + 1", "files"),
    "socket": (
        "import socket\ndef f(x):\n    try: socket.create_connection(('127.0.0.1', 9), 1)\n"
        "    except OSError: pass\n    return x + 1", "network"),
    "local_socket": (
        "import socket\ndef f(x):\n    try: socket.socket(socket.AF_UNIX).connect('/run/x')\n"
        "    except OSError: pass\n    return x + 1", "network"),
    "mount_a_file_system": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    libc.unshare(0x10020000)\n"
        "    return x + 1 if libc.mount(b't', b'/box', b'tmpfs', 0, None) else 0", "native"),
    "become_root": (
        "import os\ndef f(x):\n    for change in (os.setuid, os.setgid, os.seteuid):\n"
        "        try: change(0)\n        except OSError: pass\n    return 0", ""),
    "raise_the_limits": (
        "import resource\ndef f(x):\n    resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))\n    return x + 1", ""),
}  # fmt: skip


def text_of(name, secret, outside, parent):
    """The text of a program, with the names of what it goes for."""
    return PROGRAMS[name][0].replace("{{", "{").replace("}}", "}").replace("{secret}", str(secret)).replace(
        "{outside}", str(outside)
    ).replace("{parent}", str(parent))  # fmt: skip
