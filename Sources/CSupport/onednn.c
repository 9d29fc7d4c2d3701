#include "onednn.h"

#include <pthread.h>
#include <stdlib.h>

#include "dynamic.h"

/* What is used of oneDNN's C interface, version 2 (the 2.x libraries are compatible). Its headers
 * need not be there: its public structs are blocks of the size that all 2.x give them. */

typedef int32_t status; /* 0: success */
typedef struct handle *handle;
typedef struct version {
  int major, minor, patch;
} version;
typedef struct argument {
  int index;
  handle memory;
} argument;
typedef struct memory_description {
  _Alignas(8) unsigned char bytes[LORASC_PACKING_BYTES];
} memory_description;
typedef struct matmul_description {
  _Alignas(8) unsigned char bytes[2800];
} matmul_description;

enum { BFLOAT16 = 2, FLOAT32 = 3 };
enum { ANY_LAYOUT = 1 };
enum { ENGINE_CPU = 1 };
enum { IN_ORDER = 1 };
enum { SCRATCHPAD_USER = 1 };
enum { QUERY_WEIGHTS = 131, QUERY_SCRATCHPAD = 136 };
enum { SOURCE = 1, DESTINATION = 17, WEIGHTS = 33, BIAS = 41, SCRATCHPAD = 80 };

static struct {
  const version *(*version)(void);
  status (*engine_create)(handle *, int kind, size_t index);
  status (*stream_create)(handle *, handle engine, unsigned flags);
  status (*memory_desc_init_by_strides)(memory_description *, int, const int64_t *, int type,
                                        const int64_t *strides);
  status (*memory_desc_init_by_tag)(memory_description *, int, const int64_t *, int type, int tag);
  size_t (*memory_desc_get_size)(const memory_description *);
  status (*memory_create)(handle *, const memory_description *, handle engine, void *);
  status (*memory_set_data_handle)(handle, void *);
  status (*memory_destroy)(handle);
  status (*post_ops_create)(handle *);
  status (*post_ops_append_sum)(handle, float scale);
  status (*post_ops_destroy)(handle);
  status (*primitive_attr_create)(handle *);
  status (*primitive_attr_set_scratchpad_mode)(handle, int);
  status (*primitive_attr_set_post_ops)(handle, handle);
  status (*primitive_attr_destroy)(handle);
  status (*matmul_desc_init)(matmul_description *, const memory_description *x,
                             const memory_description *w, const memory_description *bias,
                             const memory_description *y);
  status (*primitive_desc_create)(handle *, const void *description, handle attributes,
                                  handle engine, handle hint);
  const memory_description *(*primitive_desc_query_md)(handle, int what, int index);
  status (*primitive_desc_destroy)(handle);
  status (*primitive_create)(handle *, handle description);
  status (*primitive_execute)(handle, handle stream, int, const argument *);
  status (*primitive_destroy)(handle);
  status (*reorder_primitive_desc_create)(handle *, const memory_description *from, handle,
                                          const memory_description *to, handle, handle);
  status (*sgemm)(char, char, int64_t m, int64_t n, int64_t k, float alpha, const float *,
                  int64_t lda, const float *, int64_t ldb, float beta, float *, int64_t ldc);
  status (*bf16_gemm)(char, char, int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *,
                      int64_t lda, const uint16_t *, int64_t ldb, float beta, float *,
                      int64_t ldc);
  int (*omp_get_max_threads)(void);
  void (*omp_set_num_threads)(int);
} dnn;

static handle engine, stream;
static int32_t found;
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* What OpenMP's number of threads was; 0: unchanged. */
static _Thread_local int host_threads;

