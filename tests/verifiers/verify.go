// Verifies a chain (PEM, leaf first) under the one root in a file, for a client's certificate.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func read(path string) (certificates []*x509.Certificate) {
	rest, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fail(err)
		}
		certificates = append(certificates, certificate)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range read(os.Args[1]) {
		roots.AddCert(root)
	}
	chain := read(os.Args[2])
	for _, issuer := range chain[1:] {
		intermediates.AddCert(issuer)
	}
	options := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if chain[0].IsCA {
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	if _, err := chain[0].Verify(options); err != nil {
		fail(err)
	}
}
