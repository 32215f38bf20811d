import java.io.FileInputStream;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/** Verifies a chain (PEM, leaf first) under the one root in a file. */
public class Verify {
    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate root;
        List<X509Certificate> chain = new ArrayList<>();
        try (FileInputStream file = new FileInputStream(arguments[0])) {
            root = (X509Certificate) factory.generateCertificate(file);
        }
        try (FileInputStream file = new FileInputStream(arguments[1])) {
            factory.generateCertificates(file).forEach(c -> chain.add((X509Certificate) c));
        }
        CertPath path = factory.generateCertPath(chain);
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.setRevocationEnabled(false);
        try {
            CertPathValidator.getInstance("PKIX").validate(path, parameters);
        } catch (java.security.cert.CertPathValidatorException refused) {
            System.err.println(refused.getMessage());
            System.exit(1);
        }
    }
}
