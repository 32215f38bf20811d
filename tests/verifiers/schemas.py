"""Validates every entry of exported logs against the JSON Schemas that docs/log.md publishes.

    schemas.py docs/log.md FOLDER...

Prints how many entries of each kind there were. Exits with 1 if an entry does not fit, or a kind has no schema.
"""

import collections
import json
import pathlib
import re
import sys

import jsonschema
import referencing


def main(page, *folders):
    blocks = re.findall(r"```json\n(.*?)```", pathlib.Path(page).read_text("utf-8"), re.S)
    schemas = [json.loads(block) for block in blocks if '"$schema"' in block]
    resources = [(schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas]
    registry = referencing.Registry().with_resources(resources)
    by_kind = {
        schema["properties"]["kind"]["const"]: jsonschema.Draft202012Validator(schema, registry=registry)
        for schema in schemas
        if "properties" in schema
    }
    # The examples on the page are entries, too.
    examples = [line for line in "\n".join(blocks).split("\n") if line.startswith('{"v":1,')]
    seen = collections.Counter()
    for entry in examples + [entry for folder in folders for entry in entries(pathlib.Path(folder))]:
        leaf = json.loads(entry)
        kind = leaf["kind"]
        errors = list(by_kind[kind].iter_errors(leaf))
        if errors:
            sys.exit(f"{kind}: {errors[0].message} at {list(errors[0].absolute_path)} in {entry[:300]}")
        seen[kind] += 1
    without_example = set(by_kind) - {json.loads(example)["kind"] for example in examples}
    if without_example:
        sys.exit(f"no example on the page: {sorted(without_example)}")
    print(json.dumps(seen))


def entries(folder):
    size = int((folder / "checkpoint").read_text("utf-8").split("\n")[1])
    for first in range(0, size, 256):
        index = first // 256
        path = f"{index % 1000:03}"
        while index >= 1000:
            index //= 1000
            path = f"x{index % 1000:03}/{path}"
        width = min(256, size - first)
        bundle = (folder / "tile/entries" / (path if width == 256 else f"{path}.p/{width}")).read_bytes()
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            yield bundle[2 : 2 + length].decode("utf-8")
            bundle = bundle[2 + length :]


main(*sys.argv[1:])
