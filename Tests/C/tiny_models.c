/* The tiny models: names and shapes of their tensors, and how they become a folder. */
#define _XOPEN_SOURCE 700
#include "tiny.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
  H = TINY_HIDDEN,
  I = TINY_INTERMEDIATE,
  KV = H / TINY_HEADS * TINY_SHARED_HEADS, /* columns of keys */
  PATCHES = (TINY_SIDE / TINY_PATCH) * (TINY_SIDE / TINY_PATCH)
};

typedef struct tensor {
  const char *name; /* "%d" stands for the layer */
  int shape[5];     /* up to the first 0 */
  float center, spread;
} tensor;

/* Tensors before the layers, of each layer, and after them. */
typedef struct form {
  const char *config;
  const tensor *parts[3];
  int counts[3];
} form;

#define LINEAR(name, out, in) \
  {name ".weight", {out, in}, 0, 0.3f}, {name ".bias", {out}, 0, 0.1f}
#define LAYER_NORM(name) {name ".weight", {H}, 1, 0.1f}, {name ".bias", {H}, 0, 0.1f}
#define COUNT(list) (int)(sizeof list / sizeof list[0])

static const tensor bert_before[] = {
    {"embeddings.word_embeddings.weight", {TINY_VOCABULARY, H}, 0, 0.5f},
    {"embeddings.position_embeddings.weight", {TINY_POSITIONS, H}, 0, 0.1f},
    {"embeddings.token_type_embeddings.weight", {2, H}, 0, 0.1f},
    LAYER_NORM("embeddings.LayerNorm"),
};
static const tensor bert_layer[] = {
    LINEAR("encoder.layer.%d.attention.self.query", H, H),
    LINEAR("encoder.layer.%d.attention.self.key", H, H),
    LINEAR("encoder.layer.%d.attention.self.value", H, H),
    LINEAR("encoder.layer.%d.attention.output.dense", H, H),
    LAYER_NORM("encoder.layer.%d.attention.output.LayerNorm"),
    LINEAR("encoder.layer.%d.intermediate.dense", I, H),
    {"encoder.layer.%d.output.dense.weight", {H, I}, 0, 0.2f},
    {"encoder.layer.%d.output.dense.bias", {H}, 0, 0.1f},
    LAYER_NORM("encoder.layer.%d.output.LayerNorm"),
};
static const tensor bert_after[] = {LINEAR("pooler.dense", H, H)};

static const tensor llama_before[] = {
    {"model.embed_tokens.weight", {TINY_VOCABULARY, H}, 0, 0.5f},
};
static const tensor llama_layer[] = {
    {"model.layers.%d.self_attn.q_proj.weight", {H, H}, 0, 0.3f},
    {"model.layers.%d.self_attn.k_proj.weight", {KV, H}, 0, 0.3f},
    {"model.layers.%d.self_attn.v_proj.weight", {KV, H}, 0, 0.3f},
    {"model.layers.%d.self_attn.o_proj.weight", {H, H}, 0, 0.3f},
    {"model.layers.%d.mlp.gate_proj.weight", {I, H}, 0, 0.3f},
    {"model.layers.%d.mlp.up_proj.weight", {I, H}, 0, 0.3f},
    {"model.layers.%d.mlp.down_proj.weight", {H, I}, 0, 0.2f},
    {"model.layers.%d.input_layernorm.weight", {H}, 1, 0.1f},
    {"model.layers.%d.post_attention_layernorm.weight", {H}, 1, 0.1f},
};
static const tensor llama_after[] = {
    {"model.norm.weight", {H}, 1, 0.1f},
    {"lm_head.weight", {TINY_VOCABULARY, H}, 0, 0.3f},
};

static const tensor vit_before[] = {
    {"embeddings.cls_token", {1, 1, H}, 0, 0.5f},
    {"embeddings.position_embeddings", {1, 1 + PATCHES, H}, 0, 0.1f},
    {"embeddings.patch_embeddings.projection.weight", {H, 3, TINY_PATCH, TINY_PATCH}, 0, 0.2f},
    {"embeddings.patch_embeddings.projection.bias", {H}, 0, 0.1f},
};
static const tensor vit_layer[] = {
    LINEAR("encoder.layer.%d.attention.attention.query", H, H),
    LINEAR("encoder.layer.%d.attention.attention.key", H, H),
    LINEAR("encoder.layer.%d.attention.attention.value", H, H),
    LINEAR("encoder.layer.%d.attention.output.dense", H, H),
    LAYER_NORM("encoder.layer.%d.layernorm_before"),
    LINEAR("encoder.layer.%d.intermediate.dense", I, H),
    LINEAR("encoder.layer.%d.output.dense", H, I),
    LAYER_NORM("encoder.layer.%d.layernorm_after"),
};
static const tensor vit_after[] = {LAYER_NORM("layernorm")};

#define SIZES \
  " \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d,\n" \
  " \"num_attention_heads\": %d,"
#define TEXT " \"vocab_size\": %d, \"max_position_embeddings\": %d,\n"

