#!/usr/bin/env python3
"""Verifies Undercroft's logs with nothing of Undercroft's: one file, to be read before it is run.

    python3 verify.py certificate leaf.pem leaf.entry leaf.tlog-proof log.vkey [witnesses.policy]
    python3 verify.py log FOLDER log.vkey [witnesses.policy] [--seen CHECKPOINT]...

The first shows that a certificate stood in the log before it was signed, and, with a policy, that enough witnesses have
cosigned that. The second goes through a whole exported log: every byte against the signed checkpoint, and what the
entries say of each other. Whoever has stolen the log's key can sign another history, sound in itself: only a policy, and
checkpoints that you have seen before (or that stand in the .tlog-proof of a certificate), show that one.

It needs Python 3.9 and the package `cryptography`; formats are in docs/log.md, and the clause beside each check says
where it is from. What is wrong is told with its name in brackets, as undercroft-audit names it. Exit status: 0 good,
2 usage, 5 something is wrong.
"""

import argparse
import base64
import datetime
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
    """What was to be shown is not so: the name of the rule that is broken, and how."""

    def __init__(self, rule, what):
        super().__init__(f"{what} ({rule})")
        self.rule, self.what = rule, what


def must(condition, rule, what):
    if not condition:
        raise Wrong(rule, what)


def unbase64(text, rule="leaf"):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Wrong(rule, f"not base64: {text[:60]!r}") from None
    must(base64.b64encode(raw).decode() == text, rule, f"base64 with odd padding: {text[:60]!r}")
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
    must(0 <= index < size, "proof", "the entry lies beyond the tree")
    last = size - 1
    for sibling in path:
        must(last > 0, "proof", "the proof is too long")
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    must(last == 0, "proof", "the proof is too short")
    return node


# Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint, tlog-cosignature.


class Key:
    """A vkey: name+id+base64(type, key)."""

    def __init__(self, text):
        name, key_id, encoded = (text.strip().split("+", 2) + ["", ""])[:3]
        typed = unbase64(encoded, "checkpoint")
        must(name and len(typed) > 1, "checkpoint", f"no vkey: {text[:60]!r}")
        self.name, self.type, self.raw = name, typed[0], typed[1:]
        self.id = sha256(name.encode(), b"\n", typed)[:4]
        must(self.id.hex() == key_id, "checkpoint", f"the vkey of {name} carries the id of another key")
        self.is_known = self.type in (ED25519_LOG, ED25519_WITNESS)

    def signed(self, text, blob):
        """Verifies a signature line, and gives the time that a witness vouches for."""
        time, message, rule = None, text, "checkpoint"
        if self.type == ED25519_WITNESS:
            rule = "witnesses"
            must(len(blob) == 72, rule, f"a cosignature of {self.name} has a wrong length")
            (time,), blob = struct.unpack(">Q", blob[:8]), blob[8:]
            message = f"cosignature/v1\ntime {time}\n{text}"
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(blob, message.encode())
        except InvalidSignature:
            raise Wrong(rule, f"the signature of {self.name} does not verify") from None
        return time


class Note:
    def __init__(self, note):
        text, separator, lines = note.rpartition("\n\n")
        must(separator and lines.endswith("\n"), "checkpoint", "no signed note")
        self.text, self.lines = text + "\n", []
        for line in lines[:-1].split("\n"):
            dash, name, blob = (line.split(" ") + ["", ""])[:3]
            must(dash == "\u2014" and line.count(" ") == 2, "checkpoint", f"no signature line: {line[:60]!r}")
            blob = unbase64(blob, "checkpoint")
            must(len(blob) > 4, "checkpoint", f"a signature of {name} is too short")
            self.lines.append((name, blob[:4], blob[4:]))

    def signed_by(self, key):
        """Verifies every line of a key; for each, the time that a witness vouches for."""
        own = [blob for name, key_id, blob in self.lines if (name, key_id) == (key.name, key.id)]
        return [key.signed(self.text, blob) for blob in own]


