"""What is read from a machine's console; the console here is a socket that a test speaks on."""

import re
import socket
import threading
from pathlib import Path

from openssi.qemu import Machine


def test_a_line_that_terminal_and_shell_both_echo_is_no_output(tmp_path: Path) -> None:
    machine = Machine("one", [], tmp_path)
    with socket.socket(socket.AF_UNIX) as console, socket.socket(socket.AF_UNIX) as monitor:
        for listening, path in ((console, machine.console_socket), (monitor, machine.monitor_socket)):
            listening.bind(str(path))
            listening.listen()
        machine.attach()
        guest, _ = console.accept()

        def shell() -> None:
            line = b""
            while not line.endswith(b"\n"):
                line += guest.recv(4096)
            echo = line.replace(b"\n", b"\r\n")
            mark = re.search(rb"echo (R)''(\d+)=", line)
            assert mark
            guest.sendall(
                echo + b"~ # " + echo + b"\x1b[1mfrom the shell\x1b[0m\r\n" + mark[1] + mark[2] + b"=3=\r\n~ # "
            )

        answering = threading.Thread(target=shell)
        answering.start()
        try:
            assert machine.command("cat /file", 20) == (3, "from the shell\n")
        finally:
            answering.join()
            machine.detach()
            guest.close()
