"""Streams on loopback: an HTTP server as cameras in the network have it (MJPEG), and one of files."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np


def write_film(path: Path, frames: int = 5, code: str = "mp4v") -> Path:
    """Grey frames of 64 x 48 that become lighter."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i % 240, np.uint8))
    writer.release()
    return path


@contextlib.contextmanager
def served(folder: Path):
    """Serves the files of a folder, and at /camera frames without an end, 50 in a second, at /camera/7
    only so many; yields the address
    and a list of the frames that were sent."""
    sent: list[int] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/camera"):
                self.camera()
            elif (folder / self.path[1:]).is_file():
                data = (folder / self.path[1:]).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):  # a reader that has seen enough
                    self.wfile.write(data)
            else:
                self.send_error(404)

        def camera(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(OSError):
                end = self.path.rpartition("/")[2]
                last = len(sent) + int(end) if end.isdigit() else None
                while len(sent) != last and not over.wait(0.02):
                    picture = np.full((48, 64, 3), 5 * len(sent) % 250, np.uint8)
                    data = cv2.imencode(".jpg", picture)[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    sent.append(len(sent))

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", sent
    finally:
        over.set()
        http.shutdown()
        http.server_close()
        thread.join()


def wait_for(sent: list[int], count: int, seconds: float = 60) -> None:
    """Until the camera has sent that many frames."""
    end = time.monotonic() + seconds
    while len(sent) < count:
        assert time.monotonic() < end, f"{len(sent)} frames in {seconds} s"
        time.sleep(0.05)
