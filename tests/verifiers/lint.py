"""Lints certificates (PEM) and CRLs (DER, *.crl) with pkilint, and prints each finding as "<file> <code> <severity>"."""

import sys

from pkilint import loader, pkix
from pkilint.pkix import certificate, crl, extension, name


def certificates():
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def crls():
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


def load(path):
    with open(path, "rb") as file:
        content = file.read()
    if path.endswith(".crl"):
        return crls(), loader.load_der_crl(content, path)
    return certificates(), loader.load_pem_certificate(content.decode("ascii"), path)


for path in sys.argv[1:]:
    validator, document = load(path)
    for result in validator.validate(document.root):
        for found in result.finding_descriptions:
            finding = found.finding
            if finding.severity.name in ("WARNING", "ERROR", "FATAL"):
                print(path, finding.code, finding.severity.name)
