"""Frames of videos: the right ones at the right times, and one clear error for whatever is no video, cut, or names other files."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polytag.data.images import video
from polytag.data.images.video import VideoFrames, is_video
from polytag.errors import AnnotationError, ImageError

av: Any = pytest.importorskip("av", reason="the extra video is not installed")
RATE = 5


def write_video(path: Path, *, num_frames: int = 42, codec: str = "mpeg4", gop: int = 10, size: tuple[int, int] = (64, 48)) -> None:
    """Frames of a grey that grows by 6 each, five a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.bit_rate = 4_000_000
        for number in range(num_frames):
            pixels = np.full((size[1], size[0], 3), min(6 * number, 255), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path)
    return path


def greys(frames: VideoFrames, rows: list[int] | None = None) -> list[int]:
    return [round(float(np.asarray(frames.read(row)).mean())) for row in rows or range(len(frames))]


@pytest.mark.parametrize("every", [0.2, 1.0, 2.5, 3.0, 100.0])
def test_a_frame_every_so_many_seconds(every: float, clip: Path):
    frames = VideoFrames(clip, every_seconds=every)
    numbers = [int(step * every * RATE + 1e-6) for step in range(100) if step * every <= 41 / RATE + 1e-9]
    assert frames.times == [round(step * every, 6) for step in range(len(numbers))]
    assert [abs(grey - min(6 * number, 255)) <= 3 for grey, number in zip(greys(frames), numbers, strict=True)] == [True] * len(
        numbers
    )


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mpeg4"), ("a.avi", "mjpeg"), ("a.mov", "mpeg4"), ("A.MPG", "mpeg2video")])
def test_other_files(name: str, codec: str, tmp_path: Path):
    write_video(tmp_path / name, codec=codec) if codec != "mpeg2video" else write_mpeg(tmp_path / name)
    assert is_video(name)
    found = greys(VideoFrames(tmp_path / name, every_seconds=2.0))
    assert [abs(grey - 60 * step) <= 12 for step, grey in enumerate(found)] == [True] * 5


def write_mpeg(path: Path) -> None:
    """MPEG-2 has no rate below 24: five frames of each grey."""
    with av.open(str(path), "w", format="mpeg") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(210):
            pixels = np.full((48, 64, 3), min(6 * (number // 5), 255), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_frames_in_threads_and_out_of_order(clip: Path):
    frames = VideoFrames(clip, every_seconds=0.4)
    wanted = greys(frames)
    assert greys(frames, [20, 3, 3, 0, 11]) == [wanted[row] for row in (20, 3, 3, 0, 11)]
    frames = VideoFrames(clip, every_seconds=0.4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: round(float(np.asarray(frames.read(row)).mean())), range(len(frames))))
    assert found == wanted
    frames.close()


def test_a_video_that_is_cut(tmp_path: Path):
    write_video(tmp_path / "a.mkv")
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    frames = VideoFrames(tmp_path / "a.mkv", every_seconds=1.0)
    assert 2 <= len(frames) < 9, "what is there counts, and not what the header says"
    assert [abs(grey - 30 * step) <= 3 for step, grey in enumerate(greys(frames)[:-1])] == [True] * (len(frames) - 1)


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"no video at all",
    "a playlist": lambda path: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n".encode(),
    "a playlist of the web": lambda _: b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n",
    "a script": lambda path: f"ffconcat version 1.0\nfile {path}\n".encode(),
    "the half of an mp4": lambda path: path.read_bytes()[:2000],
    "a png": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_video(kind: str, clip: Path, tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(HOSTILE[kind](clip))
    with pytest.raises(AnnotationError, match="a video cannot be read") as error:
        VideoFrames(tmp_path / "a.mp4", every_seconds=1.0)
    assert error.value.where == str(tmp_path / "a.mp4")


def test_limits(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(video, "_MAX_FRAMES", 3)
    with pytest.raises(AnnotationError, match="too many frames"):
        VideoFrames(clip, every_seconds=0.2)
    monkeypatch.setattr(video, "_MAX_PACKETS", 3)
    with pytest.raises(AnnotationError, match="too many frames"):
        VideoFrames(clip, every_seconds=9)
    monkeypatch.undo()
    monkeypatch.setattr(video, "MAX_PIXELS", 100)
    with pytest.raises((ImageError, AnnotationError), match="cannot be read"):
        VideoFrames(clip, every_seconds=1)
    with pytest.raises(AnnotationError, match="a video cannot be read"):
        VideoFrames(tmp_path / "none.mp4", every_seconds=1)


def test_a_hundred_mutations_end_in_frames_or_in_a_message(clip: Path, tmp_path: Path):
    whole, rng = clip.read_bytes(), np.random.default_rng(0)
    for number in range(100):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(len(whole)))] = int(rng.integers(256))
        (tmp_path / "a.mp4").write_bytes(content)
        try:
            frames = VideoFrames(tmp_path / "a.mp4", every_seconds=2.0 + number % 3)
            if len(frames) < 100:
                for row in range(len(frames)):
                    frames.read(row)
        except (AnnotationError, ImageError):
            pass
