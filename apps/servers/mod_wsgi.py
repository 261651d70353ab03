"""Apache with mod_wsgi. In: mod_wsgi-express's command. Out: Apache, in a scratch folder, as a plain user.

Started by root, Apache would become www-data, who may not be able to read this interpreter, its packages or this
checkout. So it is started as www-data from the beginning, with the one capability to read what root can read.
The script that mod_wsgi-express writes is run by a shell, as no file in a scratch folder may be executable.
"""

from __future__ import annotations

import argparse
import os
import pwd
import subprocess
import sys

from apps.servers.together import run, scratch
from apps.variant import found

USER = "www-data"
READING = "+dac_read_search"
THREADS = 256  # of one Apache process
# mod_wsgi-express would start and end processes with the load. Here all are there from the beginning to the end.
LIMITS = """\
ServerLimit {processes}
StartServers {processes}
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {connections}
MinSpareThreads 1
MaxSpareThreads {connections}
"""


def as_plain_user() -> list[str]:
    """The words before a command with which root starts it as www-data, able to read all that root can."""
    names = [
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        f"--inh-caps={READING}",
        f"--ambient-caps={READING}",
    ]
    return [found("setpriv") or "setpriv", *names] if os.geteuid() == 0 else []


def main() -> int:
    parser = argparse.ArgumentParser("apps.servers.mod_wsgi")
    parser.add_argument("--connections", type=int, required=True, help="that Apache serves at a time")
    parser.add_argument("express", nargs=argparse.REMAINDER, help="mod_wsgi-express's command")
    chosen = parser.parse_args()
    with scratch() as folder:
        limits = folder / "limits.conf"
        processes = chosen.connections // THREADS
        limits.write_text(LIMITS.format(processes=processes, threads=THREADS, connections=processes * THREADS))
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
        program, *arguments = chosen.express
        express = [found(program) or program, *arguments, "--server-root", str(folder), "--include-file", str(limits)]
        written = subprocess.run(
            [*as_plain_user(), *express, "--working-directory", os.getcwd(), "--setup-only"],
            capture_output=True,
            text=True,
            check=False,
        )
        if written.returncode:
            print(written.stdout, written.stderr, file=sys.stderr)  # noqa: T201
            return written.returncode
        script = ["bash", str(folder / "apachectl"), "start", "-DFOREGROUND"]
        return run([([*as_plain_user(), *script], lambda: True)])


if __name__ == "__main__":
    sys.exit(main())
