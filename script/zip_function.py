"""Zips the function: the program as bootstrap and, where they are given, root certificates as roots.pem.

The same content gives the same bytes: no times, no owners, no order of a directory.
Usage: zip_function.py TARGET PROGRAM [ROOTS]
"""

import sys
import zipfile


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix, or the mode below means nothing
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def zip_function(target: str, program: str, roots: str | None = None) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        with open(program, "rb") as file:
            archive.writestr(entry("bootstrap", 0o755), file.read(), compresslevel=9)
        if roots is not None:
            with open(roots, "rb") as file:
                archive.writestr(entry("roots.pem", 0o644), file.read(), compresslevel=9)


if __name__ == "__main__":
    zip_function(*sys.argv[1:])