static const form forms[] = {
    [TINY_BERT] = {"{\"architectures\": [\"BertModel\"], \"model_type\": \"bert\",\n" SIZES TEXT
                   " \"hidden_act\": \"gelu\", \"type_vocab_size\": 2, \"pad_token_id\": 0,\n"
                   " \"layer_norm_eps\": 1e-12, \"hidden_dropout_prob\": 0.1,\n"
                   " \"attention_probs_dropout_prob\": 0.1,\n"
                   " \"position_embedding_type\": \"absolute\"}\n",
                   {bert_before, bert_layer, bert_after},
                   {COUNT(bert_before), COUNT(bert_layer), COUNT(bert_after)}},
    [TINY_LLAMA] = {"{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n" SIZES
                    TEXT " \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-6,\n"
                    " \"rope_theta\": 10000.0, \"tie_word_embeddings\": false,\n"
                    " \"num_key_value_heads\": %d}\n",
                    {llama_before, llama_layer, llama_after},
                    {COUNT(llama_before), COUNT(llama_layer), COUNT(llama_after)}},
    [TINY_VIT] = {"{\"architectures\": [\"ViTModel\"], \"model_type\": \"vit\",\n" SIZES
                  " \"image_size\": %d, \"patch_size\": %d,\n"
                  " \"num_channels\": 3, \"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-12,\n"
                  " \"qkv_bias\": true}\n",
                  {vit_before, vit_layer, vit_after},
                  {COUNT(vit_before), COUNT(vit_layer), COUNT(vit_after)}},
};

static int tensor_count(const form *each) {
  return each->counts[0] + TINY_LAYERS * each->counts[1] + each->counts[2];
}

static const tensor *tensor_at(const form *each, int index, char name[128]) {
  const tensor *found;
  int layer = 0, in_layers = index - each->counts[0];
  if (in_layers < 0) {
    found = &each->parts[0][index];
  } else if (in_layers < TINY_LAYERS * each->counts[1]) {
    layer = in_layers / each->counts[1];
    found = &each->parts[1][in_layers % each->counts[1]];
  } else {
    found = &each->parts[2][in_layers - TINY_LAYERS * each->counts[1]];
  }
  const char *mark = strstr(found->name, "%d");
  if (mark)
    snprintf(name, 128, "%.*s%d%s", (int)(mark - found->name), found->name, layer, mark + 2);
  else
    snprintf(name, 128, "%s", found->name);
  return found;
}

static size_t count_of(const tensor *each) {
  size_t count = 1;
  for (const int *size = each->shape; *size; size++) count *= (size_t)*size;
  return count;
}

static void fill(const tensor *each, uint64_t seed, int index, float *values) {
  uint64_t state = seed * 1000003u + (uint64_t)index;
  for (size_t i = 0; i < count_of(each); i++) {
    double unit = (double)(next_random(&state) >> 11) / 4503599627370496.0 - 1; /* [-1, 1) */
    values[i] = each->center + each->spread * (float)unit;
  }
}

static size_t append_entry(char *header, size_t capacity, const tensor *each, const char *name,
                           bool first, size_t offset) {
  size_t used = (size_t)snprintf(header, capacity, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":",
                                 first ? '{' : ',', name);
  for (const int *size = each->shape; *size; size++)
    used += (size_t)snprintf(header + used, capacity - used, "%c%d",
                             size == each->shape ? '[' : ',', *size);
  return used + (size_t)snprintf(header + used, capacity - used, "],\"data_offsets\":[%zu,%zu]}",
                                 4 * offset, 4 * (offset + count_of(each)));
}

static bool write_config(const char *folder, tiny_kind kind) {
  char config[1024], path[1200];
  int first = kind == TINY_VIT ? TINY_SIDE : TINY_VOCABULARY;
  int second = kind == TINY_VIT ? TINY_PATCH : TINY_POSITIONS;
  snprintf(config, sizeof config, forms[kind].config, H, I, TINY_LAYERS, TINY_HEADS, first, second,
           TINY_SHARED_HEADS);
  snprintf(path, sizeof path, "%s/config.json", folder);
  return write_file(path, config, strlen(config));
}

bool tiny_folder_write(const char *folder, tiny_kind kind, uint64_t seed) {
  enum { HEADER_CAPACITY = 16384, DATA_CAPACITY = 1 << 18 };
  const form *of = &forms[kind];
  char path[1200], name[128];
  if (mkdir(folder, 0777) != 0 && errno != EEXIST) return false;
  if (!write_config(folder, kind)) return false;
  unsigned char *file = malloc(8 + HEADER_CAPACITY + DATA_CAPACITY);
  float *data = malloc(DATA_CAPACITY);
  bool written = false;
  if (file && data) {
    char *header = (char *)file + 8;
    size_t used = 0, offset = 0;
    for (int index = 0; index < tensor_count(of); index++) {
      const tensor *each = tensor_at(of, index, name);
      fill(each, seed, index, data + offset);
      used += append_entry(header + used, HEADER_CAPACITY - used, each, name, index == 0, offset);
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
  return tiny_folder_write(folder, TINY_BERT, seed);
}

size_t tiny_model_tensor(uint64_t seed, const char *name, float *values, size_t capacity) {
  const form *of = &forms[TINY_BERT];
  char each_name[128];
  for (int index = 0; index < tensor_count(of); index++) {
    const tensor *each = tensor_at(of, index, each_name);
    if (strcmp(name, each_name) != 0) continue;
    if (count_of(each) <= capacity) fill(each, seed, index, values);
    return count_of(each);
  }
  return 0;
}
