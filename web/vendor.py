"""Fetches what the documentation page is made of from a released npm package, and puts it into our own package.

`python3 web/vendor.py` writes src/heavylift/http/assets anew. It needs npm, and is run when the version below changes.
"""

import base64
import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "swagger-ui-dist@5.35.0"  # Apache-2.0
INTEGRITY = "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="
ASSETS = Path(__file__).parents[1] / "src" / "heavylift" / "http" / "assets"
PACKED = ("swagger-ui-bundle.js", "swagger-ui.css")
LICENCES = {
    "LICENSE": "LICENSE.swagger-ui",
    "NOTICE": "NOTICE.swagger-ui",
    "swagger-ui-bundle.js.LICENSE.txt": "LICENSE.swagger-ui-bundle",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(folder).iterdir()
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            sys.exit(f"{PACKAGE} has the digest {found}, not {INTEGRITY}")
        with tarfile.open(archive) as files:

            def read(name: str) -> bytes:
                member = files.extractfile(f"package/{name}")
                assert member is not None
                return member.read()

            for name in PACKED:
                # Without a time, so that the same package makes the same bytes.
                (ASSETS / f"{name}.gz").write_bytes(gzip.compress(read(name), 9, mtime=0))
            for name, target in LICENCES.items():
                (ASSETS / target).write_bytes(read(name))


if __name__ == "__main__":
    main()
