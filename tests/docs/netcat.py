"""What pages use of `nc -U PATH`: standard input goes to a Unix socket; the first line that is answered is printed."""

import socket
import sys

SECONDS = 10.0

with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(SECONDS)
    connection.connect(sys.argv[-1])
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    with connection.makefile("rb") as answers:
        sys.stdout.write(answers.readline().decode())
