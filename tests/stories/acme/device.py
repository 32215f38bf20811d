"""A device with a TPM, and what it could try: an ACME client (RFC 8555, device-attest-01) that is not ours, over tpm2-tools.

Usage: device.py WORK URL PORT ROOT TCTI MAKER OTHER-CA
WORK is a folder, ROOT the PEM that the server's certificate leads to, MAKER the PEM of the TPM's maker's intermediate, OTHER-CA a
folder in which a CA for attestation keys is kept that the server is told of. With `ca` alone as argument and a folder, makes that CA.
Prints a JSON list of [what, expected, what came].
"""
import base64, datetime, hashlib, hmac, http.client, json, os, pathlib, ssl, struct, subprocess, sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, padding, utils
from cryptography.x509.oid import NameOID, ObjectIdentifier

AIK = ObjectIdentifier("2.23.133.8.3")
MODEL = [(ObjectIdentifier(f"2.23.133.2.{n}"), value) for n, value in [(1, "id:00001014"), (2, "swtpm"), (3, "id:20191023")]]
PERMANENT = ObjectIdentifier("1.3.6.1.5.5.7.8.3")
b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
der = lambda key: key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class Pairs(list):
    """A map in which a name may stand twice."""


def cbor(value):
    def head(major, number):
        for small, code, form in [(24, None, None), (2**8, 24, ">B"), (2**16, 25, ">H"), (2**32, 26, ">I")]:
            if number < small:
                return bytes([major << 5 | number]) if code is None else bytes([major << 5 | code]) + struct.pack(form, number)
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    if isinstance(value, list) and not isinstance(value, Pairs):
        return head(4, len(value)) + b"".join(map(cbor, value))
    pairs = value.items() if isinstance(value, dict) else value
    return head(5, len(pairs)) + b"".join(cbor(name) + cbor(member) for name, member in pairs)


