from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from offhook.bench import machine

pytestmark = pytest.mark.skipif(not machine.supported(), reason="bench measures on Linux only")


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_this_process_uses_is_not_others_doing() -> None:
    before = machine.tree_cpu_s()
    burn(0.2)
    assert machine.tree_cpu_s() - before >= 0.15


@pytest.mark.sockets
def test_what_a_child_has_used_is_ours_while_it_runs_and_when_it_is_gone() -> None:
    before = machine.tree_cpu_s()
    program = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert machine.tree_cpu_s() - before >= 0.25
        assert machine.cpu_s(child.pid) >= 0.25
    assert machine.tree_cpu_s() - before >= 0.25


def test_a_watch_tells_percentages() -> None:
    watch = machine.Watch()
    burn(0.05)
    busy = watch.end()
    assert busy.load >= 0
    assert 0 <= busy.steal <= 100
    assert busy.others >= 0


@pytest.mark.sockets
def test_what_a_socket_has_not_got_rid_of_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(("127.0.0.1", port)) as one:
            assert machine.unsent_bytes(port) == 0
            one.settimeout(0)
            with pytest.raises(BlockingIOError):
                one.sendall(bytes(64 << 20))
            assert machine.unsent_bytes(port) > 0


def test_the_machine_is_named() -> None:
    facts = machine.facts()
    assert facts.cpu
    assert facts.cores >= 1
    assert "numpy" in facts.libraries
    assert machine.rss_kib() > 1000
    assert machine.descriptors() > 2


def test_the_udp_sockets_of_a_process_are_counted_and_no_others() -> None:
    us = os.getpid()
    before = machine.udp_sockets(us)
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        assert machine.udp_sockets(us) == before + 2
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            assert machine.udp_sockets(child.pid) == 0
            child.communicate(b"\n")
    assert machine.udp_sockets(us) == before
