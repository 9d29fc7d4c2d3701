/* Bound functions where the system denies executable memory, here by seccomp: a status, and all else
 * goes on. A program of its own, because no process gets the permission back. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOAD(member) \
  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, member))

/* mmap, mprotect and pkey_mprotect with PROT_EXEC fail with EACCES from here on. */
static bool deny_executable_memory(void) {
  struct sock_filter rules[] = {
      LOAD(nr),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 0, 2),
      LOAD(args[2]),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
  };
  struct sock_fprog program = {.len = sizeof rules / sizeof rules[0], .filter = rules};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
         mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static void binding_is_unsupported(void) {
  static float w[] = {1, 2, 3}, x[] = {1, 1, 1}, y[1];
  lorasc_matrix matrix = {.struct_size = sizeof matrix, .name = "w", .values = w,
                          .out_features = 1, .in_features = 3};
  lorasc_activations in = {.struct_size = sizeof in, .values = x, .tokens = 1};
  lorasc_activations out = {.struct_size = sizeof out, .values = y, .tokens = 1};
  lorasc_options *options = NULL;
  lorasc_model *model = NULL;
  lorasc_adapter *adapter = NULL;
  lorasc_trainer *trainer = NULL;
  lorasc_layer *layer = NULL;
  lorasc_signal_fn interrupt = NULL;
  lorasc_forward_fn forward = NULL;
  lorasc_scalar_fn scalar = NULL;
  REQUIRE(CHECK_OK(lorasc_options_create(&options)));
  CHECK_OK(lorasc_options_set(options, "method", "lora"));
  CHECK_OK(lorasc_options_set(options, "r", "1"));
  CHECK_OK(lorasc_options_set(options, "schedule", "constant"));
  CHECK_OK(lorasc_model_from_host(&matrix, 1, options, &model));
  CHECK_OK(lorasc_adapter_create(model, options, NULL, &adapter));
  CHECK_OK(lorasc_trainer_create(model, adapter, options, &trainer));
  CHECK_OK(lorasc_layer_create(trainer, "w", &layer));

  REQUIRE(CHECK(deny_executable_memory()));
  CHECK_STATUS(lorasc_bind_interrupt(trainer, &interrupt), LORASC_E_UNSUPPORTED);
  CHECK_TEXT(lorasc_last_error()->message,
             "the system grants no executable memory for bound functions");
  CHECK_STATUS(lorasc_bind_forward(layer, &forward), LORASC_E_UNSUPPORTED);
  CHECK_STATUS(lorasc_bind_module(adapter, "w", &forward), LORASC_E_UNSUPPORTED);
  CHECK_STATUS(lorasc_bind_scalar(layer, &scalar), LORASC_E_UNSUPPORTED);
  CHECK(interrupt == NULL && forward == NULL && scalar == NULL);
  CHECK_OK(lorasc_layer_forward(layer, &in, &out, NULL));
  CHECK_NEAR(y[0], 6, 1e-6);

  lorasc_layer_free(layer);
  lorasc_trainer_free(trainer);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
}

int main(int argc, char **argv) {
  const test tests[] = {{"binding_is_unsupported", binding_is_unsupported}, {NULL, NULL}};
  return run_tests(tests, argc, argv);
}
