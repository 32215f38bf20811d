/* TPM2_Sign by the bare functions of the ESAPI (TSS 2.0 Enhanced System API), one after the other: what the benchmark
 * `trait` is compared with. Arguments: TCTI, persistent handle in hexadecimal, number of signatures. Prints how many
 * signatures it made a second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

static void must(TSS2_RC code, const char *doing) {
    if (code != TSS2_RC_SUCCESS) {
        fprintf(stderr, "%s: 0x%x\n", doing, code);
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: bare_esys TCTI HANDLE SIGNATURES\n");
        return 2;
    }
    long signatures = strtol(arguments[3], NULL, 10);
    TSS2_TCTI_CONTEXT *tcti = NULL;
    ESYS_CONTEXT *esys = NULL;
    ESYS_TR key;
    must(Tss2_TctiLdr_Initialize(arguments[1], &tcti), "TCTI");
    must(Esys_Initialize(&esys, tcti, NULL), "ESAPI");
    TPM2_HANDLE handle = (TPM2_HANDLE)strtoul(arguments[2], NULL, 16);
    must(Esys_TR_FromTPMPublic(esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &key), "key");
    TPMT_SIG_SCHEME scheme = { .scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256 };
    TPMT_TK_HASHCHECK no_ticket = { .tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL };
    TPM2B_DIGEST digest = { .size = 32 };
    double began = now();
    for (long number = 0; number < signatures; number++) {
        TPMT_SIGNATURE *signature = NULL;
        memcpy(digest.buffer, &number, sizeof number);
        must(Esys_Sign(esys, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digest, &scheme, &no_ticket, &signature),
             "TPM2_Sign");
        Esys_Free(signature);
    }
    printf("%.1f\n", (double)signatures / (now() - began));
    Esys_Finalize(&esys);
    Tss2_TctiLdr_Finalize(&tcti);
    return 0;
}