static void load(void) {
  void *library = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return;
  const struct {
    const char *name;
    void *function;
  } names[] = {
      {"dnnl_version", &dnn.version},
      {"dnnl_engine_create", &dnn.engine_create},
      {"dnnl_stream_create", &dnn.stream_create},
      {"dnnl_memory_desc_init_by_strides", &dnn.memory_desc_init_by_strides},
      {"dnnl_memory_desc_init_by_tag", &dnn.memory_desc_init_by_tag},
      {"dnnl_memory_desc_get_size", &dnn.memory_desc_get_size},
      {"dnnl_memory_create", &dnn.memory_create},
      {"dnnl_memory_set_data_handle", &dnn.memory_set_data_handle},
      {"dnnl_memory_destroy", &dnn.memory_destroy},
      {"dnnl_post_ops_create", &dnn.post_ops_create},
      {"dnnl_post_ops_append_sum", &dnn.post_ops_append_sum},
      {"dnnl_post_ops_destroy", &dnn.post_ops_destroy},
      {"dnnl_primitive_attr_create", &dnn.primitive_attr_create},
      {"dnnl_primitive_attr_set_scratchpad_mode", &dnn.primitive_attr_set_scratchpad_mode},
      {"dnnl_primitive_attr_set_post_ops", &dnn.primitive_attr_set_post_ops},
      {"dnnl_primitive_attr_destroy", &dnn.primitive_attr_destroy},
      {"dnnl_matmul_desc_init", &dnn.matmul_desc_init},
      {"dnnl_primitive_desc_create", &dnn.primitive_desc_create},
      {"dnnl_primitive_desc_query_md", &dnn.primitive_desc_query_md},
      {"dnnl_primitive_desc_destroy", &dnn.primitive_desc_destroy},
      {"dnnl_primitive_create", &dnn.primitive_create},
      {"dnnl_primitive_execute", &dnn.primitive_execute},
      {"dnnl_primitive_destroy", &dnn.primitive_destroy},
      {"dnnl_reorder_primitive_desc_create", &dnn.reorder_primitive_desc_create},
      {"dnnl_sgemm", &dnn.sgemm},
      /* Exported for oneDNN's own tests, which declare it: no header does. */
      {"dnnl_gemm_bf16bf16f32", &dnn.bf16_gemm},
      {"omp_get_max_threads", &dnn.omp_get_max_threads},
      {"omp_set_num_threads", &dnn.omp_set_num_threads},
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (!resolve(library, names[i].name, names[i].function)) return;
  const version *is = dnn.version();
  if (is == NULL || is->major != 2) return;
  if (dnn.engine_create(&engine, ENGINE_CPU, 0) != 0) return;
  if (dnn.stream_create(&stream, engine, IN_ORDER) != 0) return;
  found = is->major * 10000 + is->minor * 100 + is->patch;
}

int32_t lorasc_onednn_version(void) {
  pthread_once(&once, load);
  return found;
}

void lorasc_onednn_enter(void) {
  if (__atomic_load_n(&found, __ATOMIC_ACQUIRE) == 0 || host_threads != 0) return;
  host_threads = dnn.omp_get_max_threads();
  dnn.omp_set_num_threads(1);
}

void lorasc_onednn_leave(void) {
  if (host_threads == 0) return;
  dnn.omp_set_num_threads(host_threads);
  host_threads = 0;
}

bool lorasc_onednn_sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                         float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                         float beta, float *c, int64_t ldc) {
  return dnn.sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b,
                   ldb, beta, c, ldc) == 0;
}

bool lorasc_onednn_bf16_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                             float alpha, const uint16_t *a, int64_t lda, const uint16_t *b,
                             int64_t ldb, float beta, float *c, int64_t ldc) {
  return dnn.bf16_gemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b,
                       ldb, beta, c, ldc) == 0;
}

/* ---- Packed weights -------------------------------------------------------------------------- */

typedef struct lane {
  handle x, w, bias, y, scratch;
} lane;

struct lorasc_matmul {
  handle primitive;
  size_t lanes;
  bool has_bias;
  size_t scratch_bytes;
  lorasc_packing packing;
  lane lane[];
};

