"""Videos of episodes: GIF files, or MP4 where there is a program `ffmpeg`.

Pillow, of the extra `rl`, writes the former. Frames are kept compressed until an episode is over, as it is only then
known how the file is to be called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphray.rl.environments import Environment, LiveEnv, make, name_of, unwrapped
from graphray.rl.optional import needed

__all__ = ["Recorder", "write"]

_SPEED = 30
"""Frames in a second, where the environment does not say."""

_SLOWEST = 50
"""A GIF can have no more of them in a second: its unit is a hundredth of a second, and browsers want two."""


class Recorder:
    """Makes environments that draw, and keeps what they drew until it is written.

    Args:
        directory: where files go; it is made.
        prefix: what their names begin with.
        most: how many episodes are recorded, those with the lowest numbers; None: all.
    """

    def __init__(self, directory: str, prefix: str = "", most: int | None = None) -> None:
        self.directory = os.path.abspath(os.path.expanduser(directory))
        self.prefix = prefix
        self.most = most
        self._frames: dict[int, list[tuple[bytes, tuple[int, ...]]]] = {}

    def records(self, number: int) -> bool:
        """Whether the episode of that number is recorded."""
        return self.most is None or number < self.most

    def make(self, env: Environment) -> LiveEnv:
        """An environment that draws.

        Raises:
            ValueError: it cannot.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it says hello on stdout
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else it complains that there is no display
        try:
            live = make(env, render_mode="rgb_array")
        except TypeError:  # its constructor takes no render_mode
            live = make(env)
        if getattr(unwrapped(live), "render_mode", None) != "rgb_array" and not env.old_gym:
            live.close()
            raise ValueError(f"{name_of(env)} cannot be recorded: it does not take render_mode='rgb_array'")
        return live

    def see(self, number: int, live: LiveEnv) -> None:
        """Keep what an environment shows now."""
        inner: Any = unwrapped(live)
        frame = np.asarray(inner.render(mode="rgb_array") if _is_old(inner) else inner.render())
        if frame.ndim != 3 or frame.shape[2] not in (3, 4):
            raise ValueError(
                f"an environment drew an array of shape {frame.shape}, which is no picture (height, width, 3)"
            )
        picture = np.ascontiguousarray(frame[:, :, :3], np.uint8)
        self._frames.setdefault(number, []).append((zlib.compress(picture.tobytes(), 1), picture.shape))

    def finish(self, number: int, live: LiveEnv, total: float) -> str:
        """An episode is over: write its file, and give the path."""
        frames = self._frames.pop(number)
        speed = getattr(unwrapped(live), "metadata", {}).get("render_fps") or _SPEED
        path = os.path.join(self.directory, f"{self.prefix}episode_{number:03d}_reward_{total:.6g}")
        pictures = (np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape) for data, shape in frames)
        return write(path, pictures, frames[0][1], speed)


def write(path: str, frames: Iterator[Any], shape: Sequence[int], speed: float) -> str:
    """Write a video, and give its path.

    Args:
        path: without an ending.
        frames: pictures (height, width, 3) of bytes.
        shape: theirs.
        speed: frames in a second.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    program = shutil.which("ffmpeg")
    return _mp4(program, f"{path}.mp4", frames, shape, speed) if program else _gif(f"{path}.gif", frames, speed)


def _gif(path: str, frames: Iterator[Any], speed: float) -> str:
    image = needed("PIL.Image", "a video", "pillow")
    pictures = (image.fromarray(frame).quantize(64) for frame in frames)
    first = next(pictures)
    duration = round(1000 / min(speed, _SLOWEST), -1)
    first.save(path, save_all=True, append_images=pictures, duration=duration, loop=0, optimize=False)
    return path


def _mp4(program: str, path: str, frames: Iterator[Any], shape: Sequence[int], speed: float) -> str:
    height, width = shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{speed:g}", "-i", "-"]
    # Most players want this format of pixels, and it wants even sides.
    target = ["-an", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", path]
    command = [program, "-loglevel", "error", "-y", *source, *target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for frame in frames:
                process.stdin.write(frame)
            process.stdin.close()
        except BrokenPipeError:  # it says why
            pass
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise OSError(f"ffmpeg could not write {path}: {said or f'exit status {process.returncode}'}")
    return path


def _is_old(inner: Any) -> bool:
    """Whether it has gym's old interface, where the mode was an argument of `render`."""
    return getattr(inner, "render_mode", None) is None
