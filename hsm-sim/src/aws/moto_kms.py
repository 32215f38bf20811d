"""moto's AWS KMS on a free port of this machine, which it prints.

moto signs whatever it is given as a whole message, with keys in any state, and pads PSS with as much salt as fits. AWS
does what is written here: MessageType, the lengths of digests and messages, the states of keys, a salt as long as the
digest, and the ARN in every answer about a key (AWS KMS API Reference, Sign and GetPublicKey).

AWS makes a key at once, and Python an RSA key in seconds when the machine is busy. With the argument rsa-ahead, two of
each length are made before it listens.
"""

import base64
import json
import sys
import threading

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from moto.core.exceptions import JsonRESTError
from moto.kms import models
from moto.kms.responses import KmsResponse
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def sign(self):
    name = self._get_param("KeyId")
    message = self._get_param("Message")
    kind = self._get_param("MessageType") or "RAW"
    algorithm = self._get_param("SigningAlgorithm")
    self._validate_key_id(name)
    key = self.kms_backend.describe_key(name)
    if key.key_state == "Disabled":
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is {key.key_state}.")
    if key.key_usage != "SIGN_VERIFY" or algorithm not in key.signing_algorithms:
        raise JsonRESTError("InvalidKeyUsageException", f"{algorithm} is not for {key.arn}.")
    hashing = HASHES[algorithm.rsplit("_", 1)[1]]
    if kind == "DIGEST":
        if len(message) != hashing.digest_size:
            raise JsonRESTError("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
        digest = message
    else:
        if not 1 <= len(message) <= 4096:
            raise JsonRESTError("ValidationException", "Message must have 1 to 4096 bytes.")
        hasher = hashes.Hash(hashing)
        hasher.update(message)
        digest = hasher.finalize()
    prehashed = utils.Prehashed(hashing)
    private = key.private_key.private_key
    if algorithm.startswith("ECDSA"):
        signature = private.sign(digest, ec.ECDSA(prehashed))
    elif algorithm.startswith("RSASSA_PSS"):
        pad = padding.PSS(mgf=padding.MGF1(hashing), salt_length=hashing.digest_size)
        signature = private.sign(digest, pad, prehashed)
    else:
        signature = private.sign(digest, padding.PKCS1v15(), prehashed)
    text = base64.b64encode(signature).decode()
    return json.dumps({"KeyId": key.arn, "Signature": text, "SigningAlgorithm": algorithm})


moto_get_public_key = KmsResponse.get_public_key


def get_public_key(self):
    answer = json.loads(moto_get_public_key(self))
    answer["KeyId"] = self.kms_backend.describe_key(self._get_param("KeyId")).arn
    return json.dumps(answer)


moto_generate_private_key = models.generate_private_key
LENGTHS = ["RSA_2048", "RSA_3072", "RSA_4096"]
ahead = {spec: [moto_generate_private_key(spec) for _ in range(2)] for spec in LENGTHS if "rsa-ahead" in sys.argv}


def generate_private_key(spec):
    return ahead[spec].pop() if ahead.get(spec) else moto_generate_private_key(spec)


models.generate_private_key = generate_private_key
KmsResponse.sign = sign
KmsResponse.get_public_key = get_public_key


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def stop_with_parent():
    """Ends when whoever started this closes its standard input, however it ended."""
    sys.stdin.read()
    server.shutdown()


application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
print(server.server_port, flush=True)
threading.Thread(target=stop_with_parent, daemon=True).start()
server.serve_forever()