def open_checkpoint(note, key):
    note = Note(note)
    must(key.type == ED25519_LOG, "checkpoint", f"{key.name} is no log's key")
    must(note.signed_by(key), "checkpoint", f"the checkpoint is not signed by {key.name}")
    lines = note.text.split("\n")
    must(len(lines) >= 4 and all(lines[:-1]), "checkpoint", "a checkpoint has three lines or more")
    must(lines[0] == key.name, "checkpoint", f"it is a checkpoint of {lines[0]} and not of {key.name}")
    size = int(lines[1]) if lines[1].isdecimal() else -1
    must(lines[1] == str(size), "checkpoint", "the size is no number")
    return size, unbase64(lines[2], "checkpoint"), note


def witnesses(note, policy):
    """C2SP tlog-policy: who has cosigned and when, if that is enough. Witnesses with keys of kinds that are not known
    here (ML-DSA-44) count as absent."""
    met, times, quorum = {}, {}, None
    for line in policy.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["witness"]:
            key = Key(words[2])
            signed = note.signed_by(key) if key.type == ED25519_WITNESS else []
            met[words[1]] = bool(signed)
            if signed:
                time = datetime.datetime.fromtimestamp(max(signed), datetime.timezone.utc)
                times[words[1]] = time.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif words[:1] == ["group"]:
            needed = {"all": len(words) - 3, "any": 1}.get(words[2]) or int(words[2])
            met[words[1]] = sum(met.get(name, False) for name in words[3:]) >= needed
        elif words[:1] == ["quorum"]:
            quorum = words[1]
    must(quorum is not None, "witnesses", "the policy has no quorum")
    enough = quorum == "none" or met.get(quorum, False)
    must(enough, "witnesses", f"too few witnesses have cosigned: {', '.join(times) or 'none'}")
    return times


# Entries: docs/log.md.


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    must(len(keys) == len(set(keys)), "leaf", "an entry has a key twice")
    return dict(pairs)


def read_entry(raw):
    try:
        entry = json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates)
    except ValueError as error:
        raise Wrong("leaf", f"an entry is no JSON: {error}") from None
    must(isinstance(entry, dict) and entry.get("v") == 1, "leaf", "an entry of another version")
    return entry


def intent_bytes(body, blob):
    """The to-be-signed bytes of an intent: in the entry, or in a blob that it names."""
    tbs = body["tbs"]
    if "der" in tbs:
        return unbase64(tbs["der"])
    wanted = tbs["blob"]
    raw = blob(wanted["sha256"])
    must(len(raw) == wanted["length"], "blob", "a blob has another length")
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
            raise Wrong("algorithm", f"{algorithm} is no algorithm of this key")
    except InvalidSignature:
        raise Wrong("signature", "a signature does not verify under the key of its intent") from None


def element(der):
    """The first element of some DER, its content, and what is behind it (X.690 section 8.1)."""
    must(len(der) >= 2, "leaf", "an element of DER that is cut short")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    end = start + length
    must(len(der) >= end, "leaf", "an element of DER that is cut short")
    return der[:end], der[start:end], der[end:]


def elements(der):
    """The elements of a SEQUENCE OF, each with its content."""
    _, rest, _ = element(der)
    found = []
    while rest:
        whole, inner, rest = element(rest)
        found.append((whole, inner))
    return found


# What is asked for.


def split_proof(proof):
    """C2SP tlog-proof: the lines of its head, and the checkpoint."""
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    must(lines[0] == "c2sp.org/tlog-proof@v1", "proof", "no tlog-proof")
    return lines[1:], note


def certificate(pem, entry, proof, vkey, policy=None):
    """That the to-be-signed bytes of a certificate stand in the log as an intent."""
    cert = x509.load_pem_x509_certificate(pem)
    lines, note = split_proof(proof)
    if lines and lines[0].startswith("extra "):
        del lines[0]
    is_index = lines and lines[0].startswith("index ") and lines[0][6:].isdecimal()
    must(is_index, "proof", "the proof names no index")
    index, path = int(lines[0][6:]), [unbase64(line, "proof") for line in lines[1:]]
    size, root, signed = open_checkpoint(note, Key(vkey))
    is_there = root_of_path(index, size, leaf_hash(entry), path) == root
    must(is_there, "proof", "the entry does not stand where the proof says")
    leaf = read_entry(entry)
    is_here = leaf["origin"] == Key(vkey).name and leaf["index"] == index
    must(is_here, "index", "the entry says that it stands elsewhere")
    must(leaf["kind"] == "intent", "certificate", "the entry is no intent")
    body = leaf["body"]
    tbs = cert.tbs_certificate_bytes
    if "der" in body["tbs"]:
        same = unbase64(body["tbs"]["der"]) == tbs
    else:
        same = body["tbs"]["blob"] == {"sha256": sha256(tbs).hex(), "length": len(tbs)}
    must(same, "certificate", "the entry is the intent of another certificate")
    cosigned = witnesses(signed, policy) if policy else {}
    return {
        "log": leaf["origin"],
        "index": index,
        "of": size,
        "logged": leaf["time"],
        "caller": body["caller"]["id"],
        "rule": body["rule"],
        "witnesses": cosigned,
    }


