/* A stand-in for libnvidia-ml.so.1 that nvidia-ml-py loads: answers from a text file, looked at again with each call.
 *
 * OSTLER_NVML_STATE names the file. A line is `KEY VALUE`: `init`, `gpus`, or `gpu.INDEX.WHAT`, where INDEX `*` stands
 * for all that do not say it themselves. VALUE is a number, a text, `error:CODE` (of nvml.h), or `hang`, which blocks
 * until the file says otherwise. What the file does not say is not supported. `gpu.INDEX.all` counts for every call
 * about that GPU. Layouts and codes are those of NVIDIA's public nvml.h.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LINES 4096
enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6 };

typedef struct { char key[64]; char value[160]; } entry;
typedef void *device;

static entry *table;
static int entries;
static struct timespec stamp;
static ino_t inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void load(void)
{
    const char *path = getenv("OSTLER_NVML_STATE");
    struct stat now;
    if (path == NULL || stat(path, &now) != 0) { entries = 0; return; }
    if (table != NULL && now.st_ino == inode && now.st_mtim.tv_sec == stamp.tv_sec
        && now.st_mtim.tv_nsec == stamp.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (file == NULL) { entries = 0; return; }
    if (table == NULL) table = calloc(LINES, sizeof(entry));
    entries = 0;
    while (entries < LINES && fscanf(file, "%63s %159[^\n]", table[entries].key, table[entries].value) == 2) entries++;
    fclose(file);
    stamp = now.st_mtim;
    inode = now.st_ino;
}

static int find(const char *key, char *value)
{
    for (int i = 0; i < entries; i++)
        if (strcmp(table[i].key, key) == 0) { strcpy(value, table[i].value); return 1; }
    return 0;
}

/* The value of a key of one GPU (index -1: of none), or the code that it stands for. */
static int ask(int index, const char *what, char *value)
{
    char key[96];
    for (;;) {
        int found = 0;
        pthread_mutex_lock(&lock);
        load();
        if (index >= 0) {
            snprintf(key, sizeof key, "gpu.%d.all", index);
            found = find(key, value);
            if (!found) { snprintf(key, sizeof key, "gpu.%d.%s", index, what); found = find(key, value); }
            if (!found) { snprintf(key, sizeof key, "gpu.*.%s", what); found = find(key, value); }
        } else {
            found = find(what, value);
        }
        pthread_mutex_unlock(&lock);
        if (!found) return UNSUPPORTED;
        if (strncmp(value, "error:", 6) == 0) return atoi(value + 6);
        if (strcmp(value, "hang") != 0) return OK;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
}

static int number(device gpu, const char *what, unsigned long long *answer)
{
    char value[160];
    int code = ask((int)(intptr_t)gpu - 1, what, value);
    if (code == OK) *answer = strtoull(value, NULL, 0);
    return code;
}

static int small(device gpu, const char *what, unsigned *answer)
{
    unsigned long long value = 0;
    int code = number(gpu, what, &value);
    if (code == OK) *answer = (unsigned)value;
    return code;
}

static int text(device gpu, const char *what, char *answer, unsigned size)
{
    char value[160];
    int code = ask((int)(intptr_t)gpu - 1, what, value);
    if (code == OK) snprintf(answer, size, "%.*s", (int)size - 1, value);
    return code;
}

/* `what.one` and `what.two` in one call. */
static int pair(device gpu, const char *what, const char *one, const char *two, unsigned *a, unsigned *b)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", what, one);
    int code = small(gpu, key, a);
    snprintf(key, sizeof key, "%s.%s", what, two);
    return code != OK ? code : small(gpu, key, b);
}

int nvmlInitWithFlags(unsigned flags)
{
    char value[160];
    (void)flags;
    int code = ask(-1, "init", value);
    return code == UNSUPPORTED ? OK : code;
}

