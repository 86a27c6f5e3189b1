"""Fills a frame of a chunk and passes it to a program: fill.py SIZE OFFSET LENGTH PROGRAM"""

import os
import socket
import struct
import subprocess
import sys

import cma

size, offset, length = map(int, sys.argv[1:4])
program = sys.argv[4]

with cma.Client() as client, client.allocate(size, "camera", "frame") as chunk:
    fd, start = chunk.descriptor()
    print(f"chunk /proc/{os.getpid()}/fd/{fd} {start} {size}", flush=True)
    sys.stdin.readline()

    with chunk.map() as view, view[offset : offset + length] as frame:
        frame[:] = bytes((i * 7 + i // 251) & 0xFF for i in range(length))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen([program], stdin=theirs)
        theirs.close()
        socket.send_fds(ours, [struct.pack("=QQ", start + offset, length)], [fd])
        answer = ours.recv(8)
        if process.wait() != 0 or len(answer) != 8:
            sys.exit(f"{program} ended with {process.returncode}")

        hashed = 0xCBF29CE484222325
        for i, byte in enumerate(frame):
            if byte != ~(i * 7 + i // 251) & 0xFF:
                sys.exit(f"byte {i} is {byte}")
            hashed = (hashed ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    if hashed != struct.unpack("=Q", answer)[0]:
        sys.exit("the program saw other bytes")
    os.close(fd)
print(f"{hashed:016x}")
