#define _XOPEN_SOURCE 700
#include "tiny.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

uint64_t next_random(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* ---- The model ------------------------------------------------------------- */

typedef struct tensor {
  const char *name; /* "%d" stands for the layer */
  int rows, columns; /* columns 0: a vector */
  float center, spread;
} tensor;

#define COUNT(array) (int)(sizeof array / sizeof array[0])

static const tensor bert_embeddings[] = {
    {"embeddings.word_embeddings.weight", TINY_VOCABULARY, TINY_HIDDEN, 0, 0.5f},
    {"embeddings.position_embeddings.weight", TINY_POSITIONS, TINY_HIDDEN, 0, 0.1f},
    {"embeddings.token_type_embeddings.weight", 2, TINY_HIDDEN, 0, 0.1f},
    {"embeddings.LayerNorm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"embeddings.LayerNorm.bias", TINY_HIDDEN, 0, 0, 0.1f},
};
static const tensor bert_layer[] = {
    {"encoder.layer.%d.attention.self.query.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"encoder.layer.%d.attention.self.query.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.attention.self.key.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"encoder.layer.%d.attention.self.key.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.attention.self.value.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"encoder.layer.%d.attention.self.value.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.attention.output.dense.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"encoder.layer.%d.attention.output.dense.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.attention.output.LayerNorm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"encoder.layer.%d.attention.output.LayerNorm.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.intermediate.dense.weight", TINY_INTERMEDIATE, TINY_HIDDEN, 0, 0.3f},
    {"encoder.layer.%d.intermediate.dense.bias", TINY_INTERMEDIATE, 0, 0, 0.1f},
    {"encoder.layer.%d.output.dense.weight", TINY_HIDDEN, TINY_INTERMEDIATE, 0, 0.2f},
    {"encoder.layer.%d.output.dense.bias", TINY_HIDDEN, 0, 0, 0.1f},
    {"encoder.layer.%d.output.LayerNorm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"encoder.layer.%d.output.LayerNorm.bias", TINY_HIDDEN, 0, 0, 0.1f},
};
static const tensor bert_pooler[] = {
    {"pooler.dense.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"pooler.dense.bias", TINY_HIDDEN, 0, 0, 0.1f},
};

enum { TINY_SHARED = TINY_HIDDEN / 2 }; /* 2 heads of keys and values for 4 of queries */
static const tensor llama_embeddings[] = {
    {"model.embed_tokens.weight", TINY_VOCABULARY, TINY_HIDDEN, 0, 0.5f},
};
static const tensor llama_layer[] = {
    {"model.layers.%d.input_layernorm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"model.layers.%d.self_attn.q_proj.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.self_attn.k_proj.weight", TINY_SHARED, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.self_attn.v_proj.weight", TINY_SHARED, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.self_attn.o_proj.weight", TINY_HIDDEN, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.post_attention_layernorm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"model.layers.%d.mlp.gate_proj.weight", TINY_INTERMEDIATE, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.mlp.up_proj.weight", TINY_INTERMEDIATE, TINY_HIDDEN, 0, 0.3f},
    {"model.layers.%d.mlp.down_proj.weight", TINY_HIDDEN, TINY_INTERMEDIATE, 0, 0.2f},
};
static const tensor llama_output[] = {
    {"model.norm.weight", TINY_HIDDEN, 0, 1, 0.1f},
    {"lm_head.weight", TINY_VOCABULARY, TINY_HIDDEN, 0, 0.5f},
};

/* The tensors before the layers, of each layer, and after them. */
typedef struct form {
  const char *config; /* with %d for hidden size, layers, heads, intermediate, vocabulary,
                         positions */
  const tensor *before, *layer, *after;
  int before_count, layer_count, after_count;
} form;

static const form bert = {
    "{\"architectures\": [\"BertModel\"], \"model_type\": \"bert\", \"hidden_act\": \"gelu\",\n"
    " \"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d,\n"
    " \"intermediate_size\": %d, \"vocab_size\": %d, \"max_position_embeddings\": %d,\n"
    " \"type_vocab_size\": 2, \"layer_norm_eps\": 1e-12, \"pad_token_id\": 0,\n"
    " \"hidden_dropout_prob\": 0.1, \"attention_probs_dropout_prob\": 0.1,\n"
    " \"position_embedding_type\": \"absolute\"}\n",
    bert_embeddings, bert_layer, bert_pooler,
    COUNT(bert_embeddings), COUNT(bert_layer), COUNT(bert_pooler)};
static const form llama = {
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n"
    " \"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d,\n"
    " \"intermediate_size\": %d, \"vocab_size\": %d, \"max_position_embeddings\": %d,\n"
    " \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": false}\n",
    llama_embeddings, llama_layer, llama_output,
    COUNT(llama_embeddings), COUNT(llama_layer), COUNT(llama_output)};

static int tensors_of(const form *model) {
  return model->before_count + TINY_LAYERS * model->layer_count + model->after_count;
}

static const tensor *tensor_at(const form *model, int index, char name[128]) {
  const tensor *found;
  int layer = 0;
  if (index < model->before_count) {
    found = &model->before[index];
  } else if ((index -= model->before_count) < TINY_LAYERS * model->layer_count) {
    layer = index / model->layer_count;
    found = &model->layer[index % model->layer_count];
  } else {
    found = &model->after[index - TINY_LAYERS * model->layer_count];
  }
  const char *mark = strstr(found->name, "%d");
  if (mark)
    snprintf(name, 128, "%.*s%d%s", (int)(mark - found->name), found->name, layer, mark + 2);
  else
    snprintf(name, 128, "%s", found->name);
  return found;
}

static size_t count_of(const tensor *each) {
  return (size_t)each->rows * (size_t)(each->columns ? each->columns : 1);
}

static void fill(const tensor *each, uint64_t seed, int index, float *values) {
  uint64_t state = seed * 1000003u + (uint64_t)index;
  for (size_t i = 0; i < count_of(each); i++) {
    double unit = (double)(next_random(&state) >> 11) / 4503599627370496.0 - 1; /* [-1, 1) */
    values[i] = each->center + each->spread * (float)unit;
  }
}

size_t tiny_model_tensor(uint64_t seed, const char *name, float *values, size_t capacity) {
  char each_name[128];
  for (int index = 0; index < TINY_TENSORS; index++) {
    const tensor *each = tensor_at(&bert, index, each_name);
    if (strcmp(name, each_name) != 0) continue;
    if (count_of(each) <= capacity) fill(each, seed, index, values);
    return count_of(each);
  }
  return 0;
}

static bool model_write(const form *model, const char *folder, uint64_t seed) {
  enum { HEADER_CAPACITY = 16384, DATA_CAPACITY = 1 << 18 };
  char config[1024], path[1200], name[128];
  snprintf(config, sizeof config, model->config, TINY_HIDDEN, TINY_LAYERS, TINY_HEADS,
           TINY_INTERMEDIATE, TINY_VOCABULARY, TINY_POSITIONS);
  if (mkdir(folder, 0777) != 0 && errno != EEXIST) return false;
  snprintf(path, sizeof path, "%s/config.json", folder);
  if (!write_file(path, config, strlen(config))) return false;

  unsigned char *file = malloc(8 + HEADER_CAPACITY + DATA_CAPACITY);
  float *data = malloc(DATA_CAPACITY);
  bool written = false;
  if (file && data) {
    char *header = (char *)file + 8;
    size_t used = 0, offset = 0;
    for (int index = 0; index < tensors_of(model); index++) {
      const tensor *each = tensor_at(model, index, name);
      char shape[32];
      snprintf(shape, sizeof shape, each->columns ? "%d,%d" : "%d", each->rows, each->columns);
      fill(each, seed, index, data + offset);
      used += (size_t)snprintf(
          header + used, HEADER_CAPACITY - used,
          "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
          index ? ',' : '{', name, shape, 4 * offset, 4 * (offset + count_of(each)));
      offset += count_of(each);
    }
    header[used++] = '}';
    while (used % 8) header[used++] = ' ';
    for (int byte = 0; byte < 8; byte++) file[byte] = (unsigned char)((uint64_t)used >> 8 * byte);
    memcpy(file + 8 + used, data, 4 * offset);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    written = write_file(path, file, 8 + used + 4 * offset);
  }
  free(file);
  free(data);
  return written;
}

bool tiny_model_write(const char *folder, uint64_t seed) {
  return model_write(&bert, folder, seed);
}

bool tiny_decoder_write(const char *folder, uint64_t seed) {
  return model_write(&llama, folder, seed);
}

/* ---- Rows ------------------------------------------------------------------- */

bool tiny_rows_make(tiny_rows *rows, size_t count, uint64_t seed) {
  enum { LONGEST = 12, SHORTEST = 3, THIRD = TINY_VOCABULARY / TINY_LABELS };
  uint64_t state = seed;
  rows->tokens = malloc(count * LONGEST * sizeof *rows->tokens);
  rows->labels = malloc(count * sizeof *rows->labels);
  rows->offsets = malloc((count + 1) * sizeof *rows->offsets);
  if (!rows->tokens || !rows->labels || !rows->offsets) return false;
  rows->offsets[0] = 0;
  for (size_t row = 0; row < count; row++) {
    int32_t label = (int32_t)(next_random(&state) % TINY_LABELS);
    int64_t length = SHORTEST + (int64_t)(next_random(&state) % (LONGEST - SHORTEST + 1));
    for (int64_t i = 0; i < length; i++) {
      uint64_t draw = next_random(&state);
      int32_t third = draw % 4 ? label : (int32_t)(draw / 4 % TINY_LABELS);
      rows->tokens[rows->offsets[row] + i] = third * THIRD + (int32_t)(draw / 64 % THIRD);
    }
    rows->labels[row] = label;
    rows->offsets[row + 1] = rows->offsets[row] + length;
  }
  memset(&rows->batch, 0, sizeof rows->batch);
  rows->batch.struct_size = sizeof rows->batch;
  rows->batch.rows = count;
  rows->batch.tokens = rows->tokens;
  rows->batch.offsets = rows->offsets;
  rows->batch.labels = rows->labels;
  return true;
}

void tiny_rows_free(tiny_rows *rows) {
  free(rows->tokens);
  free(rows->labels);
  free(rows->offsets);
}

/* ---- Files -------------------------------------------------------------------- */

bool write_file(const char *path, const void *bytes, size_t count) {
  FILE *out = fopen(path, "wb");
  if (!out) return false;
  bool written = fwrite(bytes, 1, count, out) == count;
  return fclose(out) == 0 && written;
}

unsigned char *read_file(const char *path, size_t *count) {
  struct stat about;
  FILE *in = fopen(path, "rb");
  if (!in) return NULL;
  unsigned char *bytes = NULL;
  if (fstat(fileno(in), &about) == 0 && (bytes = malloc((size_t)about.st_size + 1)) != NULL) {
    *count = (size_t)about.st_size;
    if (fread(bytes, 1, *count, in) != *count) {
      free(bytes);
      bytes = NULL;
    }
  }
  fclose(in);
  return bytes;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *place) {
  (void)about, (void)kind, (void)place;
  return remove(path);
}

void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }
