"""Videos, cameras and streams."""

import os

import cv2
import numpy as np
import pytest

from tests.streams import served, wait_for, write_film
from toolkit.runtime import InputError
from toolkit.videos import open_video

CONTAINERS = {
    "mp4": "mp4v",
    "avi": "MJPG",
    "mkv": "mp4v",
    "mov": "mp4v",
    "webm": "VP80",
    "mjpeg": "MJPG",
    "ts": "mp4v",
}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_videos_are_known_by_what_they_hold(suffix, tmp_path):
    film = write_film(tmp_path / f"film.{suffix}", code=CONTAINERS[suffix])
    assert len(list(open_video(str(film)))) == 5
    if suffix != "mjpeg":  # which begins as a picture does
        other = film.rename(tmp_path / "film.dat")
        assert len(list(open_video(str(other)))) == 5
    for name, data in (
        ("a.txt", b"text\n" * 100),
        ("a.dat", b"\0\1" * 100),
        ("a.jpg", cv2.imencode(".jpg", np.zeros((32, 48, 3), np.uint8))[1].tobytes()),
        ("b", b""),
    ):
        (tmp_path / name).write_bytes(data)
        assert open_video(str(tmp_path / name)) is None


def test_a_playlist_is_not_a_video(tmp_path):
    """FFmpeg would open what it names."""
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match="is a text file"):
        open_video(str(tmp_path / "a.mp4"))
    os.mkfifo(tmp_path / "b.mp4")
    with pytest.raises(InputError, match="pipe"):
        open_video(str(tmp_path / "b.mp4"))


def test_streams(tmp_path):
    """Of a file it is known how long it is; a camera's ends when it is told to."""
    write_film(tmp_path / "film.avi", code="MJPG")
    with served(tmp_path) as (address, sent):
        film = open_video(f"{address}/film.avi")
        assert (len(list(film)), film.live, film.copy_name) == (5, False, "film.mp4")
        camera = open_video(f"{address}/camera?user=a")
        assert (camera.live, len(camera), camera.size, camera.copy_name) == (True, 0, (64, 48), "camera.mp4")
        frames = 0
        for frame in camera:
            assert frame.shape == (48, 64, 3)
            frames += 1
            if frames == 10:
                camera.stop()
        assert frames == 10
        wait_for(sent, 10)  # the server counts a frame after the client may have it
        assert (film.broke_off, camera.broke_off) == ("", "")
        short = open_video(f"{address}/camera/7")
        read = len(list(short))
        assert 0 < read <= 7
        assert short.broke_off == f"it ended by itself after {read} frames"
        with pytest.raises(InputError, match="cannot open the stream http.*what it sends is not a video"):
            open_video(f"{address}/none")
    with pytest.raises(
        InputError, match=r"cannot open the stream rtsp://127\.0\.0\.1:9/live: nothing answers"
    ):
        open_video("rtsp://user:secret@127.0.0.1:9/live")


def test_a_film_that_the_network_cuts_short_is_told(tmp_path):
    whole = write_film(tmp_path / "whole.avi", 60, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with served(tmp_path) as (address, _):
        film, cut = open_video(f"{address}/whole.avi"), open_video(f"{address}/cut.avi")
        assert (len(list(film)), film.broke_off) == (60, "")
        if len(cut):
            count = len(list(cut))
            assert cut.broke_off == f"it ended after {count} of 60 frames"
    local = open_video(str(tmp_path / "cut.avi"))
    list(local)
    assert local.broke_off == ""  # a file on the disk is as long as it is
