"One process forks workers that train, search or write, and kills each in the middle: what the tests of kill -9 share."
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to start many processes quickly")

LOOP = """
import os, signal, sys, time
from pathlib import Path

def killed(home, jobs):
    "Start each job four times, and kill it a little later each time after its files are there."
    for job, marks in jobs:
        for attempt in range(4):
            folder = home / job.__name__
            folder.mkdir(exist_ok=True)
            child = os.fork()
            if child == 0:
                try:
                    job(folder)
                finally:
                    os._exit(0)
            until = time.monotonic() + 60
            while not all((folder / m).exists() for m in marks) and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(0.013 * (attempt + 1))
            os.kill(child, signal.SIGKILL)
            print(job.__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            if input() != "go on":
                sys.exit(1)
"""


@contextlib.contextmanager
def driven(
    source: str,  # Python that ends with a call of `killed`
    folder: Path,  # its first argument
) -> Iterator[Iterator[tuple[str, bool]]]:  # after each kill: name of the job, and whether the signal ended it
    "Run the driver; it waits while its user looks at what the dead left."
    streams = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command = [sys.executable, "-W", "ignore", "-c", LOOP + textwrap.dedent(source), str(folder)]
    with subprocess.Popen(command, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **streams) as driver:
        def deaths():
            for line in driver.stdout:
                job, code = line.split()
                yield job, int(code) == -signal.SIGKILL
                driver.stdin.write("go on\n")
                driver.stdin.flush()
        yield deaths()
        assert driver.wait(60) == 0, driver.stderr.read()
