"""The package on a host of its own, and on a server (the path in CMA_SOCKET)."""

import ctypes
import errno
import gc
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

import cma
from cma._library import CALLS, STRUCTURES, library

MIB = 1 << 20


def host(**changes):
    settings = {"regions": "video=8M;audio=1M", "map": "camera=video;dsp=audio", **changes}
    return cma.Host(settings.pop("regions"), settings.pop("map"), **settings)


class HostTest(unittest.TestCase):
    def test_a_chunk_is_allocated_mapped_shared_and_freed(self):
        with host() as owner:
            with owner.allocate(3 * MIB, "camera", alignment=65536) as chunk:
                self.assertEqual((chunk.bytes, chunk.start % 65536), (3 * MIB, 0))
                self.assertTrue(chunk.has_memory)
                with chunk.map() as view:
                    self.assertEqual((len(view), view.readonly, bytes(view[:4])), (3 * MIB, False, bytes(4)))
                    view[:5] = b"frame"
                fd, offset = chunk.descriptor()
                with mmap.mmap(fd, chunk.bytes, offset=offset) as other:
                    self.assertEqual(other[:5], b"frame")
                os.close(fd)
                self.assertEqual(chunk.piece_count(), 1)
                piece = chunk.piece(0)
                os.close(piece.fd)
                self.assertEqual(piece.bytes, 3 * MIB)
                self.assertEqual(owner.statistics("video").chunks, 1)
            self.assertEqual(owner.info("camera").free_bytes, 8 * MIB)
            self.assertEqual(owner.info_about("video,audio").total_bytes, 9 * MIB)

    def test_no_view_outlives_the_memory(self):
        with host() as owner:
            chunk = owner.allocate(4096, "camera")
            view = chunk.map()
            part = view[10:20]
            view.release()
            for end in [chunk.free, chunk.unmap]:
                self.assertRaises(BufferError, end)
            part[0] = 7
            # The chunk is no longer named, and the view still has it.
            del chunk, end
            gc.collect()
            self.assertEqual((part[0], owner.statistics("video").chunks), (7, 1))
            del part, view
            gc.collect()
            self.assertEqual(owner.statistics("video").chunks, 0)

    def test_a_mapping_can_be_ended_and_made_again(self):
        with host() as owner, owner.allocate(4096, "camera") as chunk:
            with chunk.map() as view:
                view[1] = 9
            chunk.unmap()
            with chunk.map() as view:
                self.assertEqual(view[1], 9)

    def test_a_refusal_has_errno_text_and_the_reason_of_each_region(self):
        with host(map="camera=audio,video") as owner, self.assertRaises(cma.Error) as refused:
            owner.allocate(9 * MIB, "camera")
        error = refused.exception
        self.assertEqual((error.errno, error.call), (errno.ENOMEM, "cma_host_allocate"))
        self.assertEqual([region for region, _ in error.regions], ["audio", "video"])
        self.assertIn("too small: 9M requested of a region of 8M", error.regions[1][1])
        self.assertIn(error.regions[1][1], error.strerror)

    def test_limits_are_kept(self):
        with host(regions="video=8M@0x40000000") as owner:
            with owner.allocate(4096, "camera", at=0x40200000) as chunk:
                self.assertEqual(chunk.start, 0x40200000)
            with owner.allocate(4096, regions="video", above=0x40700000) as chunk:
                self.assertGreaterEqual(chunk.start, 0x40700000)
            with owner.allocate(8 * MIB, "camera"), self.assertRaises(cma.Error) as refused:
                owner.allocate(4096, "camera", wait=0.01)
            self.assertEqual(refused.exception.errno, errno.ETIMEDOUT)

    def test_a_number_or_a_text_that_c_would_shorten_is_refused(self):
        with host() as owner, owner.device("camera") as device:
            for bytes, limits in [
                ((1 << 64) + 4096, {}),
                (-1, {}),
                (4096, {"alignment": (1 << 64) + 4096}),
                (4096, {"at": -4096}),
                (4096, {"above": -1}),
                (4096, {"below": 1 << 64}),
                (4096, {"boundary": 1 << 64}),
                (4096, {"wait": -1}),
            ]:
                with self.assertRaises(OverflowError):
                    owner.allocate(bytes, "camera", **limits)
            self.assertRaises(OverflowError, device.alloc, (1 << 64) + 4096)
            self.assertRaises(ValueError, owner.allocate, 4096, "camera\0x")
            self.assertRaises(ValueError, owner.set_map, "*=video\0;")

    def test_what_is_ended_is_refused(self):
        owner = host()
        chunk = owner.allocate(4096, "camera")
        chunk.free()
        chunk.free()
        for use in [chunk.map, chunk.descriptor, lambda: chunk.start]:
            self.assertRaises(cma.Error, use)
        owner.close()
        with self.assertRaises(cma.Error) as refused:
            owner.allocate(4096, "camera")
        self.assertEqual(refused.exception.errno, errno.EINVAL)

    def test_a_host_is_changed_while_it_runs(self):
        with host(allocators="best-fit,buddy") as owner:
            with owner.allocate(4096, "camera"):
                owner.set_allocator("video", "buddy")
                self.assertEqual(owner.get("regions/video/alloc"), "buddy\n")
            owner.set_map("dsp=video")
            self.assertEqual(owner.get("map"), "dsp=video\n")
            owner.set("map", "camera=video")
            self.assertRaises(cma.Error, owner.set_map, "camera=")
            self.assertRaises(cma.Error, owner.get, "nothing")
            long = ";".join(f"device{number}=video" for number in range(1000))
            owner.set_map(long)
            self.assertEqual(owner.get("map"), long + "\n")
            owner.set_map("camera=video")
            self.assertRaises(cma.Error, owner.load, "/nowhere/libcma_x_plugin.so")
            with owner.device("camera") as device, device.alloc(8192) as chunk:
                self.assertEqual(chunk.bytes, 8192)

    def test_a_pending_request_is_answered_when_there_is_room(self):
        with host() as owner:
            whole = owner.allocate(8 * MIB, "camera")
            pending = owner.request(8 * MIB, "camera", wait=60)
            self.assertIsNone(pending.finish())
            self.assertIsNone(pending.wait(0.01))
            threading.Timer(0.05, whole.free).start()
            with pending.wait() as chunk:
                self.assertEqual(chunk.bytes, 8 * MIB)
                with owner.request(4096, "camera", wait=60):
                    self.assertEqual(owner.statistics("video").waiters, 1)
                self.assertEqual(owner.statistics("video").waiters, 0)
                self.assertRaises(cma.Error, owner.request(4096, "camera").finish)

    def test_events_reach_a_callback(self):
        events = []
        with host() as owner, owner.observe(events.append) as observation:
            owner.allocate(4096, "camera").free()
            self.assertRaises(cma.Error, owner.allocate, 4096, "radio")
            observation.catch_up()
            kinds = [event.kind for event in events]
            self.assertEqual(sorted(kinds[:2]), ["began", "began"])
            self.assertEqual(kinds[2:], ["placed", "released", "failed"])
            placed = events[2]
            self.assertEqual((placed.region, placed.device, placed.type), ("video", "camera", "common"))
            self.assertEqual(observation.delivery().received, 5)

    def test_a_callback_can_end_its_observation(self):
        ended = threading.Event()
        with host() as owner:
            ready = threading.Event()

            def end(_):
                ready.wait()
                observation.end()
                ended.set()

            observation = owner.observe(end)
            ready.set()
            self.assertTrue(ended.wait(60))

    def test_the_child_of_a_fork_frees_nothing_of_its_parent(self):
        with host() as owner:
            chunk = owner.allocate(4096, "camera")
            child = os.fork()
            if child == 0:
                chunk.free()
                del chunk
                gc.collect()
                os._exit(0)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            with chunk.map() as view:
                view[0] = 1
            chunk.free()

    def test_structures_and_calls_are_those_of_the_header(self):
        header = pathlib.Path(os.environ["CMA_HEADER"])
        text = header.read_text()
        for call in CALLS:
            self.assertIn(f"int {call}(", text)
        compiler = shutil.which("cc")
        if compiler is None:
            self.skipTest("no C compiler (cc); the layout of structures was not compared")
        lines = []
        expected = ""
        for name, kind in STRUCTURES.items():
            lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
            expected += f"{name} {ctypes.sizeof(kind)}\n"
            for field, _ in kind._fields_:
                lines.append(f'printf("{field} %zu\\n", offsetof(struct {name}, {field}));')
                expected += f"{field} {getattr(kind, field).offset}\n"
        source = f'#include "{header}"\n#include <stdio.h>\nint main(void) {{ {"".join(lines)} }}\n'
        with tempfile.TemporaryDirectory() as folder:
            program = f"{folder}/layout"
            command = [compiler, "-x", "c", "-", "-o", program]
            subprocess.run(command, input=source.encode(), check=True)
            printed = subprocess.run([program], check=True, capture_output=True).stdout.decode()
        self.assertEqual(printed, expected)


