/* A PKCS#11 module between a program and a real one, which it loads and hands every call on to: what a token, its driver or
 * its daemon does wrong comes in between.
 *
 * MODULE is the real module, FAULTS a folder; both are compiled in. What goes wrong is what files the folder holds:
 *   C_Sign             the function fails with the code in the file (hexadecimal), and the module is not asked
 *   C_Sign-once        the next call does
 *   C_Sign-after       the module is asked, and then the function fails: nobody knows what was done
 *   C_Sign-hangs       calls wait until the file is gone
 *   C_Sign-takes       a signature takes so many microseconds more, of nobody's processor: as in a device of its own
 *   wrong-signature    a bit of each signature is another
 *   removed            there is no token; sessions that there were are invalid when it is back
 *   sessions-gone      the next call finds all sessions closed, as after the restart of a daemon
 *   dead               everything fails with CKR_DEVICE_ERROR until the module is finalised and initialised again
 *   pin-low, pin-final, pin-locked   what the token says of wrong PINs
 * Functions are those below. Their arguments are numbers and pointers, eight at most, which are passed on as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long (*function)(long, long, long, long, long, long, long, long);
/* CK_FUNCTION_LIST (PKCS #11 2.40): a version, and 68 functions in the order of the standard. */
struct list {
	unsigned char major, minor;
	function functions[68];
};

enum {
	INITIALIZE = 0, FINALIZE = 1, FUNCTION_LIST = 3, SLOT_LIST = 4, TOKEN_INFO = 6, OPEN_SESSION = 12,
	CLOSE_SESSION = 13, CLOSE_ALL_SESSIONS = 14, LOGIN = 18, CREATE_OBJECT = 20, DESTROY_OBJECT = 22, ATTRIBUTES = 24, FIND_INIT = 26, FIND = 27, FIND_FINAL = 28,
	SIGN_INIT = 42, SIGN = 43, GENERATE_KEY_PAIR = 59
};
enum { OK = 0, DEVICE_ERROR = 0x30, DEVICE_REMOVED = 0x32 };

static struct list real, own;
static int was_removed;
/* SoftHSM does not survive that a session is closed which another thread is using. */
static pthread_rwlock_t in_use = PTHREAD_RWLOCK_INITIALIZER;

static int path_of(const char *name, const char *suffix, char *path, size_t length)
{
	return snprintf(path, length, "%s/%s%s", FAULTS, name, suffix) < (int)length;
}

static int is_on(const char *name, const char *suffix)
{
	char path[4096];
	return path_of(name, suffix, path, sizeof path) && access(path, F_OK) == 0;
}

/* Whoever removes the file has the fault. */
static int takes(const char *name)
{
	char path[4096];
	return path_of(name, "", path, sizeof path) && unlink(path) == 0;
}

/* The code in a file; 0 if there is none. Where it is for one call, the file is taken away first. */
static unsigned long code_of(const char *name, const char *suffix, int once)
{
	char path[4096], taken[4200], text[32] = "";
	if (!path_of(name, suffix, path, sizeof path) || access(path, F_OK))
		return 0;
	if (once) {
		snprintf(taken, sizeof taken, "%s.%p", path, (void *)text);
		if (rename(path, taken))
			return 0;
	}
	FILE *file = fopen(once ? taken : path, "r");
	if (file) {
		if (!fgets(text, sizeof text, file))
			text[0] = 0;
		fclose(file);
	}
	if (once)
		unlink(taken);
	return strtoul(text, NULL, 16);
}

static void close_all(void)
{
	unsigned long slots[4096], count = 4096;
	pthread_rwlock_wrlock(&in_use);
	if (real.functions[SLOT_LIST](1, (long)slots, (long)&count, 0, 0, 0, 0, 0) == OK)
		for (unsigned long n = 0; n < count; n++)
			real.functions[CLOSE_ALL_SESSIONS]((long)slots[n], 0, 0, 0, 0, 0, 0, 0);
	pthread_rwlock_unlock(&in_use);
}

