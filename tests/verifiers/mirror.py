"""Copies a log from a web server to a folder, as C2SP tlog-tiles says where its files are. `mirror.py URL FOLDER`"""

import pathlib
import sys
import urllib.error
import urllib.request

url, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def name(number):
    groups = [f"{number % 1000:03}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03}")
    return "/".join(groups)


def get(path, immutable):
    with urllib.request.urlopen(f"{url}/{path}") as response:
        cached = response.headers["Cache-Control"]
        assert ("immutable" in cached) == immutable, f"{path}: {cached}"
        return response.read()


def keep(path):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(get(path, immutable=True))


checkpoint = get("checkpoint", immutable=False)
size = int(checkpoint.split(b"\n")[1])
for kind, hashes in [("entries", size)] + [(str(level), size >> 8 * level) for level in range(8)]:
    for number in range(-(-hashes // 256)):
        width = min(256, hashes - 256 * number)
        keep(f"tile/{kind}/{name(number)}" + ("" if width == 256 else f".p/{width}"))
(folder / "checkpoint").write_bytes(checkpoint)

# A smaller partial tile is still there; a larger one, and other spellings, are not.
assert size > 1
get(f"tile/0/000.p/{min(size, 256) - 1}", immutable=True)
for missing in [f"tile/0/{name(size // 256)}.p/{size % 256 + 1}", "tile/0/0", "tile/9/000", "blobs/00", "../log.vkey", ""]:
    try:
        get(missing, immutable=True)
    except urllib.error.HTTPError as error:
        assert error.code == 404, f"{missing}: {error.code}"
    else:
        raise AssertionError(f"{missing} is there")
