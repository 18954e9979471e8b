// A plugin of qemu-user that counts the instructions which the runner executes, and writes the count at each of
// the runner's marks to the file OUT, a line each:
//   qemu-aarch64 -plugin counter.so,out=OUT runner count FOLDER ...
// The declarations are those of qemu's qemu-plugin.h, which distributions do not install.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb*));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* block,
                                                 void (*call)(unsigned processor, void* data),
                                                 enum qemu_plugin_cb_flags flags, void* data);
extern void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, unsigned processor, int64_t number, uint64_t, uint64_t,
                                      uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static const uint64_t MARK = 0x746f6f6c;  // main.cpp's
static uint64_t executed;                 // by one thread
static FILE* out;

static void count(unsigned, void* instructions) {
    executed += (uintptr_t)instructions;
}

static void translated(qemu_plugin_id_t, struct qemu_plugin_tb* block) {
    qemu_plugin_register_vcpu_tb_exec_cb(block, count, QEMU_PLUGIN_CB_NO_REGS,
                                         (void*)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t, unsigned, int64_t, uint64_t first, uint64_t, uint64_t, uint64_t, uint64_t,
                   uint64_t, uint64_t, uint64_t) {
    if (first == MARK) {
        fprintf(out, "%" PRIu64 "\n", executed);
        fflush(out);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t*,
                                                               int count_of_words, char** words) {
    if (count_of_words != 1 || strncmp(words[0], "out=", 4) != 0) return -1;
    out = fopen(words[0] + 4, "w");
    if (out == NULL) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
