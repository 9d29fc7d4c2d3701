/* Continues a text of token ids, printing each new one as it comes.
 *
 *   cc -std=c99 generate.c $(pkg-config --cflags --libs lorasc) -o generate
 *   ./generate <model folder> <most new tokens> <temperature> <id> <id> ...
 *
 * The model is a decoder: llama, mistral, qwen2 or gpt2. Ctrl-C ends it at the next token. */
#include <lorasc.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST_PROMPT = 4096 };

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
  (void)signal_number;
  stopped = 1;
}

static int32_t show(int32_t token, void *user) {
  size_t *shown = user;
  printf("%s%" PRId32, *shown ? " " : "", token);
  fflush(stdout);
  ++*shown;
  return stopped;
}

int main(int argc, char **argv) {
  static int32_t prompt[LONGEST_PROMPT];
  size_t prompt_tokens = 0, shown = 0;
  if (argc < 5 || argc - 4 > LONGEST_PROMPT)
    return fputs("usage: generate <model> <most new tokens> <temperature> <id>...\n", stderr), 2;
  for (int i = 4; i < argc; i++) prompt[prompt_tokens++] = (int32_t)strtol(argv[i], NULL, 10);
  lorasc_generation settings = LORASC_GENERATION_DEFAULTS;
  settings.max_new_tokens = (int32_t)strtol(argv[2], NULL, 10);
  settings.temperature = strtod(argv[3], NULL);
  settings.top_p = 0.95;

  lorasc_model *model;
  if (lorasc_model_open(argv[1], NULL, &model) != LORASC_OK)
    return fprintf(stderr, "%s\n", lorasc_last_error()->message), 1;
  signal(SIGINT, stop);
  lorasc_status status = lorasc_generate(model, NULL, prompt, prompt_tokens, &settings, show,
                                         &shown, NULL, 0, NULL);
  putchar('\n');
  if (status == LORASC_E_CANCELLED)
    fputs("stopped\n", stderr);
  else if (status != LORASC_OK)
    fprintf(stderr, "%s\n", lorasc_last_error()->message);
  lorasc_model_free(model);
  return status != LORASC_OK && status != LORASC_E_CANCELLED;
}