class ClientTest(unittest.TestCase):
    def test_a_chunk_of_a_server(self):
        with cma.Client() as client:
            free = client.info("camera").free_bytes
            with client.allocate(MIB, "camera") as chunk:
                with chunk.map() as view:
                    view[-3:] = b"end"
                fd, offset = chunk.descriptor()
                with mmap.mmap(fd, MIB, offset=offset) as other:
                    self.assertEqual(other[-3:], b"end")
                os.close(fd)
            self.assertEqual(client.info("camera").free_bytes, free)
            self.assertEqual(client.info_about("video").free_bytes, free)
            self.assertEqual(client.get("regions/video/users"), "0\n")

    def test_refusals_and_waits(self):
        with cma.Client() as client:
            with self.assertRaises(cma.Error) as refused:
                client.allocate(1 << 40, "camera")
            self.assertEqual(refused.exception.errno, errno.ENOMEM)
            self.assertIn("video: too small", refused.exception.strerror)
            whole = client.allocate(client.info("camera").free_bytes, "camera")
            pending = client.request(MIB, "camera", wait=30)
            self.assertIsNone(pending.wait(0.01))
            whole.free()
            pending.wait().free()
        self.assertRaises(cma.Error, cma.Client, "/nowhere/cma.sock")


class LibraryTest(unittest.TestCase):
    def test_the_version_is_that_of_the_library(self):
        self.assertEqual(cma.version(), library.cma_version().decode())


if __name__ == "__main__":
    unittest.main()
