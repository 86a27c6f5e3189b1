"""Fills a frame of a chunk and passes it to a program: fill.py FD SIZE OFFSET LENGTH PROGRAM"""

import mmap
import socket
import struct
import subprocess
import sys

fd, size, offset, length = map(int, sys.argv[1:5])
chunk = mmap.mmap(fd, size)
frame = memoryview(chunk)[offset : offset + length]
frame[:] = bytes((i * 7 + i // 251) & 0xFF for i in range(length))

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
program = subprocess.Popen([sys.argv[5]], stdin=theirs)
theirs.close()
socket.send_fds(ours, [struct.pack("=QQ", offset, length)], [fd])
answer = ours.recv(8)
if program.wait() != 0 or len(answer) != 8:
    sys.exit(f"{sys.argv[5]} ended with {program.returncode}")

hashed = 0xCBF29CE484222325
for i, byte in enumerate(frame):
    if byte != ~(i * 7 + i // 251) & 0xFF:
        sys.exit(f"byte {i} is {byte}")
    hashed = (hashed ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
if hashed != struct.unpack("=Q", answer)[0]:
    sys.exit("the program saw other bytes")
print(f"{hashed:016x}")