/* (rows, columns), one row after the other */
static bool describe(memory_description *description, int64_t rows, int64_t columns, int type) {
  const int64_t sizes[2] = {rows, columns}, strides[2] = {columns, 1};
  return dnn.memory_desc_init_by_strides(description, 2, sizes, type, strides) == 0;
}

static handle attributes_of(const lorasc_product *product) {
  handle attributes = NULL, post_ops = NULL;
  if (dnn.primitive_attr_create(&attributes) != 0) return NULL;
  bool good = dnn.primitive_attr_set_scratchpad_mode(attributes, SCRATCHPAD_USER) == 0;
  if (good && product->accumulates) {
    good = dnn.post_ops_create(&post_ops) == 0 && dnn.post_ops_append_sum(post_ops, 1) == 0 &&
           dnn.primitive_attr_set_post_ops(attributes, post_ops) == 0;
    if (post_ops != NULL) dnn.post_ops_destroy(post_ops);
  }
  if (good) return attributes;
  dnn.primitive_attr_destroy(attributes);
  return NULL;
}

typedef struct descriptions {
  memory_description x, w, bias, y, scratch;
} descriptions;

static bool describe_all(descriptions *all, const lorasc_product *product,
                         const lorasc_packing *packing) {
  const int type = product->is_bfloat16 ? BFLOAT16 : FLOAT32;
  const int64_t sizes[2] = {product->inner, product->columns};
  if (packing != NULL)
    memcpy(&all->w, packing->description, sizeof all->w);
  else if (dnn.memory_desc_init_by_tag(&all->w, 2, sizes, type, ANY_LAYOUT) != 0)
    return false;
  return describe(&all->x, product->rows, product->inner, type) &&
         describe(&all->y, product->rows, product->columns,
                  product->rounds ? BFLOAT16 : FLOAT32) &&
         describe(&all->bias, 1, product->columns, FLOAT32);
}

static bool create_lane(lane *lane, const descriptions *all) {
  return dnn.memory_create(&lane->x, &all->x, engine, NULL) == 0 &&
         dnn.memory_create(&lane->w, &all->w, engine, NULL) == 0 &&
         dnn.memory_create(&lane->bias, &all->bias, engine, NULL) == 0 &&
         dnn.memory_create(&lane->y, &all->y, engine, NULL) == 0 &&
         dnn.memory_create(&lane->scratch, &all->scratch, engine, NULL) == 0;
}

static bool query(handle description, int what, memory_description *to) {
  const memory_description *from = dnn.primitive_desc_query_md(description, what, 0);
  if (from != NULL) *to = *from;
  return from != NULL;
}

static lorasc_matmul *create_from(handle description, descriptions *all,
                                  const lorasc_product *product, size_t lanes) {
  if (!query(description, QUERY_WEIGHTS, &all->w) ||
      !query(description, QUERY_SCRATCHPAD, &all->scratch))
    return NULL;
  lorasc_matmul *matmul = calloc(1, sizeof *matmul + lanes * sizeof(lane));
  if (matmul == NULL) return NULL;
  matmul->lanes = lanes;
  matmul->has_bias = product->has_bias;
  matmul->scratch_bytes = dnn.memory_desc_get_size(&all->scratch);
  matmul->packing.bytes = dnn.memory_desc_get_size(&all->w);
  memcpy(matmul->packing.description, &all->w, sizeof all->w);
  bool good = dnn.primitive_create(&matmul->primitive, description) == 0;
  for (size_t i = 0; good && i < lanes; i++) good = create_lane(&matmul->lane[i], all);
  if (good) return matmul;
  lorasc_matmul_free(matmul);
  return NULL;
}

