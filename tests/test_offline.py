"""The guard of ``conftest``: it bites, in every process, and leaves the loopback alone."""

from __future__ import annotations

import _socket
import asyncio
import os
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import no_network
import pytest

AWAY = ("192.0.2.1", 9)  # TEST-NET-1: an address nobody has


def with_socket(act, family=socket.AF_INET, kind=socket.SOCK_STREAM, make=socket.socket):
    """What to try on a socket that is closed afterwards."""

    def attempt():
        sock = make(family, kind)
        try:
            act(sock)
        finally:
            sock.close()

    return attempt


ATTEMPTS = {
    "connect": with_socket(lambda s: s.connect(AWAY)),
    "connect_ex": with_socket(lambda s: s.connect_ex(AWAY)),
    "below Python": with_socket(lambda s: s.connect(AWAY), make=_socket.socket),
    "six": with_socket(lambda s: s.connect(("2001:db8::1", 9)), socket.AF_INET6),
    "create_connection": lambda: socket.create_connection(AWAY, timeout=1),
    "sendto": with_socket(lambda s: s.sendto(b"x", AWAY), kind=socket.SOCK_DGRAM),
    "sendmsg": with_socket(lambda s: s.sendmsg([b"x"], [], 0, AWAY), kind=socket.SOCK_DGRAM),
    "getaddrinfo": lambda: socket.getaddrinfo("example.org", 80),
    "bytes": lambda: socket.getaddrinfo(b"example.org", 80),
    "gethostbyname": lambda: socket.gethostbyname("example.org"),
    "gethostbyname_ex": lambda: socket.gethostbyname_ex("example.org"),
    "gethostbyaddr": lambda: socket.gethostbyaddr("192.0.2.1"),
    "looks like loopback": with_socket(lambda s: s.connect(("127.0.0.1.example.org", 9))),
    "a name, sendto": with_socket(
        lambda s: s.sendto(b"x", 0, ("example.org", 9)), kind=socket.SOCK_DGRAM
    ),
    "asyncio": lambda: asyncio.run(asyncio.open_connection(*AWAY)),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nothing_leaves_this_machine(attempt):
    with pytest.raises(no_network.NetworkUse, match=r"example\.org|192\.0\.2\.1|2001:db8::1"):
        ATTEMPTS[attempt]()


def test_urllib_does_not_swallow_it():
    from urllib.request import ProxyHandler, build_opener

    with pytest.raises(no_network.NetworkUse, match=r"example\.org"):
        build_opener(ProxyHandler({})).open("http://example.org", timeout=1)


def child(code, *flags, **env):
    """What a Python process of ours says, with the environment as the tests have it."""
    command = [sys.executable, *flags, "-c", code]
    whole = os.environ | env
    return subprocess.run(command, capture_output=True, text=True, env=whole, timeout=60)


REACH = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"


def test_it_bites_in_a_child_and_in_its_child():
    said = child(REACH)
    assert "NetworkUse: no network in the tests: socket.getaddrinfo of '192.0.2.1'" in said.stderr
    again = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {REACH!r}]))"
    said = child(again)
    assert said.returncode == 1
    assert "NetworkUse" in said.stderr


def test_it_bites_in_a_spawned_worker():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        found = pool.submit(socket.create_connection, AWAY, 1).exception()
    assert isinstance(found, no_network.NetworkUse)
    assert "192.0.2.1" in str(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter|nbformat|nbclient|zmq|traitlets)")
@pytest.mark.filterwarnings("ignore:.*missing an id field")
def test_it_bites_in_a_notebook_kernel(tmp_path: Path):
    """The kernel talks to the tests over the loopback, and to nobody else."""
    with warnings.catch_warnings():  # jupyter_core warns about its own future
        warnings.simplefilter("ignore", DeprecationWarning)
        jupytext = pytest.importorskip("jupytext")
        nbclient = pytest.importorskip("nbclient")
    notebook = jupytext.reads(f"# %%\nprint(1 + 1)\n\n# %%\n{REACH}\n", fmt="py:percent")
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=60, allow_errors=True, resources=place
    )
    client.execute()
    first, second = (cell["outputs"][0] for cell in notebook.cells)
    assert first["text"] == "2\n"
    assert (second["output_type"], second["ename"]) == ("error", "NetworkUse")
    assert "192.0.2.1" in second["evalue"]


def test_it_is_off_where_nobody_asked():
    said = child("import sys; print('no_network' in sys.modules)", RRALLOC_OFFLINE="0")
    assert said.stdout == "False\n"


def test_another_sitecustomize_still_runs(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.was_here = __file__\n")
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])
    code = f"import sys; print(sys.was_here)\n{REACH}"
    said = child(code, PYTHONPATH=path)
    assert said.stdout == f"{tmp_path / 'sitecustomize.py'}\n"
    assert "NetworkUse" in said.stderr


def test_a_child_imports_no_more_than_the_guard():
    """Tests that look at what is imported see the guard and nothing else."""
    code = "import sys; print(*sorted(sys.modules))"
    guarded, plain = child(code).stdout.split(), child(code, RRALLOC_OFFLINE="0", PYTHONPATH="")
    more = set(guarded) - set(plain.stdout.split())
    assert {"no_network", "sitecustomize"} <= more
    assert not {m for m in more if m.startswith(("socket", "pathlib", "ipaddress", "re", "json"))}


# -- what stays open ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "127.3.2.1"),
        (socket.AF_INET, "localhost"),
        (socket.AF_INET6, "::1"),
    ],
)
def test_the_loopback_works(family, host):
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            assert family == socket.AF_INET6, "every machine has IPv4's loopback"
            return
        server.listen(1)

        def serve():
            with server.accept()[0] as peer:
                peer.sendall(b"here")

        answer = threading.Thread(target=serve)
        answer.start()
        with socket.create_connection((host, server.getsockname()[1]), timeout=10) as client:
            assert client.recv(4) == b"here"
        answer.join()


def test_unix_sockets_and_pairs_work(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen(1)
        client.connect(str(tmp_path / "s"))
    left, right = socket.socketpair()
    left.sendall(b"x")
    assert right.recv(1) == b"x"
    left.close()
    right.close()


def test_a_server_may_listen_on_every_interface():
    assert socket.getaddrinfo(None, 0)
    assert socket.getaddrinfo("0.0.0.0", 0)
    assert socket.getaddrinfo("localhost", 0)
