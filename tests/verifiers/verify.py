"""Verifies a chain (PEM, leaf first) under the one root in a file, for a client's certificate."""

import sys

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

with open(sys.argv[1], "rb") as file:
    roots = x509.load_pem_x509_certificates(file.read())
with open(sys.argv[2], "rb") as file:
    leaf, *issuers = x509.load_pem_x509_certificates(file.read())
try:
    PolicyBuilder().store(Store(roots)).build_client_verifier().verify(leaf, issuers)
except VerificationError as refused:
    sys.exit(str(refused))
