"""The build backend (PEP 517): a wheel is a zip file of the package and three texts about it."""

import base64
import hashlib
import pathlib
import re
import tarfile
import zipfile

HERE = pathlib.Path(__file__).parent
# Not every Python since 3.9 reads TOML.
FIELDS = dict(re.findall(r'^(\S+) = "(.*)"$', (HERE / "pyproject.toml").read_text(), re.MULTILINE))
NAME, VERSION = FIELDS["name"], FIELDS["version"]

METADATA = f"""\
Metadata-Version: 2.1
Name: {NAME}
Version: {VERSION}
Summary: {FIELDS["description"]}
Requires-Python: {FIELDS["requires-python"]}
"""

WHEEL = """\
Wheel-Version: 1.0
Generator: build_wheel
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Writes the wheel, and returns the name of its file."""
    about = f"{NAME}-{VERSION}.dist-info"
    files = {f"cma/{path.name}": path.read_bytes() for path in sorted(HERE.glob("cma/*.py"))}
    files[f"{about}/METADATA"] = METADATA.encode()
    files[f"{about}/WHEEL"] = WHEEL.encode()
    record = "".join(f"{name},{digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{about}/RECORD"] = (record + f"{about}/RECORD,,\n").encode()
    name = f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    return name


def build_sdist(sdist_directory, config_settings=None):
    """Writes the archive of the sources, and returns the name of its file."""
    name = f"{NAME}-{VERSION}.tar.gz"
    with tarfile.open(pathlib.Path(sdist_directory, name), "w:gz") as archive:
        for path in ["pyproject.toml", "build_wheel.py", *sorted(HERE.glob("cma/*.py"))]:
            path = HERE / path
            archive.add(path, f"{NAME}-{VERSION}/{path.relative_to(HERE)}")
    return name


def digest(data):
    """The SHA-256 of data as a wheel records it."""
    text = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={text}"
