/* Prints docs/options.md from the library's own table of options. */
#include <lorasc.h>

#include <stdio.h>
#include <string.h>

static const char *const scopes[][2] = {
    {"model", "Read by `lorasc_model_open` and by `lorasc_trainer_create`."},
    {"adapter", "Read by `lorasc_adapter_create`."},
    {"trainer", "Read by `lorasc_trainer_create`."},
};

/* A table's cell: "|" would end it. */
static void cell(const char *text) {
  for (; *text; text++) printf(*text == '|' ? "\\|" : "%c", *text);
}

static void values(const lorasc_option_info *info) {
  if (info->minimum[0] && info->maximum[0])
    printf("%s to %s", info->minimum, info->maximum);
  else if (info->minimum[0])
    printf("from %s", info->minimum);
  else if (info->maximum[0])
    printf("to %s", info->maximum);
  for (const char *each = info->choices; each && *each; each += strspn(each, "|")) {
    size_t length = strcspn(each, "|");
    int first = each == info->choices;
    printf("%s`%.*s`", first ? (info->minimum[0] ? ", or " : "") : ", ", (int)length, each);
    each += length;
  }
}

int main(void) {
  printf("# Options\n\n"
         "Made by `make docs` from the library's table (`lorasc_option_describe`); please change\n"
         "`Sources/Lorasc/Options/OptionTable.swift` instead.\n\n"
         "One flat set of named values serves models, adapters and trainers. Values are text;\n"
         "lists are `a,b,c`. Unknown names and values out of range are refused when they are\n"
         "set.\n");
  for (size_t scope = 0; scope < sizeof scopes / sizeof scopes[0]; scope++) {
    printf("\n## %c%s\n\n%s\n\n| option | type | default | values | |\n|---|---|---|---|---|\n",
           scopes[scope][0][0] - 32, scopes[scope][0] + 1, scopes[scope][1]);
    for (size_t i = 0; i < lorasc_option_count(); i++) {
      lorasc_option_info info = {.struct_size = sizeof info};
      if (lorasc_option_describe(i, &info) != LORASC_OK)
        return fputs(lorasc_last_error()->message, stderr), 1;
      if (strcmp(info.scope, scopes[scope][0]) != 0) continue;
      printf("| `%s` | %s | ", info.key, info.type);
      if (info.default_value[0]) printf("`%s`", info.default_value);
      printf(" | ");
      values(&info);
      printf(" | ");
      cell(info.help);
      printf(" |\n");
    }
  }
  return 0;
}