def tlv(tag, *content):
    content = b"".join(content)
    length = len(content)
    size = bytes([length]) if length < 128 else (lambda raw: bytes([0x80 | len(raw)]) + raw)(length.to_bytes((length.bit_length() + 7) // 8, "big"))
    return bytes([tag]) + size + content


class OtherCa:
    """A CA for attestation keys that the server believes, and which certifies what it is asked for."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        if not (folder / "ca.key").exists():
            folder.mkdir(parents=True, exist_ok=True)
            key = ec.generate_private_key(ec.SECP256R1())
            (folder / "ca.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            (folder / "ca.pem").write_bytes(self.root(key).public_bytes(serialization.Encoding.PEM))
        self.key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())

    @staticmethod
    def root(key):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another attestation CA")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=100))
        return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())

    def certify(self, key, identifiers=("device-7",), usage=(AIK,), subject=None, ca=False, basic=True, names=True, critical=True,
                ends=1, by=None, model=MODEL):
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.certificate.subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=2))
        builder = builder.not_valid_after(now + datetime.timedelta(days=ends))
        if basic:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), False)
        if names:
            said = [x509.DirectoryName(x509.Name([x509.NameAttribute(oid, value) for oid, value in model]))]
            said += [x509.OtherName(PERMANENT, tlv(0x30, tlv(0x0C, one.encode()) if one is not None else b"")) for one in identifiers]
            builder = builder.add_extension(x509.SubjectAlternativeName(said), critical)
        return builder.sign(by or self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class Tpm:
    def __init__(self, work, tcti):
        self.work, self.environment = work, dict(os.environ, TPM2TOOLS_TCTI=tcti)

    def __call__(self, name, *words, **more):
        words = [f"tpm2_{name}", *map(str, words)]
        ran = subprocess.run(words, cwd=self.work, env=self.environment, capture_output=True, **more)
        assert ran.returncode == 0, (words, ran.stderr)
        if name not in ("startauthsession", "policysecret"):
            subprocess.run(["tpm2_flushcontext", "-t"], cwd=self.work, env=self.environment, capture_output=True)
        return ran.stdout

    def file(self, name):
        return (self.work / name).read_bytes()

    def public(self, handle):
        self("readpublic", "-c", handle, "-o", "out.pub")
        return self.file("out.pub")[2:]

    def key(self, handle):
        self("readpublic", "-c", handle, "-f", "der", "-o", "out.der")
        return serialization.load_der_public_key(self.file("out.der"))

    def primary(self, handle, hierarchy, more, algorithm="ecc256:ecdsa-sha256:null", attributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda"):
        self("createprimary", "-C", hierarchy, "-G", algorithm, "-g", "sha256", "-a", attributes + more, "-c", "p.ctx")
        self("evictcontrol", "-C", "o", "-c", "p.ctx", handle)

    def certify(self, handle, signer, data):
        session = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
        body = struct.pack(">II", int(handle, 16), int(signer, 16)) + struct.pack(">I", 2 * len(session)) + 2 * session
        body += struct.pack(">H", len(data)) + data + b"\x00\x10"
        answer = self("send", input=struct.pack(">HII", 0x8002, 10 + len(body), 0x148) + body)
        assert answer[6:10] == bytes(4), answer.hex()
        answer = answer[14:14 + int.from_bytes(answer[10:14], "big")]
        size = int.from_bytes(answer[:2], "big")
        return answer[2:2 + size], answer[2 + size:]

    def quote(self, signer, data):
        self("quote", "-c", signer, "-l", "sha256:0", "-g", "sha256", "-q", data.hex(), "-m", "m", "-s", "sig")
        return self.file("m"), self.file("sig")

    def request(self, handle, spoil=False):
        """A CSR that asks for a subject besides."""
        name = tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, bytes.fromhex("550403")), tlv(0x0C, b"an administrator"))))
        info = tlv(0x30, tlv(0x02, b"\0"), name, der(self.key(handle)), tlv(0xA0))
        (self.work / "info").write_bytes(info)
        self("sign", "-c", handle, "-g", "sha256", "-s", "ecdsa", "-f", "plain", "-o", "signature", "info")
        info = info.replace(b"administrator", b"Administrator") if spoil else info
        algorithm = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))
        return tlv(0x30, info, algorithm, tlv(0x03, b"\0", self.file("signature")))

    def activate(self, ak, credential, secret):
        blob = struct.pack(">II", 0xBADCC0DE, 1) + b"".join(struct.pack(">H", len(part)) + part for part in (credential, secret))
        (self.work / "blob").write_bytes(blob)
        self("startauthsession", "--policy-session", "-S", "session")
        self("policysecret", "-S", "session", "-c", "e")
        self("activatecredential", "-c", ak, "-C", "ek.ctx", "-i", "blob", "-o", "found", "-P", "session:session")
        subprocess.run(["tpm2_flushcontext", "session"], cwd=self.work, env=self.environment, capture_output=True)
        return self.file("found")


class Server:
    def __init__(self, url, port, root):
        self.url, self.port = url, port
        self.context = ssl.create_default_context(cafile=root)
        self.name = url.split("//")[1].split(":")[0]

    def send(self, method, path, body=None, content="application/jose+json"):
        class Here(http.client.HTTPSConnection):
            def connect(here):
                http.client.HTTPConnection.connect(here)
                here.sock = self.context.wrap_socket(here.sock, server_hostname=self.name)
        connection = Here("127.0.0.1", self.port, context=self.context)
        connection.request(method, path, body, {"Content-Type": content} if body is not None else {})
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, answer.headers, raw

    def nonce(self):
        return self.send("HEAD", "/acme/new-nonce")[1]["Replay-Nonce"]

    def post(self, path, value):
        status, _, raw = self.send("POST", path, json.dumps(value), "application/json")
        return status, json.loads(raw or b"null")


class Account:
    def __init__(self, server, key=None):
        self.server, self.key, self.kid = server, key or ec.generate_private_key(ec.SECP256R1()), None

    def jwk(self):
        public = self.key.public_key()
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            numbers = public.public_numbers()
            return {"crv": "P-256", "kty": "EC", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
        if isinstance(self.key, rsa.RSAPrivateKey):
            return {"e": "AQAB", "kty": "RSA", "n": b64(public.public_numbers().n.to_bytes(256, "big"))}
        return {"crv": "Ed25519", "kty": "OKP", "x": b64(public.public_bytes_raw())}

    def thumbprint(self):
        return b64(hashlib.sha256(json.dumps(self.jwk(), separators=(",", ":"), sort_keys=True).encode()).digest())

    def sign(self, message):
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
            return "ES256", r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if isinstance(self.key, rsa.RSAPrivateKey):
            return "RS256", self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return "EdDSA", self.key.sign(message)

    def post(self, path, payload, content="application/jose+json", outer=None, spoil=False, mac=False, **change):
        header = {"alg": self.sign(b"")[0], "nonce": None, "url": self.server.url + path}
        header.update({"kid": self.kid} if self.kid else {"jwk": self.jwk()})
        header.update(change)
        header = {name: value for name, value in header.items() if value is not False}
        header["nonce"] = header.get("nonce") or self.server.nonce()
        protected = b64(json.dumps(header).encode())
        payload = "" if payload is None else b64(json.dumps(payload).encode())
        message = f"{protected}.{payload}".encode()
        signature = hmac.digest(der(self.key.public_key()), message, "sha256") if mac else self.sign(message)[1]
        signature = bytes([signature[0] ^ 1]) + signature[1:] if spoil else signature
        body = {"protected": protected, "payload": payload, "signature": b64(signature), **(outer or {})}
        status, headers, raw = self.server.send("POST", path, json.dumps(body), content)
        value = raw.decode() if "pem" in headers["Content-Type"] else json.loads(raw)
        return status, headers, value

    def register(self):
        status, headers, value = self.post("/acme/new-account", {"termsOfServiceAgreed": True, "contact": ["mailto:device@example.org"]})
        assert status == 201, value
        self.kid = headers["Location"]
        return self

    def path(self, url):
        return url.removeprefix(self.server.url)

    def order(self, identifier, kind="permanent-identifier"):
        status, headers, value = self.post("/acme/new-order", {"identifiers": [{"type": kind, "value": identifier}]})
        assert status == 201, value
        authorization = self.post(self.path(value["authorizations"][0]), None)[2]
        [challenge] = authorization["challenges"]
        assert challenge["type"] == "device-attest-01" and challenge["status"] == "pending", challenge
        return self.path(headers["Location"]), value, challenge

    def authorization(self, challenge):
        return f"{challenge['token']}.{self.thumbprint()}".encode()


def main(work, url, port, root, tcti, maker, other):
    work = pathlib.Path(work)
    work.mkdir(parents=True, exist_ok=True)
    tpm, server, other = Tpm(work, tcti), Server(url, int(port), root), OtherCa(other)
    told = []
    say = lambda what, expected, came: told.append([what, expected, came])
    problem = lambda value: value.get("type", "").removeprefix("urn:ietf:params:acme:error:")

    # The TPM: an endorsement key as it was delivered, an attestation key, the certificate's key, and others.
    AK, KEY, OTHER, LOOSE, FREE = "0x81010010", "0x81010020", "0x81010021", "0x81010022", "0x81010011"
    tpm("createek", "-G", "rsa", "-c", "ek.ctx")
    ek = tpm.public("ek.ctx")
    raw = tpm("nvread", "-C", "o", "0x01c00002")
    chain = [raw[:4 + int.from_bytes(raw[2:4], "big")], x509.load_pem_x509_certificate(pathlib.Path(maker).read_bytes()).public_bytes(serialization.Encoding.DER)]
    tpm.primary(AK, "e", "|restricted")
    tpm.primary(FREE, "e", "", attributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
    tpm("createprimary", "-C", "o", "-c", "srk.ctx")
    for handle, attributes in [(KEY, "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda"), (OTHER, "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda"),
                               (LOOSE, "sensitivedataorigin|userwithauth|sign")]:
        tpm("create", "-C", "srk.ctx", "-G", "ecc256:ecdsa-sha256:null", "-a", attributes, "-u", "k.pub", "-r", "k.priv")
        tpm("load", "-C", "srk.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx")
        tpm("evictcontrol", "-C", "o", "-c", "k.ctx", handle)
    soft = ec.generate_private_key(ec.SECP256R1())
    (work / "soft.pem").write_bytes(soft.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    tpm("import", "-C", "srk.ctx", "-G", "ecc", "-i", "soft.pem", "-u", "i.pub", "-r", "i.priv")
    tpm("load", "-C", "srk.ctx", "-u", "i.pub", "-r", "i.priv", "-c", "i.ctx")
    IMPORTED = "0x81010023"
    tpm("evictcontrol", "-C", "o", "-c", "i.ctx", IMPORTED)

    # The attestation CA.
    begin = lambda ak=None, **change: {"endorsement": {"public": ek.hex(), "chain": [base64.b64encode(one).decode() for one in chain], **change},
                                       "attestation-key": tpm.public(ak or AK).hex()}
    finish = lambda begun, found, ak=None: {"session": begun["session"], "attestation-key": tpm.public(ak or AK).hex(), "secret": found.hex()}
    opened = lambda begun: tpm.activate(AK, bytes.fromhex(begun["credential"]), bytes.fromhex(begun["secret"]))
    refused = lambda what, expected, path, message: say(what, expected, (lambda answer: answer[1].get("code") or str(answer[0]))(server.post(path, message)))
    stranger_rsa = rsa.generate_private_key(65537, 2048)
    refused("an attestation key that is not restricted", "ak-attributes", "/attestation/begin", begin(FREE))
    refused("a key that decides for itself what it signs", "ak-attributes", "/attestation/begin", begin(KEY))
    refused("an endorsement certificate of nobody", "ek-chain", "/attestation/begin", begin(chain=[base64.b64encode(chain[0]).decode()]))
    refused("the public area of another endorsement key", "ek-mismatch", "/attestation/begin", begin(public=(ek[:-256] + stranger_rsa.public_key().public_numbers().n.to_bytes(256, "big")).hex()))
    refused("no message", "400", "/attestation/begin", {"endorsement": 1})
    refused("a session that nobody began", "session-unknown", "/attestation/finish", finish({"session": "00" * 16}, b"x" * 32))
    begun = server.post("/attestation/begin", begin())[1]
    refused("a wrong secret", "ak-activation", "/attestation/finish", finish(begun, bytes(32)))
    refused("the right one after a wrong one", "session-unknown", "/attestation/finish", finish(begun, opened(begun)))
    begun = server.post("/attestation/begin", begin())[1]
    refused("the right secret for another key", "session-key", "/attestation/finish", finish(begun, opened(begun), FREE))
    begun = server.post("/attestation/begin", begin())[1]
    found = opened(begun)
    refused("a part of the secret", "ak-activation", "/attestation/finish", finish(begun, found[:-1]))
    begun = server.post("/attestation/begin", begin())[1]
    found = opened(begun)
    status, certified = server.post("/attestation/finish", finish(begun, found))
    say("the right secret", 200, status)
    refused("the same again", "session-unknown", "/attestation/finish", finish(begun, found))
    aks = [base64.b64decode(one) for one in certified["chain"]]
    for number, one in enumerate(aks):
        (work / f"ak-{number}.der").write_bytes(one)
    identifier = certified["identifier"]
    spki = der(x509.load_der_x509_certificate(chain[0]).public_key())
    say("the identifier is the endorsement key's hash", hashlib.sha256(spki).hexdigest(), identifier)
    ak = x509.load_der_x509_certificate(aks[0])
    say("the certificate is for the attestation key", der(tpm.key(AK)).hex(), der(ak.public_key()).hex())
    names = ak.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    say("its names are critical, and its subject empty", [True, 0], [names.critical, len(ak.subject.rdns)])
    say("its use", ["2.23.133.8.3"], [one.dotted_string for one in ak.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value])

    # ACME.
    account = Account(server).register()
    area = tpm.public(KEY)

    def statement(challenge, who=account, x5c=None, data=None, handle=KEY, signer=AK, **change):
        data = hashlib.sha256(who.authorization(challenge)).digest() if data is None else data
        attest, signature = tpm.certify(handle, signer, data)
        return {"ver": "2.0", "alg": -7, "x5c": x5c or aks, "sig": signature, "certInfo": attest, "pubArea": tpm.public(handle), **change}

    answer = lambda stated, fmt="tpm": {"attObj": b64(cbor({"fmt": fmt, "attStmt": stated}))}

    def attested(challenge, payload, who=account):
        return who.post(who.path(challenge["url"]), payload)

    def forged(what, expected, make, identifier=identifier):
        """An order of its own, and one answer to its challenge."""
        path, _, challenge = account.order(identifier)
        payload = make(challenge)
        status, _, value = attested(challenge, payload)
        error = value.get("error", value)
        say(what, expected, error.get("code") or problem(error))
        if "error" in value:
            assert problem(error) == "badAttestationStatement", error
            say(f"{what}: and the order", "invalid", account.post(path, None)[2]["status"])
        return path, challenge

    def honest(who, identifier=identifier, **change):
        path, order, challenge = who.order(identifier)
        assert attested(challenge, answer(statement(challenge, who, **change)), who)[2]["status"] == "valid"
        return path, order

    def spoiled(name, change):
        return lambda challenge: answer((lambda made: {**made, name: change(made[name])})(statement(challenge)))

    raw_object = lambda make: lambda challenge: {"attObj": b64(make(statement(challenge)))}
    forged("SHA-1", "statement-algorithm", lambda c: answer(statement(c, alg=-65535)))
    forged("no algorithm that there is", "statement-algorithm", lambda c: answer(statement(c, alg=0)))
    forged("RS256 by an ECDSA key", "attest-signature", lambda c: answer(statement(c, alg=-257)))
    forged("version 1.2", "statement-format", lambda c: answer(statement(c, ver="1.2")))
    forged("another format", "statement-format", lambda c: answer(statement(c), "packed"))
    forged("a byte behind it", "statement-malformed", raw_object(lambda s: cbor({"fmt": "tpm", "attStmt": s}) + b"\0"))
    forged("a member twice", "statement-malformed", raw_object(lambda s: cbor(Pairs([("fmt", "tpm"), ("attStmt", s), ("fmt", "tpm")]))))
    forged("a statement's member twice", "statement-malformed", raw_object(lambda s: cbor({"fmt": "tpm", "attStmt": Pairs([*[(n, v) for n, v in s.items() if n != "ver"], ("alg", -7)])})))
    forged("no definite length", "statement-malformed", raw_object(lambda s: b"\xbf" + cbor({"fmt": "tpm", "attStmt": s})[1:] + b"\xff"))
    forged("a tag", "statement-malformed", raw_object(lambda s: b"\xc1" + cbor({"fmt": "tpm", "attStmt": s})))
    forged("a member too many", "statement-malformed", lambda c: answer({**statement(c), "ecdaaKeyId": b""}))
    forged("a member too few", "statement-malformed", lambda c: answer({n: v for n, v in statement(c).items() if n != "sig"}))
    forged("no certificate", "statement-malformed", lambda c: answer({**statement(c), "x5c": []}))
    forged("no DER", "ak-certificate", lambda c: answer(statement(c, x5c=[b"\x30\x00"])))
    by = OtherCa(other_folder)
    key = tpm.key(AK)
    stranger = ec.generate_private_key(ec.SECP256R1())
    certificate = lambda **more: [by.certify(key, **more)]
    foreign = lambda what, expected, identifier="device-7", **more: forged(what, expected, lambda c: answer(statement(c, x5c=certificate(**more))), identifier)
    foreign("by a key that has the CA's name", "ak-chain", by=stranger)
    forged("the endorsement certificate as the attestation key's", "ak-certificate", lambda c: answer(statement(c, x5c=chain)))
    foreign("has expired", "ak-chain", ends=-1)
    foreign("no extended key usage", "ak-certificate", usage=())
    foreign("another extended key usage", "ak-certificate", usage=(ObjectIdentifier("1.3.6.1.5.5.7.3.2"),))
    foreign("one more extended key usage", "ak-certificate", usage=(AIK, ObjectIdentifier("1.3.6.1.5.5.7.3.2")))
    foreign("a subject", "ak-certificate", subject="a device")
    foreign("CA:TRUE", "ak-certificate", ca=True)
    foreign("no basicConstraints", "ak-certificate", basic=False)
    foreign("no names", "ak-certificate", names=False)
    foreign("names that may be ignored", "ak-certificate", critical=False)
    foreign("no model", "ak-certificate", model=MODEL[:1] + MODEL[2:])
    foreign("no permanentIdentifier", "identifier-missing", identifiers=())
    foreign("an empty permanentIdentifier", "identifier-missing", identifiers=("",))
    foreign("a permanentIdentifier without value", "identifier-missing", identifiers=(None,))
    foreign("two permanentIdentifiers", "identifier-missing", identifiers=("device-7", "device-8"))
    foreign("of another device", "identifier-mismatch", identifiers=("device-8",))
    forged("of another device, by our own CA", "identifier-mismatch", lambda c: answer(statement(c)), "device-7")
    old = account.order(identifier)[2]
    forged("for another challenge", "attest-qualifying", lambda c: answer(statement(c, data=hashlib.sha256(account.authorization(old)).digest())))
    second = Account(server, rsa.generate_private_key(65537, 2048)).register()
    forged("for another account", "attest-qualifying", lambda c: answer(statement(c, second)))
    forged("for nothing", "attest-qualifying", lambda c: answer(statement(c, data=b"")))
    forged("for a part of it", "attest-qualifying", lambda c: answer(statement(c, data=hashlib.sha256(account.authorization(c)).digest()[:20])))
    quoted = lambda c: (lambda made: answer({**statement(c), "certInfo": made[0], "sig": made[1]}))(tpm.quote(AK, hashlib.sha256(account.authorization(c)).digest()))
    forged("a quote", "attest-type", quoted)
    forged("the magic of nothing", "attest-magic", spoiled("certInfo", lambda raw: raw[:3] + b"\x48" + raw[4:]))
    forged("cut off", "attest-malformed", spoiled("certInfo", lambda raw: raw[:-1]))
    forged("another time", "attest-signature", spoiled("certInfo", lambda raw: raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:]))
    forged("a signature that is spoiled", "attest-signature", spoiled("sig", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])))
    forged("a signature as X.509 has it", "attest-signature", spoiled("sig", lambda raw: utils.encode_dss_signature(int.from_bytes(raw[6:38], "big"), int.from_bytes(raw[-32:], "big"))))
    forged("by a key that nobody certified", "attest-signature", lambda c: answer(statement(c, signer=FREE)))
    forged("the public area of another key", "key-name", lambda c: answer(statement(c, pubArea=tpm.public(OTHER))))
    forged("another nameAlg", "key-name", lambda c: answer(statement(c, pubArea=area[:2] + b"\0\x0c" + area[4:])))
    forged("a public area with a byte behind it", "key-malformed", lambda c: answer(statement(c, pubArea=area + b"\0")))
    forged("the attestation key itself", "key-attributes", lambda c: answer(statement(c, handle=AK)))
    forged("a key that may leave", "key-attributes", lambda c: answer(statement(c, handle=LOOSE)))
    forged("a key that was imported", "key-attributes", lambda c: answer(statement(c, handle=IMPORTED)))

    # The protocol itself.
    def refuses(what, expected, *arguments, who=account, **more):
        status, _, value = who.post(*arguments, **more)
        say(what, expected, problem(value) if isinstance(value, dict) else value)

    new = lambda kind="permanent-identifier", value=identifier: {"identifiers": [{"type": kind, "value": value}]}
    order, path = "/acme/new-order", "/acme/new-account"
    nobody = Account(server)
    refuses("alg none", "badSignatureAlgorithm", order, new(), alg="none")
    refuses("alg HS256 with the public key as secret", "badSignatureAlgorithm", order, new(), alg="HS256", mac=True)
    refuses("alg RS256 with an ECDSA key", "badSignatureAlgorithm", order, new(), alg="RS256")
    refuses("a spoiled signature", "unauthorized", order, new(), spoil=True)
    refuses("jwk and kid", "malformed", order, new(), jwk=account.jwk())
    refuses("neither jwk nor kid", "malformed", order, new(), kid=False)
    refuses("jwk for an order", "malformed", order, new(), kid=False, jwk=account.jwk())
    refuses("kid for a new account", "malformed", path, {}, who=account)
    refuses("an account that is none", "accountDoesNotExist", order, new(), kid=f"{url}/acme/account/{'A' * 43}")
    refuses("another account's name", "badSignatureAlgorithm", order, new(), kid=second.kid)
    refuses("another address", "unauthorized", order, new(), url=url + "/acme/new-account")
    refuses("another host", "unauthorized", order, new(), url="https://elsewhere.example/acme/new-order")
    refuses("a nonce that was made up", "badNonce", order, new(), nonce="AAAAAAAAAAAAAAAAAAAAAA")
    used = server.nonce()
    account.post(order, new(), nonce=used)
    refuses("a nonce again", "badNonce", order, new(), nonce=used)
    refuses("an extension", "malformed", order, new(), crit=["b64"], b64=False)
    refuses("an extension that must be understood", "malformed", order, new(), crit=["exp"], exp=1)
    refuses("an unprotected header", "malformed", order, new(), outer={"header": {"alg": "none"}})
    refuses("another content type", "malformed", order, new(), content="application/json")
    refuses("a private key", "badPublicKey", path, {}, who=nobody, jwk={**nobody.jwk(), "d": "AA"})
    refuses("no point of the curve", "badPublicKey", path, {}, who=nobody, jwk={**nobody.jwk(), "y": b64(bytes(32))})
    refuses("an account that is not there", "accountDoesNotExist", path, {"onlyReturnExisting": True}, who=nobody)
    refuses("a DNS name", "unsupportedIdentifier", order, new("dns", "www.example.org"))
    refuses("a hardware module", "unsupportedIdentifier", order, new("hardware-module"))
    refuses("an empty identifier", "rejectedIdentifier", order, new(value=""))
    refuses("a way up", "rejectedIdentifier", order, new(value=".."))
    refuses("a path", "rejectedIdentifier", order, new(value="../spire/server"))
    refuses("two devices", "rejectedIdentifier", order, {"identifiers": 2 * new()["identifiers"]})
    refuses("no device", "rejectedIdentifier", order, {"identifiers": []})
    refuses("a lifetime of one's own", "malformed", order, {**new(), "notAfter": "2040-01-01T00:00:00Z"})
    ready, _ = honest(account)
    refuses("another account's order", "unauthorized", ready, None, who=second)
    refuses("another account's certificate", "unauthorized", ready + "/finalize", {"csr": b64(tpm.request(KEY))}, who=second)
    pending, _, challenge = account.order(identifier)
    refuses("another account's challenge", "unauthorized", account.path(challenge["url"]), answer(statement(challenge, second)), who=second)
    refuses("before the challenge", "orderNotReady", pending + "/finalize", {"csr": b64(tpm.request(KEY))})
    refuses("a challenge without answer", "malformed", account.path(challenge["url"]), {})
    refuses("no base64url", "malformed", account.path(challenge["url"]), {"attObj": "+/=="})
    refuses("reading with a payload", "malformed", pending, {})
    _, once = forged("a first answer that is wrong", "attest-qualifying", lambda c: answer(statement(c, data=b"x")))
    say("a second answer that is right", "invalid", attested(once, answer(statement(once)))[2]["status"])
    finalize = ready + "/finalize"
    coded = lambda what, expected, csr: say(what, expected, account.post(finalize, {"csr": b64(csr)})[2].get("code"))
    coded("a request for another key", "csr-key-mismatch", tpm.request(OTHER))
    coded("a request that does not verify", "csr-signature", tpm.request(KEY, spoil=True))
    coded("no request", "csr-malformed", b"\x30\x00")

    # And what it is all for.
    status, headers, value = account.post(finalize, {"csr": b64(tpm.request(KEY))})
    assert value.get("status") == "valid", (value, [case for case in told if case[1] != case[2]])
    say("the order is done", 200, status)
    status, headers, issued = account.post(account.path(value["certificate"]), None)
    say("the chain", "application/pem-certificate-chain", headers["Content-Type"])
    (work / "device.pem").write_text(issued)
    refuses("once more", "orderNotReady", finalize, {"csr": b64(tpm.request(KEY))})
    leaf = x509.load_pem_x509_certificates(issued.encode())[0]
    say("the certificate is for the TPM's key", der(tpm.key(KEY)).hex(), der(leaf.public_key()).hex())
    (work / "identifier").write_text(identifier)
    for who in [second, Account(server, ed25519.Ed25519PrivateKey.generate()).register()]:
        path, _ = honest(who)
        say("another kind of account", "valid", who.post(path + "/finalize", {"csr": b64(tpm.request(KEY))})[2]["status"])
    path, _ = honest(account, "device-7", x5c=certificate())
    say("by the other CA", "valid", account.post(path + "/finalize", {"csr": b64(tpm.request(KEY))})[2]["status"])
    path, _ = honest(account, "kiosk-7", x5c=certificate(identifiers=("kiosk-7",)))
    return told


def later(work, url, port, root, tcti, maker, other):
    """An honest answer under the certificate that was issued before: what comes of it?"""
    work = pathlib.Path(work)
    tpm, server = Tpm(work, tcti), Server(url, int(port), root)
    account = Account(server).register()
    _, _, challenge = account.order((work / "identifier").read_text())
    attest, signature = tpm.certify("0x81010020", "0x81010010", hashlib.sha256(account.authorization(challenge)).digest())
    stated = {"ver": "2.0", "alg": -7, "x5c": [(work / f"ak-{n}.der").read_bytes() for n in (0, 1)], "sig": signature, "certInfo": attest,
              "pubArea": tpm.public("0x81010020")}
    value = account.post(account.path(challenge["url"]), {"attObj": b64(cbor({"fmt": "tpm", "attStmt": stated}))})[2]
    return value.get("error", {}).get("code") or value["status"]


if sys.argv[1] == "ca":
    OtherCa(sys.argv[2])
else:
    other_folder = sys.argv[8]
    print(json.dumps({"all": main, "later": later}[sys.argv[1]](*sys.argv[2:])))