lorasc_matmul *lorasc_matmul_create(const lorasc_product *product, const lorasc_packing *packing,
                                    size_t lanes) {
  descriptions all;
  matmul_description operation;
  if (!describe_all(&all, product, packing) ||
      dnn.matmul_desc_init(&operation, &all.x, &all.w, product->has_bias ? &all.bias : NULL,
                           &all.y) != 0)
    return NULL;
  handle attributes = attributes_of(product), description = NULL;
  if (attributes == NULL) return NULL;
  lorasc_matmul *matmul = NULL;
  if (dnn.primitive_desc_create(&description, &operation, attributes, engine, NULL) == 0) {
    matmul = create_from(description, &all, product, lanes);
    dnn.primitive_desc_destroy(description);
  }
  dnn.primitive_attr_destroy(attributes);
  return matmul;
}

void lorasc_matmul_free(lorasc_matmul *matmul) {
  if (matmul == NULL) return;
  for (size_t i = 0; i < matmul->lanes; i++) {
    const lane *lane = &matmul->lane[i];
    const handle memories[] = {lane->x, lane->w, lane->bias, lane->y, lane->scratch};
    for (size_t j = 0; j < sizeof memories / sizeof memories[0]; j++)
      if (memories[j] != NULL) dnn.memory_destroy(memories[j]);
  }
  if (matmul->primitive != NULL) dnn.primitive_destroy(matmul->primitive);
  free(matmul);
}

void lorasc_matmul_packing(const lorasc_matmul *matmul, lorasc_packing *packing) {
  *packing = matmul->packing;
}

size_t lorasc_matmul_scratch_bytes(const lorasc_matmul *matmul) { return matmul->scratch_bytes; }

/* oneDNN takes no pointers to const, and writes to Y and the scratch memory alone. */
static bool set(handle memory, const void *data) {
  void *pointer;
  memcpy(&pointer, &data, sizeof pointer);
  return dnn.memory_set_data_handle(memory, pointer) == 0;
}

bool lorasc_matmul_run(lorasc_matmul *matmul, size_t lane_index, const void *x, const void *packed,
                       const float *bias, void *y, void *scratch) {
  const lane *lane = &matmul->lane[lane_index];
  if (!set(lane->x, x) || !set(lane->w, packed) || !set(lane->y, y) || !set(lane->scratch, scratch))
    return false;
  const argument arguments[] = {
      {SOURCE, lane->x},           {WEIGHTS, lane->w}, {DESTINATION, lane->y},
      {SCRATCHPAD, lane->scratch}, {BIAS, lane->bias},
  };
  if (matmul->has_bias && !set(lane->bias, bias)) return false;
  return dnn.primitive_execute(matmul->primitive, stream, matmul->has_bias ? 5 : 4, arguments) == 0;
}

bool lorasc_pack(const lorasc_packing *packing, int64_t inner, int64_t columns, const float *values,
                 int64_t inner_stride, int64_t column_stride, void *packed) {
  const int64_t sizes[2] = {inner, columns}, strides[2] = {inner_stride, column_stride};
  memory_description from, to;
  memcpy(&to, packing->description, sizeof to);
  handle description = NULL, primitive = NULL, source = NULL, target = NULL;
  bool good = dnn.memory_desc_init_by_strides(&from, 2, sizes, FLOAT32, strides) == 0 &&
              dnn.reorder_primitive_desc_create(&description, &from, engine, &to, engine, NULL) ==
                  0 &&
              dnn.primitive_create(&primitive, description) == 0 &&
              dnn.memory_create(&source, &from, engine, NULL) == 0 && set(source, values) &&
              dnn.memory_create(&target, &to, engine, packed) == 0;
  if (good) {
    const argument arguments[] = {{SOURCE, source}, {DESTINATION, target}};
    good = dnn.primitive_execute(primitive, stream, 2, arguments) == 0;
  }
  if (source != NULL) dnn.memory_destroy(source);
  if (target != NULL) dnn.memory_destroy(target);
  if (primitive != NULL) dnn.primitive_destroy(primitive);
  if (description != NULL) dnn.primitive_desc_destroy(description);
  return good;
}
