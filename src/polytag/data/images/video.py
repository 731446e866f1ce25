"""Frames of video files, one every so many seconds, decoded in order by FFmpeg's libraries (PyAV).

The file is read through Python, and only by readers of single files: a playlist or a script that names other files is refused. What
is there is found by a pass over the packets, not by the header, which may claim anything.
"""

import os
from bisect import bisect_right
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from polytag.data.images.limits import MAX_PIXELS, require_few_pixels
from polytag.errors import AnnotationError, ImageError
from polytag.files import open_regular
from polytag.machine import num_cores

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".flv", ".ogv", ".wmv"}
)
"""Endings of the files whose frames are images, in any letter case."""

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,live_flv,ogg,asf"
_CODECS = frozenset(
    {"h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg", "theora", "h263", "flv1", "flv"}
    | {"msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1", "prores", "libvpx-vp9", "libvpx", "ffv1", "rawvideo", "msmpeg4"}
)
_MAX_PACKETS = 20_000_000  # 90 hours at 60 a second
_MAX_FRAMES = 1_000_000


def is_video(path: Path | str) -> bool:
    """Whether a file has the ending of a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


class VideoFrames:
    """The frames that are shown at 0, `every_seconds`, twice as much and so on, as far as the file goes. Thread-safe.

    Frames are decoded in order, so whoever asks for one far ahead waits for those before it, which are kept until they are asked
    for.
    """

    def __init__(self, path: Path, *, every_seconds: float):
        """Raises AnnotationError for a file that is no video, or has no frame, and for too many frames."""
        self._path, self._every_seconds = path, every_seconds
        pts_P, is_key_P, self._time_base = _packets(path)
        order = np.argsort(pts_P, kind="stable")
        pts_P, is_key_P = pts_P[order], is_key_P[order]
        seconds_P = (pts_P - pts_P[0]) * self._time_base
        num_frames = int(seconds_P[-1] / every_seconds + 1e-6) + 1
        if num_frames > _MAX_FRAMES:
            raise AnnotationError(
                "a video has too many frames",
                where=str(path),
                got=f"{num_frames:,} frames, one every {every_seconds:g} s",
                expected=f"at most {_MAX_FRAMES:,}",
                next_step="give a larger --every",
            )
        self.times = [round(number * every_seconds, 6) for number in range(num_frames)]
        shown = np.searchsorted(seconds_P, np.array(self.times) + 1e-6, side="right") - 1
        self._pts_F: list[int] = pts_P[shown].tolist()
        self._keys: list[int] = pts_P[is_key_P].tolist()
        self._ready: dict[int, Image.Image | ImageError] = {}
        self._next = 0
        self._decoding: Generator[Any] | None = None
        self._position = -(1 << 62)  # the pts up to which frames were decoded
        self._last: Any = None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.times)

    def read(self, row: int) -> Image.Image:
        """The frame of a time, 8-bit RGB and upright; raises ImageError where it cannot be decoded."""
        with self._lock:
            if row < self._next and row not in self._ready:
                self.close()
                self._next = row
            while row not in self._ready:
                try:
                    self._ready[self._next] = self._decoded(self._pts_F[self._next])
                except ImageError as error:
                    self._ready[self._next] = error
                self._next += 1
            found = self._ready.pop(row)
        if isinstance(found, ImageError):
            raise found
        return found

    def close(self) -> None:
        """Close the file; a later frame opens it again."""
        if self._decoding is not None:
            self._decoding.close()
        self._decoding, self._last, self._position = None, None, -(1 << 62)

    def _decoded(self, pts: int) -> Image.Image:
        if self._last is not None and self._last.pts == pts:
            return self._image_of(self._last)
        key = self._keys[bisect_right(self._keys, pts) - 1] if self._keys and self._keys[0] <= pts else None
        if self._decoding is None or (key is not None and key > self._position):
            self.close()
            self._decoding = _frames(self._path, start=key)
        found = self._until(pts)
        if found is None and self._keys:  # some files are not found the way in: from here on they are decoded as a whole
            self._keys = []
            self.close()
            self._decoding = _frames(self._path, start=None)
            found = self._until(pts)
        if found is None:
            raise ImageError("a frame of the video is missing or broken", where=str(self._path), expected="a whole video file")
        return self._image_of(found)

    def _until(self, pts: int) -> Any:
        """The frame of this time; None where there is none."""
        assert self._decoding is not None
        try:
            for frame in self._decoding:
                if frame.pts is None:
                    continue
                self._position, self._last = frame.pts, frame
                if frame.pts >= pts:
                    return frame if frame.pts == pts else None
        except ImageError:
            self.close()
            raise
        return None

    def _image_of(self, frame: Any) -> Image.Image:
        require_few_pixels((frame.width, frame.height), str(self._path), MAX_PIXELS)
        with _reading(self._path, ImageError):
            image: Image.Image = frame.to_image()
            turn = int(getattr(frame, "rotation", 0) or 0)
        return image.rotate(turn, expand=True) if turn % 90 == 0 and turn % 360 else image


def _packets(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """The time of each packet in units of the time base, whether it is a keyframe, and the time base in seconds."""
    pts: list[int] = []
    keys: list[bool] = []
    with _opened(path, AnnotationError) as (container, track), _reading(path, AnnotationError, may_end=True):
        time_base = float(track.time_base or 0)
        for packet in container.demux(track):
            if packet.pts is not None and packet.size:
                pts.append(packet.pts)
                keys.append(bool(packet.is_keyframe))
                if len(pts) > _MAX_PACKETS:
                    raise AnnotationError("a video has too many frames", where=str(path), expected=f"at most {_MAX_PACKETS:,}")
    if not pts or time_base <= 0:
        raise _no_video(path, "a file without a single frame")
    return np.array(pts, np.int64), np.array(keys, bool), time_base


def _frames(path: Path, *, start: int | None) -> Generator[Any]:
    with _opened(path, ImageError) as (container, track), _reading(path, ImageError):
        track.thread_type = "AUTO"
        track.codec_context.thread_count = min(num_cores(), 8)
        if start is not None:
            container.seek(start, stream=track, backward=True)
        yield from container.decode(track)


@contextmanager
def _opened(path: Path, kind: type[AnnotationError] | type[ImageError]) -> Generator[tuple[Any, Any]]:
    import av

    try:
        file = open_regular(path)
    except OSError as error:
        raise kind("a video cannot be read", where=str(path), got=error.strerror or str(error), expected="a file") from error
    with file:
        with _reading(path, kind):
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
            container = av.open(file, options=options)
        with container:
            track = next(iter(container.streams.video), None)
            if track is None:
                raise _no_video(path, "a file without a video that can be decoded", kind)
            context: Any = track.codec_context
            if context is None or not context.width or not context.height:
                raise _no_video(path, "a video that cannot be decoded", kind)
            if context.name not in _CODECS:
                raise _no_video(path, f"a video packed as {context.name}", kind)
            require_few_pixels((context.width, context.height), str(path), MAX_PIXELS)
            yield container, track


@contextmanager
def _reading(path: Path, kind: type[AnnotationError] | type[ImageError], *, may_end: bool = False) -> Generator[None]:
    """Turns what PyAV raises into an error; with `may_end`, packets that a broken file ends in are passed over."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, OSError, MemoryError, RuntimeError) as error:
        if not may_end:
            raise _no_video(path, str(error).splitlines()[0] if str(error) else type(error).__name__, kind) from error


def _no_video(
    path: Path, got: str, kind: type[AnnotationError] | type[ImageError] = AnnotationError
) -> AnnotationError | ImageError:
    expected = "a whole MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, Ogg or WMV file"
    return kind("a video cannot be read", where=str(path), got=got, expected=expected)