def tile(folder, kind, number, width):
    """The bytes of a tile or a bundle (C2SP tlog-tiles)."""
    groups, rest = [f"{number % 1000:03}"], number // 1000
    while rest:
        groups.insert(0, f"x{rest % 1000:03}")
        rest //= 1000
    name = f"tile/{kind}/" + "/".join(groups) + ("" if width == 256 else f".p/{width}")
    must((folder / name).is_file(), "missing", f"{name} is missing")
    return (folder / name).read_bytes()


def entries(folder, size):
    """The entries of a log, from its bundles."""
    for number in range((size + 255) // 256):
        first, width = 256 * number, min(256, size - 256 * number)
        raw, at = tile(folder, "entries", number, width), 0
        for index in range(first, first + width):
            length = struct.unpack(">H", raw[at : at + 2].ljust(2, b"\xff"))[0]
            must(at + 2 + length <= len(raw), "entry", f"entry {index}: its bytes are missing")
            yield raw[at + 2 : at + 2 + length]
            at += 2 + length
        must(at == len(raw), "entry", f"entry {index}: its bytes do not end where they must")


class HashTiles:
    """The tiles that follow from the entries, compared with those in the folder."""

    def __init__(self, folder):
        self.folder, self.levels, self.differ = folder, [], []

    def add(self, node, level=0):
        if level == len(self.levels):
            self.levels.append((0, []))
        number, nodes = self.levels[level]
        nodes.append(node)
        if len(nodes) == 256:
            self.compare(level)
            self.levels[level] = (number + 1, [])
            whole = Tree()
            for node in nodes:
                whole.add(node)
            self.add(whole.root(), level + 1)

    def compare(self, level):
        number, nodes = self.levels[level]
        stored = tile(self.folder, level, number, len(nodes))
        must(len(stored) == 32 * len(nodes), "tile", f"tile {number} of level {level} has another length")
        wrong = [at for at, node in enumerate(nodes) if stored[32 * at : 32 * at + 32] != node]
        if wrong:
            self.differ.append((level, 256 * number + wrong[0]))

    def close(self):
        for level, (_, nodes) in enumerate(self.levels):
            if nodes:
                self.compare(level)


def bytes_of_log(folder, size, root, seen):
    """Every byte against the checkpoint, and the checkpoint against those that were seen before."""
    tree, hash_tiles, roots = Tree(), HashTiles(folder), {0: sha256()}
    wanted = {then for _, then, _ in seen}
    for index, raw in enumerate(entries(folder, size)):
        node = leaf_hash(raw)
        tree.add(node)
        hash_tiles.add(node)
        if index + 1 in wanted:
            roots[index + 1] = tree.root()
    hash_tiles.close()
    level, position = min(hash_tiles.differ, default=(None, None))
    if tree.root() != root:
        must(level != 0, "entry", f"entry {position}: its bytes are not what the checkpoint covers")
        must(level is None, "tile", f"hash {position} of level {level} and the entries below it disagree")
        raise Wrong("root", "the entries are not those that the checkpoint covers")
    must(level is None, "tile", f"hash {position} of level {level} is not what the entries have")
    for name, then, known in seen:
        must(then <= size, "rollback", f"the log had {then} entries when {name} was signed, and has {size} now")
        must(roots[then] == known, "fork", f"its first {then} entries are not those that {name} covers")


def log(folder, vkey, policy=None, seen=()):
    """That a whole log is what its key has signed, that it has grown from what was seen of it, and that its entries
    agree with each other."""
    key = Key(vkey)
    checkpoint = (folder / "checkpoint").read_text(encoding="utf-8")
    size, root, note = open_checkpoint(checkpoint, key)
    cosigned = witnesses(note, policy) if policy else {}
    known = []
    for name, text in seen:
        text = split_proof(text)[1] if text.startswith("c2sp.org/tlog-proof@") else text
        known.append((name, *open_checkpoint(text, key)[:2]))

    def blob(digest):
        is_name = len(digest) == 64 and all(c in "0123456789abcdef" for c in digest)
        must(is_name, "blob", "no name of a blob")
        path = folder / "blobs" / digest
        must(path.is_file(), "blob", f"the blob {digest} is missing")
        raw = path.read_bytes()
        must(sha256(raw).hex() == digest, "blob", f"the blob {digest} is another")
        return raw

    # Twice through the files: nothing that an entry says is believed before its bytes are.
    bytes_of_log(folder, size, root, known)

    keys, uses, open_intents, last, counts = {}, {}, {}, "", {}
    for index, raw in enumerate(entries(folder, size)):
        try:
            entry = read_entry(raw)
            must(entry["origin"] == key.name, "origin", f"it says that it is of {entry['origin']}")
            must(entry["index"] == index, "index", f"it says that it is entry {entry['index']}")
            must(entry["time"] >= last, "time", "it was stamped before the one in front of it")
            last, kind, body = entry["time"], entry["kind"], entry["body"]
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "key":
                spki = unbase64(body["spki"])
                must(sha256(spki).hex() == body["key_id"], "key", "a key has the id of another")
                keys[body["key_id"]] = spki
            elif kind == "intent":
                must(body["key_id"] in keys, "custody", "its key is not in the log")
                uses[body["key_id"]] = uses.get(body["key_id"], 0) + 1
                is_next = entry["sequence"] == uses[body["key_id"]]
                must(is_next, "sequence", f"use {uses[body['key_id']]} of its key is missing")
                open_intents[index] = (keys[body["key_id"]], body["algorithm"], intent_bytes(body, blob))
            elif kind == "verdict":
                for part in ("evidence", "policy"):
                    must(len(blob(body[part]["sha256"])) == body[part]["length"], "blob", "a blob has another length")
            elif kind == "outcome":
                must(body["intent"] in open_intents, "outcome", "it is the outcome of no intent that waits for one")
                spki, algorithm, tbs = open_intents.pop(body["intent"])
                if "signature" in body["result"]:
                    verify_signature(spki, algorithm, tbs, unbase64(body["result"]["signature"]))
                elif "signatures" in body["result"]:
                    # A batch of OCSP responses: a SEQUENCE OF ResponseData, and one of BIT STRING.
                    responses, signatures = elements(tbs), elements(blob(body["result"]["signatures"]["sha256"]))
                    must(len(responses) == len(signatures), "signature", "a response of a batch has no signature")
                    for (response, _), (_, signature) in zip(responses, signatures):
                        verify_signature(spki, algorithm, response, signature[1:])
        except (KeyError, TypeError, AttributeError) as error:
            raise Wrong("leaf", f"entry {index}: it lacks {error}") from None
        except Wrong as error:
            raise Wrong(error.rule, f"entry {index}: {error.what}") from None
    told = {"log": key.name, "entries": size, "until": last, "open": len(open_intents)}
    return {**told, "kinds": counts, "witnesses": cosigned}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_certificate, of_log = commands.add_parser("certificate"), commands.add_parser("log")
    for name in ("pem", "entry", "proof", "vkey"):
        of_certificate.add_argument(name, type=pathlib.Path)
    of_log.add_argument("folder", type=pathlib.Path)
    of_log.add_argument("vkey", type=pathlib.Path)
    for command in (of_certificate, of_log):
        command.add_argument("policy", type=pathlib.Path, nargs="?")
    of_log.add_argument("--seen", type=pathlib.Path, action="append", default=[])
    asked = parser.parse_args()

    def text(path):
        return path.read_text(encoding="utf-8") if path else None

    try:
        vkey, policy = text(asked.vkey), text(asked.policy)
        if asked.command == "certificate":
            pem, entry = asked.pem.read_bytes(), asked.entry.read_bytes()
            told = certificate(pem, entry, text(asked.proof), vkey, policy)
        else:
            told = log(asked.folder, vkey, policy, [(str(path), text(path)) for path in asked.seen])
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except (Wrong, ValueError) as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        return 5
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