static unsigned long through(int number, const char *name, long a, long b, long c, long d, long e, long f, long g, long h)
{
	unsigned long code;
	while (is_on(name, "-hangs"))
		usleep(1000);
	if (number != INITIALIZE && number != FINALIZE) {
		if (is_on("dead", ""))
			return DEVICE_ERROR;
		if (is_on("removed", "")) {
			was_removed = 1;
			if (number == SLOT_LIST) {
				*(unsigned long *)c = 0;
				return OK;
			}
			return DEVICE_REMOVED;
		}
		if (__atomic_exchange_n(&was_removed, 0, __ATOMIC_SEQ_CST) || takes("sessions-gone"))
			close_all();
	}
	if ((code = code_of(name, "", 0)) || (code = code_of(name, "-once", 1)))
		return code;
	/* Not the call that asks for the length. */
	if (number == SIGN && d)
		usleep(code_of(name, "-takes", 0));
	pthread_rwlock_rdlock(&in_use);
	code = real.functions[number](a, b, c, d, e, f, g, h);
	pthread_rwlock_unlock(&in_use);
	if (number == INITIALIZE && code == OK)
		takes("dead");
	if (number == TOKEN_INFO && code == OK) {
		/* CK_TOKEN_INFO: 96 bytes of texts, then the flags. */
		unsigned long *flags = (unsigned long *)((char *)b + 96);
		*flags |= is_on("pin-low", "") ? 0x10000 : 0;
		*flags |= is_on("pin-final", "") ? 0x20000 : 0;
		*flags |= is_on("pin-locked", "") ? 0x40000 : 0;
	}
	if (number == SIGN && code == OK && d && is_on("wrong-signature", ""))
		((unsigned char *)d)[8] ^= 1;
	/* C_Sign is called for the length first, with no room for a signature: that is no end of it. */
	if (code == OK && !(number == SIGN && !d)) {
		unsigned long after = code_of(name, "-after", 0);
		if (after)
			return after;
	}
	return code;
}

#define WRAP(number, name) \
	static unsigned long wrapped_##name(long a, long b, long c, long d, long e, long f, long g, long h) \
	{ \
		return through(number, "C_" #name, a, b, c, d, e, f, g, h); \
	}
WRAP(INITIALIZE, Initialize)
WRAP(FINALIZE, Finalize)
WRAP(SLOT_LIST, GetSlotList)
WRAP(TOKEN_INFO, GetTokenInfo)
WRAP(OPEN_SESSION, OpenSession)
WRAP(CLOSE_SESSION, CloseSession)
WRAP(LOGIN, Login)
WRAP(CREATE_OBJECT, CreateObject)
WRAP(DESTROY_OBJECT, DestroyObject)
WRAP(ATTRIBUTES, GetAttributeValue)
WRAP(FIND_INIT, FindObjectsInit)
WRAP(FIND, FindObjects)
WRAP(FIND_FINAL, FindObjectsFinal)
WRAP(SIGN_INIT, SignInit)
WRAP(SIGN, Sign)
WRAP(GENERATE_KEY_PAIR, GenerateKeyPair)

unsigned long C_GetFunctionList(struct list **list)
{
	if (!own.functions[SIGN]) {
		void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
		unsigned long (*get)(struct list **) = module ? (unsigned long (*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
		struct list *theirs;
		if (!get || get(&theirs) != OK)
			return 5; /* CKR_GENERAL_ERROR */
		real = own = *theirs;
		own.functions[FUNCTION_LIST] = (function)C_GetFunctionList;
		own.functions[INITIALIZE] = wrapped_Initialize;
		own.functions[FINALIZE] = wrapped_Finalize;
		own.functions[SLOT_LIST] = wrapped_GetSlotList;
		own.functions[TOKEN_INFO] = wrapped_GetTokenInfo;
		own.functions[OPEN_SESSION] = wrapped_OpenSession;
		own.functions[CLOSE_SESSION] = wrapped_CloseSession;
		own.functions[LOGIN] = wrapped_Login;
		own.functions[CREATE_OBJECT] = wrapped_CreateObject;
		own.functions[DESTROY_OBJECT] = wrapped_DestroyObject;
		own.functions[ATTRIBUTES] = wrapped_GetAttributeValue;
		own.functions[FIND_INIT] = wrapped_FindObjectsInit;
		own.functions[FIND] = wrapped_FindObjects;
		own.functions[FIND_FINAL] = wrapped_FindObjectsFinal;
		own.functions[SIGN_INIT] = wrapped_SignInit;
		own.functions[GENERATE_KEY_PAIR] = wrapped_GenerateKeyPair;
		own.functions[SIGN] = wrapped_Sign;
	}
	*list = &own;
	return OK;
}
