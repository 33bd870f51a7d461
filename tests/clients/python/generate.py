"""Generates the gateway's Python modules from its proto files.

    python generate.py PROTO_FOLDER OUTPUT_FOLDER

The end-to-end tests generate them anew each time; a service of yours would do so in its build.
"""

import pathlib
import sys
from importlib import resources

from grpc_tools import protoc


def generate(protos: pathlib.Path, output: pathlib.Path) -> None:
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = [f"-I{protos}", f"-I{well_known}"]
    arguments += [f"--python_out={output}", f"--grpc_python_out={output}"]
    if protoc.main(["protoc", *arguments, *files]) != 0:
        sys.exit("the proto files cannot be compiled")


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
