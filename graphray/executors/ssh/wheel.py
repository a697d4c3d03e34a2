"""A wheel of the graphray that is running, also of an editable checkout; no build backend is needed.

Source: the Binary Distribution Format, https://packaging.python.org/en/latest/specifications/binary-distribution-format
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

from graphray.executors.ssh import sources
from graphray.executors.ssh.packages import project


def wheel() -> tuple[str, bytes]:
    """Its file's name and content; the same bytes for the same code."""
    import graphray

    version = graphray.__version__
    info = f"graphray-{version}.dist-info"
    this = project()
    metadata = ["Metadata-Version: 2.1", "Name: graphray", f"Version: {version}"]
    metadata += [f"Requires-Python: {this.requires_python}"] if this.requires_python else []
    metadata += [f"Provides-Extra: {extra}" for extra in this.extras]
    metadata += [f"Requires-Dist: {requirement}" for requirement in this.requires]
    tags = ["Wheel-Version: 1.0", "Generator: graphray", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    contents = sources.files() | {
        f"{info}/METADATA": _lines(metadata),
        f"{info}/WHEEL": _lines(tags),
        f"{info}/entry_points.txt": _lines(["[console_scripts]", "graphray = graphray.cli:main"]),
    }
    record = [f"{path},sha256={_hash(content)},{len(content)}" for path, content in contents.items()]
    contents[f"{info}/RECORD"] = _lines([*record, f"{info}/RECORD,,"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            entry = zipfile.ZipInfo(path)  # with the date of 1980
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return f"graphray-{version}-py3-none-any.whl", buffer.getvalue()


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
