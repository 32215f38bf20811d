#!/usr/bin/env python3
"""Verifies Undercroft's logs with nothing of Undercroft's: one file, to be read before it is run.

    python3 verify.py certificate leaf.pem leaf.entry leaf.tlog-proof log.vkey [witnesses.policy]
    python3 verify.py log FOLDER log.vkey

The first shows that a certificate stood in the log before it was signed, and, with a policy, that enough witnesses have
cosigned that. The second goes through a whole exported log: every byte against the signed checkpoint, and what the
entries say of each other. It needs Python 3.9 and the package `cryptography`; formats are in docs/log.md, and the clause
beside each check says where it is from. Exit status: 0 good, 2 usage, 5 something is wrong.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

ED25519_LOG, ED25519_WITNESS = 0x01, 0x04  # C2SP signed-note, tlog-cosignature


class Wrong(Exception):
    """What was to be shown is not so."""


def must(condition, what):
    if not condition:
        raise Wrong(what)


def unbase64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong(f"not base64: {text[:60]!r}") from None
    must(base64.b64encode(raw).decode() == text, f"base64 with odd padding: {text[:60]!r}")
    return raw


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# The tree: RFC 6962 section 2.1.


def leaf_hash(entry):
    return sha256(b"\x00", entry)


def node_hash(left, right):
    return sha256(b"\x01", left, right)


class Tree:
    """The roots of the complete subtrees, largest first: all that is needed to go on and to tell the root."""

    def __init__(self):
        self.peaks = []

    def add(self, leaf):
        size, node = 1, leaf
        while self.peaks and self.peaks[-1][0] == size:
            node = node_hash(self.peaks.pop()[1], node)
            size *= 2
        self.peaks.append((size, node))

    def root(self):
        if not self.peaks:
            return sha256()
        node = self.peaks[-1][1]
        for _, peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def root_of_path(index, size, node, path):
    """RFC 9162 section 2.1.3.2."""
    must(0 <= index < size, "the entry lies beyond the tree")
    last = size - 1
    for sibling in path:
        must(last > 0, "the proof is too long")
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    must(last == 0, "the proof is too short")
    return node


# Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint, tlog-cosignature.


class Key:
    """A vkey: name+id+base64(type, key)."""

    def __init__(self, text):
        name, key_id, encoded = (text.strip().split("+", 2) + ["", ""])[:3]
        typed = unbase64(encoded)
        must(name and len(typed) > 1, f"no vkey: {text[:60]!r}")
        self.name, self.type, self.raw = name, typed[0], typed[1:]
        self.id = sha256(name.encode(), b"\n", typed)[:4]
        must(self.id.hex() == key_id, f"the vkey of {name} carries the id of another key")
        self.is_known = self.type in (ED25519_LOG, ED25519_WITNESS)

    def signed(self, text, blob):
        """Verifies a signature line, and gives the time that a witness vouches for."""
        time, message = None, text
        if self.type == ED25519_WITNESS:
            must(len(blob) == 72, f"a cosignature of {self.name} has a wrong length")
            (time,), blob = struct.unpack(">Q", blob[:8]), blob[8:]
            message = f"cosignature/v1\ntime {time}\n{text}"
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(blob, message.encode())
        except InvalidSignature:
            raise Wrong(f"the signature of {self.name} does not verify") from None
        return time


class Note:
    def __init__(self, note):
        text, separator, lines = note.rpartition("\n\n")
        must(separator and lines.endswith("\n"), "no signed note")
        self.text, self.lines = text + "\n", []
        for line in lines[:-1].split("\n"):
            dash, name, blob = (line.split(" ") + ["", ""])[:3]
            must(dash == "\u2014" and line.count(" ") == 2, f"no signature line: {line[:60]!r}")
            blob = unbase64(blob)
            must(len(blob) > 4, f"a signature of {name} is too short")
            self.lines.append((name, blob[:4], blob[4:]))

    def is_signed_by(self, key):
        own = [blob for name, key_id, blob in self.lines if (name, key_id) == (key.name, key.id)]
        for blob in own:
            key.signed(self.text, blob)
        return bool(own)


def open_checkpoint(note, key):
    note = Note(note)
    must(key.type == ED25519_LOG, f"{key.name} is no log's key")
    must(note.is_signed_by(key), f"the checkpoint is not signed by {key.name}")
    lines = note.text.split("\n")
    must(len(lines) >= 4 and all(lines[:-1]), "a checkpoint has three lines or more")
    must(lines[0] == key.name, f"it is a checkpoint of {lines[0]} and not of {key.name}")
    must(lines[1] == str(int(lines[1] if lines[1].isdecimal() else "-1")), "the size is no number")
    return int(lines[1]), unbase64(lines[2]), note


def witnesses(note, policy):
    """C2SP tlog-policy: who has cosigned, and whether that is enough. Witnesses with keys of kinds that are not known
    here (ML-DSA-44) count as absent."""
    members, groups, quorum = {}, {}, None
    for line in policy.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["witness"]:
            key = Key(words[2])
            members[words[1]] = key.type == ED25519_WITNESS and note.is_signed_by(key)
        elif words[:1] == ["group"]:
            needed = {"all": len(words) - 3, "any": 1}.get(words[2]) or int(words[2])
            met = sum(members.get(name, groups.get(name, False)) for name in words[3:])
            groups[words[1]] = met >= needed
        elif words[:1] == ["quorum"]:
            quorum = words[1]
    must(quorum is not None, "the policy has no quorum")
    enough = quorum == "none" or members.get(quorum, groups.get(quorum, False))
    cosigned = [name for name, signed in members.items() if signed]
    must(enough, f"too few witnesses have cosigned: {', '.join(cosigned) or 'none'}")
    return cosigned


# Entries: docs/log.md.


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    must(len(keys) == len(set(keys)), "an entry has a key twice")
    return dict(pairs)


def read_entry(raw):
    try:
        entry = json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates)
    except ValueError as error:
        raise Wrong(f"an entry is no JSON: {error}") from None
    must(isinstance(entry, dict) and entry.get("v") == 1, "an entry of another version")
    return entry


def intent_bytes(body, blob):
    """The to-be-signed bytes of an intent: in the entry, or in a blob that it names."""
    tbs = body["tbs"]
    if "der" in tbs:
        return unbase64(tbs["der"])
    wanted = tbs["blob"]
    raw = blob(wanted["sha256"])
    must(len(raw) == wanted["length"], "a blob has another length")
    return raw


def verify_signature(spki, algorithm, message, signature):
    key = serialization.load_der_public_key(spki)
    try:
        if algorithm == "ed25519" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        elif algorithm.startswith("ecdsa-") and isinstance(key, ec.EllipticCurvePublicKey):
            digest = hashes.SHA384() if algorithm.endswith("sha384") else hashes.SHA256()
            key.verify(signature, message, ec.ECDSA(digest))
        elif algorithm == "rsa-pkcs1-sha256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif algorithm == "rsa-pss-sha256" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
            key.verify(signature, message, pss, hashes.SHA256())
        else:
            raise Wrong(f"{algorithm} is no algorithm of this key")
    except InvalidSignature:
        raise Wrong("a signature does not verify under the key of its intent") from None


# What is asked for.


def certificate(pem, entry, proof, vkey, policy=None):
    """That the to-be-signed bytes of a certificate stand in the log as an intent."""
    cert = x509.load_pem_x509_certificate(pem)
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    must(lines[0] == "c2sp.org/tlog-proof@v1", "no tlog-proof")
    del lines[0]
    if lines and lines[0].startswith("extra "):
        del lines[0]
    must(lines and lines[0].startswith("index ") and lines[0][6:].isdecimal(), "the proof names no index")
    index, path = int(lines[0][6:]), [unbase64(line) for line in lines[1:]]
    size, root, signed = open_checkpoint(note, Key(vkey))
    must(root_of_path(index, size, leaf_hash(entry), path) == root, "the entry does not stand where the proof says")
    leaf = read_entry(entry)
    must(leaf["origin"] == Key(vkey).name and leaf["index"] == index, "the entry says that it stands elsewhere")
    must(leaf["kind"] == "intent", "the entry is no intent")
    body = leaf["body"]
    tbs = cert.tbs_certificate_bytes
    if "der" in body["tbs"]:
        same = unbase64(body["tbs"]["der"]) == tbs
    else:
        same = body["tbs"]["blob"] == {"sha256": sha256(tbs).hex(), "length": len(tbs)}
    must(same, "the entry is the intent of another certificate")
    cosigned = witnesses(signed, policy) if policy else []
    return {
        "log": leaf["origin"],
        "index": index,
        "of": size,
        "logged": leaf["time"],
        "caller": body["caller"]["id"],
        "rule": body["rule"],
        "witnesses": cosigned,
    }


def tiles(folder, size):
    """The entries of a log, from its bundles (C2SP tlog-tiles)."""
    for number in range((size + 255) // 256):
        groups = [f"{number % 1000:03}"]
        rest = number // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        width = min(256, size - 256 * number)
        name = "/".join(groups) + ("" if width == 256 else f".p/{width}")
        path = folder / "tile" / "entries" / name
        must(path.is_file(), f"{path} is missing")
        raw, at = path.read_bytes(), 0
        for _ in range(width):
            must(at + 2 <= len(raw), f"{path} ends too early")
            length = struct.unpack(">H", raw[at : at + 2])[0]
            must(at + 2 + length <= len(raw), f"{path} ends too early")
            yield raw[at + 2 : at + 2 + length]
            at += 2 + length
        must(at == len(raw), f"{path} goes on behind its entries")


def log(folder, vkey):
    """That a whole log is what its key has signed, and that its entries agree with each other."""
    key = Key(vkey)
    checkpoint = (folder / "checkpoint").read_text(encoding="utf-8")
    size, root, _ = open_checkpoint(checkpoint, key)

    def blob(digest):
        must(len(digest) == 64 and all(c in "0123456789abcdef" for c in digest), "no name of a blob")
        path = folder / "blobs" / digest
        must(path.is_file(), f"the blob {digest} is missing")
        raw = path.read_bytes()
        must(sha256(raw).hex() == digest, f"the blob {digest} is another")
        return raw

    # Twice through the files: nothing that an entry says is believed before its bytes are.
    tree = Tree()
    for raw in tiles(folder, size):
        tree.add(leaf_hash(raw))
    must(tree.root() == root, "the entries are not those that the checkpoint covers")

    keys, open_intents, last, counts = {}, {}, "", {}
    for index, raw in enumerate(tiles(folder, size)):
        try:
            entry = read_entry(raw)
            must(entry["origin"] == key.name and entry["index"] == index, "it says that it stands elsewhere")
            must(entry["time"] >= last, "it was stamped before the one in front of it")
            last, kind, body = entry["time"], entry["kind"], entry["body"]
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "key":
                spki = unbase64(body["spki"])
                must(sha256(spki).hex() == body["key_id"], "a key has the id of another")
                keys[body["key_id"]] = spki
            elif kind == "intent":
                must(body["key_id"] in keys, "its key is not in the log")
                open_intents[index] = (keys[body["key_id"]], body["algorithm"], intent_bytes(body, blob))
            elif kind == "outcome":
                must(body["intent"] in open_intents, "it is the outcome of no intent that waits for one")
                spki, algorithm, tbs = open_intents.pop(body["intent"])
                if "signature" in body["result"]:
                    verify_signature(spki, algorithm, tbs, unbase64(body["result"]["signature"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise Wrong(f"entry {index}: it lacks {error}") from None
        except Wrong as error:
            raise Wrong(f"entry {index}: {error}") from None
    return {"log": key.name, "entries": size, "until": last, "open": len(open_intents), **counts}


def main(arguments):
    def text(path):
        return pathlib.Path(path).read_text(encoding="utf-8")

    def raw(path):
        return pathlib.Path(path).read_bytes()

    try:
        if arguments[:1] == ["certificate"] and len(arguments) in (5, 6):
            pem, entry, proof, vkey, *policy = arguments[1:]
            told = certificate(raw(pem), raw(entry), text(proof), text(vkey), *map(text, policy))
        elif arguments[:1] == ["log"] and len(arguments) == 3:
            told = log(pathlib.Path(arguments[1]), text(arguments[2]))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except (Wrong, ValueError) as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        return 5
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