int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int code)
{
    switch (code) {
    case 15: return "GPU is lost";
    case 16: return "GPU requires restart";
    case 18: return "Driver/library version mismatch";
    case 9: return "Driver Not Loaded";
    default: return "Unknown Error";
    }
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, device *gpu)
{
    char value[160];
    int count = ask(-1, "gpus", value) == OK ? atoi(value) : 0;
    for (int i = 0; i < count; i++) {
        char key[32], listed[160];
        int found;
        snprintf(key, sizeof key, "gpu.%d.pci", i);
        pthread_mutex_lock(&lock);
        load();
        found = find(key, listed);
        pthread_mutex_unlock(&lock);
        if (found && strcmp(listed, address) == 0) {
            int code = ask(i, "handle", value);
            if (code != OK && code != UNSUPPORTED) return code;
            *gpu = (device)(intptr_t)(i + 1);
            return OK;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetSerial(device g, char *a, unsigned n) { return text(g, "serial", a, n); }
int nvmlDeviceGetUUID(device g, char *a, unsigned n) { return text(g, "uuid", a, n); }
int nvmlDeviceGetVbiosVersion(device g, char *a, unsigned n) { return text(g, "vbios", a, n); }
int nvmlDeviceGetName(device g, char *a, unsigned n) { return text(g, "name", a, n); }
int nvmlDeviceGetGspFirmwareVersion(device g, char *a) { return text(g, "gsp.version", a, 64); }
int nvmlDeviceGetMigMode(device g, unsigned *a, unsigned *b) { return pair(g, "mig", "now", "pending", a, b); }
int nvmlDeviceGetGspFirmwareMode(device g, unsigned *a, unsigned *b) { return pair(g, "gsp", "on", "default", a, b); }
int nvmlDeviceGetPersistenceMode(device g, unsigned *a) { return small(g, "persistence", a); }
int nvmlDeviceGetTemperature(device g, unsigned sensor, unsigned *a) { (void)sensor; return small(g, "temperature", a); }
int nvmlDeviceGetPowerUsage(device g, unsigned *a) { return small(g, "power_mw", a); }
int nvmlDeviceGetEnforcedPowerLimit(device g, unsigned *a) { return small(g, "power_limit_mw", a); }
int nvmlDeviceGetPowerManagementDefaultLimit(device g, unsigned *a) { return small(g, "power_default_mw", a); }
int nvmlDeviceGetTotalEnergyConsumption(device g, unsigned long long *a) { return number(g, "energy_mj", a); }
int nvmlDeviceGetCurrentClocksEventReasons(device g, unsigned long long *a) { return number(g, "reasons", a); }
int nvmlDeviceGetCurrPcieLinkGeneration(device g, unsigned *a) { return small(g, "pcie_gen", a); }
int nvmlDeviceGetMaxPcieLinkGeneration(device g, unsigned *a) { return small(g, "pcie_gen_max", a); }
int nvmlDeviceGetCurrPcieLinkWidth(device g, unsigned *a) { return small(g, "pcie_width", a); }
int nvmlDeviceGetMaxPcieLinkWidth(device g, unsigned *a) { return small(g, "pcie_width_max", a); }
int nvmlDeviceGetPcieReplayCounter(device g, unsigned *a) { return small(g, "pcie_replays", a); }
int nvmlDeviceGetRetiredPagesPendingStatus(device g, unsigned *a) { return small(g, "pages_pending", a); }

int nvmlDeviceGetPcieThroughput(device g, unsigned kind, unsigned *a)
{
    return small(g, kind == 0 ? "pcie_tx_kb" : "pcie_rx_kb", a);
}

int nvmlDeviceGetTemperatureThreshold(device g, unsigned kind, unsigned *a)
{
    char key[32];
    snprintf(key, sizeof key, "threshold.%u", kind);
    return small(g, key, a);
}

typedef struct { unsigned version; int margin; } margin;

int nvmlDeviceGetMarginTemperature(device g, margin *a)
{
    unsigned value = 0;
    int code = small(g, "margin", &value);
    a->margin = (int)value;
    return code;
}

int nvmlDeviceGetClockInfo(device g, unsigned kind, unsigned *a)
{
    return small(g, kind == 2 ? "memory_clock" : "sm_clock", a);
}

int nvmlDeviceGetUtilizationRates(device g, unsigned *a) { return pair(g, "utilisation", "gpu", "memory", a, a + 1); }

int nvmlDeviceGetMemoryInfo(device g, unsigned long long *a) /* total, free, used */
{
    int code = number(g, "memory.total", a);
    if (code == OK) code = number(g, "memory.used", a + 2);
    if (code == OK) a[1] = a[0] - a[2];
    return code;
}

int nvmlDeviceGetTotalEccErrors(device g, unsigned uncorrected, unsigned ever, unsigned long long *a)
{
    char key[48];
    snprintf(key, sizeof key, "ecc.%s%s", uncorrected ? "uncorrected" : "corrected", ever ? "_ever" : "");
    return number(g, key, a);
}

typedef struct { unsigned version; unsigned long long counts[11]; unsigned over; } sram;

int nvmlDeviceGetSramEccErrorStatus(device g, sram *a)
{
    return small(g, "sram_exceeded", &a->over);
}

int nvmlDeviceGetRemappedRows(device g, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    *corrected = *uncorrected = 0;
    return pair(g, "remap", "pending", "failed", pending, failed);
}

int nvmlDeviceGetRetiredPages(device g, unsigned cause, unsigned *count, unsigned long long *addresses)
{
    unsigned pages = 0;
    int code = small(g, cause == 0 ? "pages.corrected" : "pages.uncorrected", &pages);
    if (code != OK) return code;
    for (unsigned i = 0; addresses != NULL && i < pages && i < *count; i++) addresses[i] = i;
    *count = pages;
    return OK;
}

typedef struct { unsigned version; unsigned char cluster[16]; unsigned status, clique; unsigned char state; unsigned health; } fabric;

int nvmlDeviceGetGpuFabricInfoV(device g, fabric *a)
{
    unsigned state = 0;
    int code = pair(g, "fabric", "state", "status", &state, &a->status);
    a->state = (unsigned char)state;
    return code != OK ? code : small(g, "fabric.health", &a->health);
}

int nvmlDeviceGetNvLinkState(device g, unsigned link, unsigned *a)
{
    char key[32];
    snprintf(key, sizeof key, "link.%u", link);
    return small(g, key, a);
}

typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type, code;
    unsigned long long value;
} field_value;

int nvmlDeviceGetFieldValues(device g, int count, field_value *a)
{
    char value[160];
    int code = ask((int)(intptr_t)g - 1, "fields", value);
    if (code != OK && code != UNSUPPORTED) return code;
    for (int i = 0; i < count; i++) {
        char key[48];
        a[i].type = 3; /* unsigned long long */
        snprintf(key, sizeof key, "field.%u.%u", a[i].field, a[i].scope);
        a[i].code = (unsigned)number(g, key, &a[i].value);
        if (a[i].code != UNSUPPORTED) continue;
        snprintf(key, sizeof key, "field.%u", a[i].field);
        a[i].code = (unsigned)number(g, key, &a[i].value);
    }
    return OK;
}
