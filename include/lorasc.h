/* liblorasc: fine-tune transformers with low-rank adapters and LoRASC's slow
 * cascades, inside your program.
 *
 * A complete program (tokens, offsets and labels are yours):
 *
 *   #include <lorasc.h>
 *   lorasc_model *model;  lorasc_adapter *adapter;  lorasc_trainer *trainer;
 *   lorasc_dataset *data; lorasc_options *options;
 *   lorasc_options_create(&options);
 *   lorasc_options_set(options, "method", "lorasc");
 *   lorasc_options_set(options, "num_labels", "10");
 *   lorasc_options_set(options, "epochs", "6");
 *   if (lorasc_model_open("all-MiniLM-L6-v2", options, &model) != LORASC_OK)
 *     return puts(lorasc_last_error()->message), 1;
 *   lorasc_adapter_create(model, options, NULL, &adapter);
 *   lorasc_trainer_create(model, adapter, options, &trainer);
 *   lorasc_batch rows = {.struct_size = sizeof rows, .rows = n, .tokens = tokens,
 *                        .offsets = offsets, .labels = labels};
 *   lorasc_dataset_create(&rows, &data);
 *   lorasc_trainer_run(trainer, data, NULL, NULL, NULL);
 *   lorasc_adapter_merge(model, adapter, "my-model", NULL);
 *
 * THE CONTRACT
 *
 * Status.   Every function that can fail returns a lorasc_status; 0 is success.
 *           On failure its outputs are untouched unless it says otherwise, and
 *           lorasc_last_error() of the same thread tells what and where.
 * Threads.  A model and a dataset are immutable: any number of threads may use
 *           them at once. An options, adapter or trainer handle serves one call
 *           at a time; a second one meanwhile gets LORASC_E_BUSY, and so does any
 *           use of an adapter while a trainer that owns it is at work.
 *           lorasc_trainer_interrupt may be called from any thread and from a
 *           signal handler. In a child made by fork() every call returns
 *           LORASC_E_STATE, and the free functions do nothing.
 * Handles.  Made by *_create, *_open; given back by *_free, once; NULL is fine.
 *           A trainer keeps its model and adapter alive: the order of frees is
 *           free. A freed, foreign or wrong-kind handle gets LORASC_E_HANDLE.
 * Memory.   Buffers are the caller's. Input pointers are read during the call
 *           only, except those of a dataset and of a loss (see there). Functions
 *           that fill a buffer take its capacity and report the size needed: with
 *           buffer NULL or too small they write nothing but *need, and return
 *           LORASC_E_BUFFER (LORASC_OK where buffer is NULL and capacity 0).
 * Strings.  UTF-8, NUL-terminated, copied by the library.
 * Structs.  Those with struct_size: set it to sizeof before the call. The library
 *           reads and writes no more than that, so old programs keep working.
 * Numbers.  float is IEEE binary32; matrices are row-major; shapes are written
 *           (rows, columns). W is (out, in), A (r, in), B (out, r).
 * Stability. Names, codes, struct members only ever get added within one ABI
 *           version, which is the number in the library's SONAME.
 *
 * Nothing is written to stdout or stderr; no environment variable changes a
 * result; the process's OpenBLAS thread count is as before after each call.
 */
#ifndef LORASC_H
#define LORASC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LORASC_ABI_VERSION 1
#define LORASC_VERSION "0.1.0"

/* ---- Status ------------------------------------------------------------- */

typedef enum lorasc_status {
  LORASC_OK = 0,
  /* How the call was made */
  LORASC_E_ARGUMENT = 1, /* NULL where a pointer is due, a value out of range    */
  LORASC_E_HANDLE = 2,   /* NULL, freed, foreign or wrong-kind handle            */
  LORASC_E_OPTION = 3,   /* unknown option, bad value, options that contradict   */
  LORASC_E_STATE = 4,    /* not possible now (nothing accumulated, after fork)   */
  LORASC_E_BUSY = 5,     /* the handle is in use by another call                 */
  LORASC_E_LIMIT = 6,    /* over a limit: max_batch_tokens, positions, handles   */
  LORASC_E_BUFFER = 7,   /* buffer too small: *need says how much                */
  LORASC_E_MEMORY = 8,   /* the allocator refused                                */
  /* Files */
  LORASC_E_IO = 20,           /* the system refused: see system_error             */
  LORASC_E_NOT_FOUND = 21,    /* no such file, folder, tensor                     */
  LORASC_E_FORMAT = 22,       /* damaged or malformed file                        */
  LORASC_E_UNSUPPORTED = 23,  /* understood, and not offered                      */
  LORASC_E_ARCHITECTURE = 24, /* a model this library does not know               */
  LORASC_E_MISMATCH = 25,     /* made for another model or with other options     */
  /* Data */
  LORASC_E_SHAPE = 40,     /* offsets, lengths or sizes that do not fit           */
  LORASC_E_TOKEN = 41,     /* token id outside the vocabulary                     */
  LORASC_E_LABEL = 42,     /* label outside the classes, or labels missing        */
  LORASC_E_NO_MATCH = 43,  /* a target rule that matches no module                */
  LORASC_E_NO_LOSS = 44,   /* a batch in which nothing carries a loss             */
  LORASC_E_NONFINITE = 45, /* NaN or infinity in weights, loss or gradient        */
  /* Stops */
  LORASC_E_INTERRUPTED = 60, /* lorasc_trainer_interrupt was called               */
  LORASC_E_CANCELLED = 61,   /* a callback returned non-zero                      */
  LORASC_E_INTERNAL = 90     /* a defect of the library: please report it         */
} lorasc_status;

/* The constant's name, e.g. "LORASC_E_OPTION"; "LORASC_E_?" for another number.
 * Static. Any thread. Since 0.1. */
const char *lorasc_status_name(int32_t status);

typedef struct lorasc_error {
  int32_t status;       /* lorasc_status of the thread's last failed call, 0: none */
  int32_t system_error; /* errno of the system call that failed, else 0            */
  const char *message;  /* one sentence, names the offender                        */
  const char *subject;  /* the offender alone: tensor, option, path; may be ""     */
} lorasc_error;

/* The calling thread's last error. Never NULL; valid until the thread's next
 * failing call. Successful calls leave it. Since 0.1. */
const lorasc_error *lorasc_last_error(void);

/* ---- The library ---------------------------------------------------------- */

/* LORASC_ABI_VERSION of the library that is loaded. Any thread. Since 0.1. */
uint32_t lorasc_abi_version(void);
/* Its version, "major.minor.patch". Static. Since 0.1. */
const char *lorasc_version(void);
/* One line for a report: versions, OpenBLAS and its kernels, oneDNN where it is installed, which of
 * them multiplies by default, the CPU level in use.
 * Static. Since 0.1. */
const char *lorasc_build_info(void);

typedef enum lorasc_log_level {
  LORASC_LOG_DEBUG = 10,
  LORASC_LOG_INFO = 20,
  LORASC_LOG_WARNING = 30
} lorasc_log_level;
typedef void (*lorasc_log_fn)(int32_t level, const char *message, void *user);
/* Sends messages of at least `level` to `log`, on the thread that causes them; NULL
 * turns logging off, as it is at the start. The callback must not call the library.
 * Any thread. Since 0.1. */
lorasc_status lorasc_set_log(int32_t level, lorasc_log_fn log, void *user);

/* ---- Options -------------------------------------------------------------- */

/* One flat set of named values serves models, adapters and trainers: each reads
 * the options that concern it. Values are text; lists are "a,b,c". Unknown keys and
 * values out of range are refused when they are set. */
typedef struct lorasc_options lorasc_options;

lorasc_status lorasc_options_create(lorasc_options **options);
/* Since 0.1. E_OPTION (subject: the key) for an unknown key or a bad value. */
lorasc_status lorasc_options_set(lorasc_options *options, const char *key, const char *value);
/* The value as text, its default where it was never set. `capacity` and `*need`
 * count bytes with the final NUL. */
lorasc_status lorasc_options_get(lorasc_options *options, const char *key, char *buffer,
                                 size_t capacity, size_t *need);
/* Sets every member of a JSON object: numbers, strings, booleans, lists; null leaves
 * the default. All or nothing. */
lorasc_status lorasc_options_load_json(lorasc_options *options, const char *json);
void lorasc_options_free(lorasc_options *options);

typedef struct lorasc_option_info {
  uint32_t struct_size;
  uint32_t reserved;
  const char *key;
  const char *type;          /* "integer", "number", "boolean", "choice", "text", "list" */
  const char *default_value; /* text */
  const char *minimum;       /* "" where there is none */
  const char *maximum;
  const char *choices;       /* "a|b|c" for a choice, or words a number may be, else "" */
  const char *scope;         /* "model", "adapter" or "trainer" */
  const char *help;          /* a sentence */
} lorasc_option_info;

/* The table of options: all strings are static. Any thread. Since 0.1. */
size_t lorasc_option_count(void);
lorasc_status lorasc_option_describe(size_t index, lorasc_option_info *info);

/* ---- Models --------------------------------------------------------------- */

/* A transformer's frozen backbone (and its task head, where the folder has one):
 * immutable, reference-counted, shared by any number of adapters and trainers. */
typedef struct lorasc_model lorasc_model;

/* Opens a Hugging Face folder, config.json and model.safetensors (or its sharded index), or a
 * GGUF file, versions 2 and 3, of architecture llama, qwen2, gpt2 or bert.
 * Folders: encoders bert, roberta, xlm-roberta, distilbert; decoders llama, mistral, qwen2, gpt2;
 * images vit, deit; names with or without the prefix of a class with a head.
 * Weights stay memory mapped as they are stored, F32, F16, BF16, and of GGUF files Q8_0, Q4_0,
 * Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, and are widened to F32 where they are used: the files must not
 * be changed while the model is open. A GGUF file's tensors have the names, shapes and order of
 * rows that transformers gives them, everywhere. `options` may be NULL: those of scope "model"
 * are read.
 * E_NOT_FOUND, E_IO, E_FORMAT, E_ARCHITECTURE, E_UNSUPPORTED, E_NONFINITE, E_MEMORY.
 * Since 0.1. */
lorasc_status lorasc_model_open(const char *path, lorasc_options *options, lorasc_model **model);

typedef struct lorasc_model_description {
  uint32_t struct_size;
  uint32_t layers;
  uint64_t parameters;
  uint32_t hidden_size;
  uint32_t intermediate_size;
  uint32_t heads;
  uint32_t vocabulary_size;
  uint32_t maximum_positions;
  uint32_t num_labels;    /* of the folder's own head, 0: it has none */
  char architecture[32];  /* "bert", "llama", ...: config.json's model_type */
  char head[32];          /* "none", "classifier", "mean_linear", "token" or "lm" */
  char kernels[32];       /* "baseline", "avx2" or "avx512" */
  char products[16];      /* "openblas" or "onednn": the library of matrix products */
} lorasc_model_description;
lorasc_status lorasc_model_info(lorasc_model *model, lorasc_model_description *info);


typedef struct lorasc_tensor_info {
  uint32_t struct_size;
  uint32_t rank;
  uint64_t shape[8];
  uint64_t elements;
  char name[256];
} lorasc_tensor_info;

/* The model's tensors by index, names without the prefix of a class with a head ("bert."). */
size_t lorasc_model_tensor_count(lorasc_model *model);
lorasc_status lorasc_model_tensor_info(lorasc_model *model, size_t index,
                                       lorasc_tensor_info *info);
/* Copies a tensor out as float32. capacity and *need count elements. E_NOT_FOUND. */
lorasc_status lorasc_model_tensor(lorasc_model *model, const char *name, float *buffer,
                                  size_t capacity, size_t *need);
/* A text file of the model by its name, NUL-terminated: "config.json", "tokenizer.json",
 * "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
 * "chat_template.jinja". A folder's own file as it is, any of its texts; of a GGUF file one
 * that is made from its metadata, whose ids are those of the tokenizer that it was made from.
 * capacity and *need count bytes. E_NOT_FOUND, E_ARGUMENT for a name with a slash, E_FORMAT
 * for damaged metadata or what is no text, E_UNSUPPORTED for a tokenizer of another kind,
 * E_LIMIT, E_IO. Since 0.1. */
lorasc_status lorasc_model_file(lorasc_model *model, const char *name, char *buffer,
                                size_t capacity, size_t *need);
/* One more reference: give it back with lorasc_model_free. */
lorasc_status lorasc_model_retain(lorasc_model *model);
void lorasc_model_free(lorasc_model *model);

/* ---- Batches and datasets ------------------------------------------------- */

typedef enum lorasc_pixel_type {
  LORASC_PIXELS_FLOAT32 = 0, /* as the model takes them                                 */
  LORASC_PIXELS_UINT8 = 1    /* taken as (pixel / 255 - pixel_mean) / pixel_std          */
} lorasc_pixel_type;

/* Rows of token ids, one after another without padding, each attending to itself only with
 * positions of its own: several rows packed together are several rows here. Or images. The
 * caller's memory. */
typedef struct lorasc_batch {
  uint32_t struct_size;
  uint32_t reserved;
  size_t rows;
  const int32_t *tokens;      /* offsets[rows] ids, 0 <= id < vocabulary            */
  const int64_t *offsets;     /* rows + 1; offsets[0] = 0; row i is [offsets[i],
                                 offsets[i+1]), at least one token                  */
  const int32_t *token_types; /* segment ids beside tokens; NULL: all 0             */
  const int32_t *labels;      /* rows classes, or NULL; -100: the row has no loss   */
  const float *targets;       /* regression, several labels at once (0 to 1):
                                 rows x num_labels, or NULL                         */
  const float *row_weights;   /* rows, >= 0, or NULL: all 1                         */
  /* Members below: where struct_size covers them */
  const int32_t *token_labels; /* beside tokens, -100: no loss. Head token: classes.
                                 Head lm: what should stand at each place, predicted
                                 from what is before it; NULL: the tokens themselves.
                                 A row's first token has no loss.                   */
  const float *token_weights; /* beside tokens, >= 0, of their losses; NULL: all 1  */
  const void *pixels;         /* images instead of tokens and offsets: rows x
                                 channels x height x width                          */
  uint32_t pixel_type;        /* lorasc_pixel_type                                  */
  uint32_t channels;
  uint32_t height;
  uint32_t width;
  const float *pixel_mean;    /* channels, for UINT8                                */
  const float *pixel_std;     /* channels, > 0, for UINT8                           */
} lorasc_batch;

typedef struct lorasc_dataset lorasc_dataset;

/* A dataset over the caller's arrays, which are not copied: they must stay, and stay
 * unchanged, until the dataset is freed and no call uses it. Offsets are checked here;
 * ids and labels when they are used, against the model. E_SHAPE. Since 0.1. */
lorasc_status lorasc_dataset_create(const lorasc_batch *rows, lorasc_dataset **dataset);

/* Rows that the library asks for. */
typedef struct lorasc_rows {
  uint32_t struct_size;
  uint32_t reserved;
  size_t count;
  const size_t *numbers;     /* count rows of the dataset, from 0, in this order          */
  const lorasc_batch *batch; /* to be set: exactly these rows in this order. It and its
                                arrays stay the caller's                                  */
} lorasc_rows;

/* Sets rows->batch; what it points at must stay as it is until the next request of the same call
 * of the library, or that call's end. Non-zero ends the call: LORASC_E_CANCELLED. Runs on the
 * calling thread, and where several calls use the dataset at once, in each of them. It may use the
 * library; the trainer that asks, and its adapter, are E_BUSY, except for
 * lorasc_trainer_interrupt. */
typedef int32_t (*lorasc_rows_fn)(lorasc_rows *rows, void *user);

/* A dataset of `rows` rows (1 to 2^31 - 1) that are asked for while it is used: at most
 * `batch_size` examples at once, in the order of training (the same seed: the same order), each
 * once an epoch, and in their own order by evaluations. Everything else is as with rows in
 * memory: the same rows give the same bits, in a resumed run too. But a bad row is met only when
 * its turn comes: it stops a run with the status of bad rows (E_SHAPE where the batch has another
 * number of rows; messages count rows within the batch), the trainer is as after its last whole
 * step, and the next call goes on there. Callback and `user` must stay until the dataset is freed
 * and no call uses it. E_ARGUMENT for NULL, E_SHAPE for a number of rows out of range.
 * Since 0.1. */
lorasc_status lorasc_dataset_from_callback(size_t rows, lorasc_rows_fn read, void *user,
                                           lorasc_dataset **dataset);
size_t lorasc_dataset_rows(lorasc_dataset *dataset);
void lorasc_dataset_free(lorasc_dataset *dataset);

/* ---- Adapters ------------------------------------------------------------- */

/* The whole result of fine-tuning: the merged terms of finished cascades, the current
 * expert's A and B, the slow state, and the task head. */
typedef struct lorasc_adapter lorasc_adapter;

typedef struct lorasc_match_report {
  uint32_t struct_size;
  uint32_t matched;              /* modules that got an adapter      */
  uint64_t trainable_parameters; /* adapters and trained modules     */
  uint64_t backbone_parameters;
} lorasc_match_report;

/* Puts fresh adapters (options of scope "adapter") on the modules that PEFT's target
 * rules choose, and the head. `report` may be NULL. E_NO_MATCH, E_OPTION, E_MEMORY. */
lorasc_status lorasc_adapter_create(lorasc_model *model, lorasc_options *options,
                                    lorasc_match_report *report, lorasc_adapter **adapter);

/* Reads an adapter from a folder of PEFT's, or of lorasc_adapter_save, or from a GGUF LoRA (a
 * file). adapter_config.json, or the file, determines it; `options` (or NULL) give what that
 * doesn't say: num_labels, adapter_seed. Strict: tensors that are missing, too many or of other
 * shapes are an E_MISMATCH that names them, so is another base model where the folder names its
 * own, and another architecture. Keys of the configuration that nobody knows go along into the
 * next lorasc_adapter_save. E_UNSUPPORTED (subject: the
 * key) for what isn't offered and for pickles, E_OPTION where options contradict the
 * configuration, E_NOT_FOUND, E_FORMAT, E_NONFINITE. Since 0.1. */
lorasc_status lorasc_adapter_load(lorasc_model *model, const char *directory,
                                  lorasc_options *options, lorasc_match_report *report,
                                  lorasc_adapter **adapter);

typedef struct lorasc_save_report {
  uint32_t struct_size;
  uint32_t rank;   /* largest that was written                                           */
  double error;    /* of the truncation: relative, Frobenius, over all modules; 0: exact */
} lorasc_save_report;

/* Writes the merged view as a folder that PEFT opens, in one step: one expert as it is; a
 * cascade of low-rank experts as one adapter with the ranks of all its terms together,
 * exactly (rank 0) or truncated by SVD. A mean_linear head lies beside, in
 * lorasc_head.safetensors. `report` may be NULL. E_UNSUPPORTED where only merged weights
 * hold the result (DoRA after its first cascade, persistent noise), E_IO, E_NONFINITE,
 * E_ARGUMENT for the model's own folder. Since 0.1. */
lorasc_status lorasc_adapter_save(lorasc_model *model, lorasc_adapter *adapter,
                                  const char *directory, uint32_t rank,
                                  lorasc_save_report *report);

typedef struct lorasc_adapter_description {
  uint32_t struct_size;
  uint32_t num_labels;    /* of the head; lm: the vocabulary, embedding: the hidden size */
  uint32_t modules;       /* with an adapter                                             */
  uint32_t contrastive_rows; /* rows of an example, else 1                               */
  char head[32];          /* "classifier", "mean_linear", "token", "lm" or "embedding"   */
  char problem_type[32];  /* as config.json names it, "next_token" or "contrastive"      */
} lorasc_adapter_description;
/* Since 0.1. */
lorasc_status lorasc_adapter_info(lorasc_adapter *adapter, lorasc_adapter_description *info);

typedef struct lorasc_module_info {
  uint32_t struct_size;
  uint32_t rank;          /* of the current cascade                            */
  double scale;           /* s: lora_alpha / r, or / sqrt(r) with use_rslora   */
  uint64_t in_features;   /* an embedding's entries                            */
  uint64_t out_features;
  char module[256];       /* "encoder.layer.0.attention.self.query"            */
  char rule[256];         /* the item of target_modules that matched, cut to fit */
} lorasc_module_info;

/* The modules with an adapter, and which rule chose each. Since 0.1. */
size_t lorasc_adapter_module_count(lorasc_adapter *adapter);
lorasc_status lorasc_adapter_module_info(lorasc_adapter *adapter, size_t index,
                                         lorasc_module_info *info);

/* How strongly the adapter's change counts in prediction, merge and files: W0 + scale
 * (W - W0); 1 at first. Training, the head and what is trained in full don't feel it.
 * Finite. Since 0.1. */
lorasc_status lorasc_adapter_set_scale(lorasc_adapter *adapter, double scale);
lorasc_status lorasc_adapter_get_scale(lorasc_adapter *adapter, double *scale);

/* Trainable tensors, in the order of the gradient buffer: "<module>.lora_A.weight"
 * (r, in), "<module>.lora_B.weight" (out, r), DoRA's "<module>.lora_magnitude_vector" (out),
 * on embeddings "<module>.lora_embedding_A" (r, entries) and "..._B" (columns, r), then what
 * is trained in full: "classifier.weight", ... */
size_t lorasc_adapter_tensor_count(lorasc_adapter *adapter);
lorasc_status lorasc_adapter_tensor_info(lorasc_adapter *adapter, size_t index,
                                         lorasc_tensor_info *info);
/* Copies a trainable tensor's values out, or in (count must be its element count; NaN
 * and infinity are E_NONFINITE). Elements, not bytes. */
lorasc_status lorasc_adapter_copy_out(lorasc_adapter *adapter, const char *name, float *buffer,
                                      size_t capacity, size_t *need);
lorasc_status lorasc_adapter_copy_in(lorasc_adapter *adapter, const char *name,
                                     const float *values, size_t count);

typedef struct lorasc_merge_report {
  uint32_t struct_size;
  uint32_t tensors;          /* written                                          */
  uint32_t changed;          /* that differ from the base                        */
  uint32_t reserved;
  double max_change;         /* largest |merged - base| over all                 */
  double rounded_away;       /* share of non-zero updates lost in the output type */
} lorasc_merge_report;

/* Writes the merged view as a Hugging Face folder: weights in the base's element types, of
 * quantised ones F32, config.json with id2label and problem_type, tokenizer files copied along.
 * Head "classifier": opens as AutoModelForSequenceClassification; "mean_linear": as a
 * SentenceTransformer whose encode() gives the logits. An existing folder is replaced in
 * one step and keeps its other files; the model's own folder is refused. `report` may be
 * NULL.
 * A path that ends in ".gguf" becomes a GGUF file with the metadata and the order of the base,
 * which must be one (else E_UNSUPPORTED, and so is a classifier's head); matrices that the
 * adapter changes keep plain types, quantised ones become Q8_0.
 * E_IO, E_ARGUMENT, E_UNSUPPORTED, E_NONFINITE. */
lorasc_status lorasc_adapter_merge(lorasc_model *model, lorasc_adapter *adapter,
                                   const char *directory, lorasc_merge_report *report);
/* The same with all weights in one element type: "f32", "f16", "bf16", or "auto" for the
 * base's own; of GGUF files all matrices, also "q8_0" (f16 where rows don't fill its blocks).
 * float32 arithmetic, one rounding, tensor by tensor. Since 0.1. */
lorasc_status lorasc_adapter_merge_as(lorasc_model *model, lorasc_adapter *adapter,
                                      const char *directory, const char *type,
                                      lorasc_merge_report *report);

typedef struct lorasc_merge_tensor {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t elements;
  uint64_t changed;      /* elements that the adapter changes                 */
  double max_change;     /* largest |merged - base|                           */
  double rounded_away;   /* share of them that the output's type rounds as the base */
  char name[256];
} lorasc_merge_tensor;

/* What the adapter's last merge did to each tensor that it may change. Since 0.1. */
size_t lorasc_adapter_merge_tensor_count(lorasc_adapter *adapter);
lorasc_status lorasc_adapter_merge_tensor_info(lorasc_adapter *adapter, size_t index,
                                               lorasc_merge_tensor *info);
/* One new adapter from `count` adapters on `model`: W0 + sum of weight (W - W0) over their
 * merged views. rank 0: exact, each module's rank is the sum of all terms' ranks; else
 * truncated to it by SVD, and *error (may be NULL) is the relative error in the Frobenius
 * norm over all modules. The head is the mean of the heads by these weights. E_UNSUPPORTED
 * where only merged weights hold an adapter's result (DoRA, persistent noise), E_MISMATCH
 * for other models or heads, E_ARGUMENT for weights that are not finite or whose sum is 0.
 * Since 0.1. */
lorasc_status lorasc_adapter_combine(lorasc_model *model, lorasc_adapter *const *adapters,
                                     const double *weights, size_t count, uint32_t rank,
                                     double *error, lorasc_adapter **adapter);

/* Writes the merged view for another program. format "mlx": a folder with
 * adapters.safetensors ("<module>.lora_a" (in, r), ".lora_b" (r, out), DoRA's ".m") and
 * adapter_config.json, whose scale is that of the factors. "gguf": a file that llama.cpp applies
 * to the model's GGUF file ("<tensor>.lora_a" (r, in), ".lora_b" (out, r), one alpha; rows of
 * queries and keys in that file's order); not DoRA, and nothing trained in full. E_UNSUPPORTED
 * where only merged weights hold the result, E_ARCHITECTURE for a model that GGUF doesn't know,
 * E_ARGUMENT for another format, E_IO. Since 0.1. */
lorasc_status lorasc_adapter_export(lorasc_model *model, lorasc_adapter *adapter,
                                    const char *path, const char *format);
void lorasc_adapter_free(lorasc_adapter *adapter);

/* ---- Prediction ----------------------------------------------------------- */

typedef enum lorasc_predict_what {
  LORASC_PREDICT_LOGITS = 0,          /* (rows, num_labels); head token: (tokens,
                                         num_labels); head lm: (rows, vocabulary), for
                                         what follows each row                    */
  LORASC_PREDICT_EMBEDDING = 1,       /* (rows, hidden): mean of the last layer   */
  LORASC_PREDICT_TOKEN_EMBEDDING = 2, /* (tokens, hidden): the last layer         */
  LORASC_PREDICT_TOKEN_LOGITS = 3,    /* heads token and lm: (asked, labels), of the
                                         tokens whose token_labels isn't -100, or of all
                                         where token_labels is NULL. Since 0.1    */
  LORASC_PREDICT_FAST = 256           /* or-ed in: W + the fast expert in full,
                                         instead of the merged view               */
} lorasc_predict_what;

/* Runs the model, with `adapter`'s merged view or, where NULL, as it was opened. No
 * trainer needed; labels are ignored. capacity and *need count floats.
 * E_SHAPE, E_TOKEN, E_LIMIT (a row longer than the model's positions), E_BUFFER,
 * E_STATE (logits without a head). */
lorasc_status lorasc_predict(lorasc_model *model, lorasc_adapter *adapter,
                             const lorasc_batch *batch, uint32_t what, float *buffer,
                             size_t capacity, size_t *need);

/* ---- Generation ----------------------------------------------------------- */

/* How tokens are chosen. Start from the defaults:
 *   lorasc_generation settings = LORASC_GENERATION_DEFAULTS;  settings.temperature = 0.8; */
typedef struct lorasc_generation {
  uint32_t struct_size;
  int32_t max_new_tokens;     /* at least 1                                             */
  double temperature;         /* logits are divided by it; 0: always the likeliest token */
  double top_p;               /* draws among the likeliest tokens that make up this
                                 probability, the one that reaches it included; in (0, 1] */
  double repetition_penalty;  /* logits of tokens that are there already are divided by it,
                                 negative ones multiplied; above 0, 1: none              */
  int32_t top_k;              /* draws among the likeliest so many; 0: all               */
  uint32_t reserved;
  uint64_t seed;              /* the same seed, settings and prompt: the same tokens, for
                                 any number of threads                                   */
  const int32_t *stop_tokens; /* a generation ends before one of them; NULL: the
                                 eos_token_id of the folder's generation_config.json, or
                                 else of its config.json                                 */
  size_t stop_count;          /* with stop_tokens not NULL, 0: none stops it             */
} lorasc_generation;
#define LORASC_GENERATION_DEFAULTS \
  { sizeof(lorasc_generation), 128, 0, 1, 1, 0, 0, 0, NULL, 0 }

/* Each new token, on the calling thread. Non-zero ends the generation: LORASC_E_CANCELLED. Any
 * function of the library may be called from it, on the same model and adapter too. */
typedef int32_t (*lorasc_token_fn)(int32_t token, void *user);

/* Continues a text, with a decoder of head "lm" (llama, mistral, qwen2, gpt2) and `adapter`'s
 * merged view or, where NULL, the model as it was opened. The prompt is read once; keys and
 * values stay, so each token costs one token's work. The adapter is read at the start: what
 * happens to it later doesn't matter, and it isn't busy meanwhile.
 * `settings` NULL: the defaults. `callback` may be NULL. `tokens` takes the new tokens, without
 * the stop token that ended them, and needs a capacity of max_new_tokens; with a callback it
 * may be NULL, capacity 0. *count, which may then be NULL too, is how many there are: fewer
 * than max_new_tokens where a stop token came. With neither tokens nor callback only *count is
 * set, to max_new_tokens. After a failure on the way (E_CANCELLED, E_NONFINITE) tokens and
 * *count hold what there was until then.
 * The prompt and all new tokens but the last need a position each: more than the model has are
 * an E_LIMIT before anything is generated; nothing is cut. E_SHAPE for an empty prompt, E_TOKEN,
 * E_ARGUMENT for settings out of range, E_BUFFER, E_STATE for a model or adapter without a
 * language head, E_MISMATCH, E_MEMORY where the keys and values of prompt_tokens +
 * max_new_tokens don't fit, E_BUSY while another thread uses the adapter. Since 0.1. */
lorasc_status lorasc_generate(lorasc_model *model, lorasc_adapter *adapter,
                              const int32_t *prompt, size_t prompt_tokens,
                              const lorasc_generation *settings, lorasc_token_fn callback,
                              void *user, int32_t *tokens, size_t capacity, size_t *count);

/* ---- Training ------------------------------------------------------------- */

typedef struct lorasc_estimate_info {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t backbone_bytes;   /* frozen tensors, those that stay memory mapped too          */
  uint64_t adapter_bytes;    /* trainable tensors                                          */
  uint64_t gradient_bytes;
  uint64_t optimizer_bytes;
  uint64_t activation_bytes; /* buffers for max_batch_tokens tokens                        */
  uint64_t weight_bytes;     /* copies of changed matrices: noisy and merged views, and what
                                finished cascades have merged                              */
  uint64_t total_bytes;
  double forward_flops;      /* of matrix products over max_batch_tokens tokens, in rows as
                                long as the model takes                                    */
  double step_flops;         /* forward and backward of the same                           */
} lorasc_estimate_info;

/* What training with these options (of scopes "adapter" and "trainer") would take; allocates
 * none of it. Errors as lorasc_adapter_create's and lorasc_trainer_create's. Since 0.1. */
lorasc_status lorasc_estimate(lorasc_model *model, lorasc_options *options,
                              lorasc_estimate_info *info);

typedef struct lorasc_trainer lorasc_trainer;

/* A trainer for one adapter: optimizer, schedule, cascades, and the plan (every buffer
 * for at most max_batch_tokens). Options of scope "trainer". E_OPTION, E_MEMORY,
 * E_BUSY where another trainer holds the adapter. */
lorasc_status lorasc_trainer_create(lorasc_model *model, lorasc_adapter *adapter,
                                    lorasc_options *options, lorasc_trainer **trainer);

typedef struct lorasc_stats {
  uint32_t struct_size;
  uint32_t cascade;     /* from 1                                                    */
  uint64_t step;        /* optimizer steps done                                      */
  uint64_t rows;        /* since the last apply                                      */
  uint64_t tokens;
  double loss;          /* weighted mean over what was accumulated since then        */
  double loss_weight;   /* total weight of it                                        */
  double gradient_norm; /* before clipping; 0 from accumulate                        */
  double learning_rate; /* that this step used, or the next will                     */
} lorasc_stats;

/* Forward and backward of one batch; gradients are added up. More than max_batch_tokens
 * tokens: E_LIMIT. On E_NONFINITE and bad input nothing was added. `stats` may be NULL. */
lorasc_status lorasc_trainer_accumulate(lorasc_trainer *trainer, const lorasc_batch *batch,
                                        lorasc_stats *stats);
/* Divides the gradient by the total weight, clips, steps the optimizer and the schedule.
 * E_STATE where nothing was accumulated; E_NONFINITE (subject: the tensor) leaves the
 * weights and drops the gradient. */
lorasc_status lorasc_trainer_apply(lorasc_trainer *trainer, lorasc_stats *stats);
lorasc_status lorasc_trainer_discard_gradients(lorasc_trainer *trainer);
/* The accumulated gradient of a trainable tensor, divided by the total weight. Before
 * apply. capacity and *need count elements. E_STATE, E_NOT_FOUND. */
lorasc_status lorasc_trainer_gradient(lorasc_trainer *trainer, const char *name, float *buffer,
                                      size_t capacity, size_t *need);

/* Ends the cascade: slow update, merge, fresh expert, optimizer reset. Not after the last
 * one: its share is in the merged view anyway. Accumulated gradients are an E_STATE. */
lorasc_status lorasc_trainer_cascade(lorasc_trainer *trainer, lorasc_stats *stats);

/* The base learning rate, before schedule and re-warm-up. set: finite and >= 0. */
lorasc_status lorasc_trainer_get_learning_rate(lorasc_trainer *trainer, double *rate);
lorasc_status lorasc_trainer_set_learning_rate(lorasc_trainer *trainer, double rate);

typedef struct lorasc_evaluation {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t rows;      /* that carry a loss; heads token and lm: tokens           */
  double loss;        /* weighted mean                                           */
  double loss_weight;
  double accuracy;    /* share of rows, or tokens, whose largest logit is the label;
                         NaN for regression                                      */
  double perplexity;  /* head lm: e^loss of the built-in loss, else NaN. Since 0.1 */
} lorasc_evaluation;

/* Loss and accuracy without dropout, noise or label smoothing, of the merged view, or of
 * the fast one (fast != 0). */
lorasc_status lorasc_trainer_evaluate(lorasc_trainer *trainer, lorasc_dataset *dataset,
                                      int32_t fast, lorasc_evaluation *evaluation);

/* Outputs of rows that are computed together, for a loss of the host's: of head lm the tokens that
 * carry a loss, chunk by chunk; of head token all tokens; of head embedding the n anchors'
 * similarities to the candidates, the rows between the anchors; else all rows. */
typedef struct lorasc_outputs {
  uint32_t struct_size;
  uint32_t reserved;
  size_t count;           /* items: rows, tokens or anchors                               */
  size_t width;           /* num_labels; lm: the vocabulary; embedding: candidates        */
  const float *logits;    /* (count, width)                                               */
  float *gradient;        /* (count, width): d loss / d logits, to be written, zero at
                             first; NULL: only the loss is asked for                      */
  const int32_t *labels;  /* (count) classes, ids of tokens, or candidates; -100: the
                             item has no loss. NULL where targets stand for them          */
  const float *targets;   /* (count, width), or NULL                                      */
  const float *weights;   /* (count): row weight times token weight                       */
  const size_t *rows;     /* (count): rows of the dataset, or of the batch of
                             lorasc_trainer_accumulate, from 0                            */
  const size_t *places;   /* (count): places of the labels in their rows, from 0, where
                             items are tokens, else NULL                                  */
  double loss;            /* to be set: the weighted sum over the items                   */
  double loss_weight;     /* by which loss and gradient are divided at last: at first the
                             sum of the weights of items with a label; may be set, >= 0   */
} lorasc_outputs;

/* On the calling thread. Non-zero ends the call: LORASC_E_CANCELLED. All of `outputs` is valid
 * during the callback. It may use the library; the trainer, and its adapter, are E_BUSY, except
 * for lorasc_trainer_interrupt. */
typedef int32_t (*lorasc_loss_fn)(lorasc_outputs *outputs, void *user);

/* A loss of the host's in place of the built-in one, for accumulate, run and evaluate; NULL gives
 * the built-in one back. Loss and gradient are sums, as all that is accumulated: they are divided
 * once, by the total of loss_weight, when the step is applied. Labels and targets are needed and
 * checked as without it, and accuracies are those of the logits; e^loss has no meaning, so
 * perplexity is NaN. It isn't called where nothing carries a loss, and twice for a chunk of head
 * lm whose output layer is trained: first for the loss alone. Head lm takes a buffer for the
 * gradient of a chunk, at most 64 MiB, or 16 rows of the vocabulary.
 * E_CANCELLED and E_NONFINITE (subject: "loss", "loss_weight" or "gradient") leave what was
 * accumulated as it was, except that where the output layer of head lm is trained, they drop it.
 * A saved state holds that there was such a loss, not the function: set it before
 * lorasc_trainer_resume, which is an E_MISMATCH (subject: "loss") where one has a loss of the
 * host's and the other not. Callback and `user` must stay until another is set or the trainer is
 * freed. E_OPTION with label_smoothing or class_weights, which belong to the built-in loss;
 * E_STATE with gradients accumulated; E_MEMORY. Since 0.1. */
lorasc_status lorasc_trainer_set_loss(lorasc_trainer *trainer, lorasc_loss_fn loss, void *user);

typedef enum lorasc_event {
  LORASC_EVENT_STEP = 1,       /* an optimizer step is done                       */
  LORASC_EVENT_EVALUATION = 2, /* of the merged view, at an epoch's end           */
  LORASC_EVENT_CASCADE = 3,    /* a cascade's end: evaluation and, in fast_*, the
                                  fast view's, where there is a dataset for it    */
  LORASC_EVENT_EVALUATING = 4, /* a batch of an evaluation is done                */
  LORASC_EVENT_END = 5         /* the run is complete                             */
} lorasc_event;

typedef struct lorasc_progress {
  uint32_t struct_size;
  uint32_t event;
  uint64_t step;          /* optimizer steps done                                 */
  uint64_t total_steps;
  uint64_t epoch;         /* from 1                                               */
  uint64_t total_epochs;
  uint32_t cascade;       /* from 1                                               */
  uint32_t total_cascades;
  double loss;            /* of this step                                         */
  double gradient_norm;
  double learning_rate;
  uint64_t tokens;        /* trained on by this call so far                       */
  double seconds;         /* spent by this call so far                            */
  double train_seconds;   /* of these, in training steps                          */
  double tokens_per_second;  /* tokens over train_seconds                         */
  double seconds_left;    /* estimate                                             */
  double eval_loss, eval_accuracy; /* NaN unless EVALUATION, CASCADE              */
  double fast_loss, fast_accuracy; /* NaN unless CASCADE                          */
} lorasc_progress;

/* On the calling thread. Non-zero stops the run: LORASC_E_CANCELLED. From inside it,
 * lorasc_trainer_save, _merged, _get_learning_rate, _set_learning_rate and _interrupt of
 * the same trainer may be called, and lorasc_generate with its adapter; other calls on them
 * are E_BUSY. The struct is valid during the callback. */
typedef int32_t (*lorasc_progress_fn)(const lorasc_progress *progress, void *user);

/* The whole loop: epochs of shuffled batches, cascades, evaluations of `eval` (or NULL) at
 * epoch ends. A batch over max_batch_tokens is done in parts. After E_CANCELLED,
 * E_INTERRUPTED or a resume the next call goes on where it stopped. */
lorasc_status lorasc_trainer_run(lorasc_trainer *trainer, lorasc_dataset *dataset,
                                 lorasc_dataset *eval, lorasc_progress_fn progress, void *user);

/* Stops the trainer's current or else its next run, accumulate or evaluate with
 * E_INTERRUPTED, at the next batch. Takes no lock: any thread, and signal handlers; for that
 * reason its own failure (E_HANDLE) is told by the status alone, lorasc_last_error stays. */
lorasc_status lorasc_trainer_interrupt(lorasc_trainer *trainer);

/* The merged view of one matrix ("<module>.weight", in its file's layout), or of a head
 * tensor, float32.
 * E_NOT_FOUND for a name that is no matrix of the model or head. */
lorasc_status lorasc_trainer_merged(lorasc_trainer *trainer, const char *tensor, float *buffer,
                                    size_t capacity, size_t *need);

/* Everything a bit-for-bit continuation needs, in one file, written atomically. With
 * gradients accumulated: E_STATE. */
lorasc_status lorasc_trainer_save(lorasc_trainer *trainer, const char *path);
/* Takes the state of `path` into a trainer made on the same model with the same options.
 * E_MISMATCH (subject: what differs); on any error the trainer is unchanged. */
lorasc_status lorasc_trainer_resume(lorasc_trainer *trainer, const char *path);

typedef struct lorasc_trainer_description {
  uint32_t struct_size;
  uint32_t cascade;        /* from 1                                    */
  uint64_t step;           /* optimizer steps done                      */
  uint64_t total_steps;    /* 0 while unknown                           */
  uint64_t cascade_step;   /* steps done in this cascade                */
  uint64_t plan_bytes;     /* of the plan's buffers                     */
  uint32_t threads;
  uint32_t reserved;
} lorasc_trainer_description;
lorasc_status lorasc_trainer_info(lorasc_trainer *trainer, lorasc_trainer_description *info);
void lorasc_trainer_free(lorasc_trainer *trainer);

/* ---- The host's own model --------------------------------------------------- */

/* A host with a forward and backward of its own hands its weight matrices over, and runs the
 * adapted ones through layers, in its own loop:
 *
 *   lorasc_matrix matrices[] = {{.struct_size = sizeof matrices[0], .name = "fc1",
 *                                .values = w1, .out_features = 64, .in_features = 32}, ...};
 *   lorasc_model_from_host(matrices, 2, options, &model);
 *   lorasc_adapter_create(model, options, NULL, &adapter);
 *   lorasc_trainer_create(model, adapter, options, &trainer);
 *   lorasc_layer_create(trainer, "fc1", &fc1);
 *   for (each batch) {
 *     lorasc_layer_forward(fc1, &x, &y, NULL);
 *     ... the host's activations, loss and their gradients ...
 *     lorasc_layer_backward(fc1, &x, &dy, &dx, NULL, NULL);
 *     lorasc_trainer_apply(trainer, NULL);
 *   }
 *   lorasc_adapter_merge_into_host(model, adapter);
 *
 * The trainer steps all layers as one: it clips over all of them, ends the cascade
 * (lorasc_trainer_cascade), saves and resumes; lorasc_adapter_save writes PEFT's files, and
 * lorasc_adapter_merge a folder with model.safetensors alone. What needs a forward pass of the
 * whole model (accumulate, run, evaluate, set_loss, predict) is an E_STATE. Gradients are those
 * of the host's whole loss: apply divides them by nothing. */

typedef enum lorasc_element_type {
  LORASC_FLOAT32 = 0,
  LORASC_BFLOAT16 = 1,
  LORASC_FLOAT16 = 2
} lorasc_element_type;

typedef struct lorasc_matrix {
  uint32_t struct_size;
  uint32_t type;        /* lorasc_element_type                                           */
  const char *name;     /* of the module: target rules, messages and files say it        */
  void *values;         /* (out, in) row-major: the host's, aligned to its elements      */
  size_t out_features;
  size_t in_features;
  size_t row_stride;    /* elements from one row to the next; 0: rows follow each other  */
  const float *bias;    /* (out), or NULL                                                */
  uint32_t transposed;  /* not 0: values are (in, out), as GPT-2's Conv1D                */
  uint32_t reserved;
} lorasc_matrix;

/* A model that is `count` matrices of the host's and nothing else. Their memory and the biases'
 * are read where they lie (copied where rows have gaps or `transposed` is set), and must stay,
 * and stay unchanged, while the model or anything made on it lives;
 * lorasc_adapter_merge_into_host alone writes to it. Options: `threads`, `thread_pool`,
 * `kernels` and `products`. target_modules=auto means all of them. E_ARGUMENT, E_SHAPE, E_NONFINITE (subject: the name),
 * E_MEMORY. Since 0.1. */
lorasc_status lorasc_model_from_host(const lorasc_matrix *matrices, size_t count,
                                     lorasc_options *options, lorasc_model **model);

/* Where a trainable tensor's values are (see lorasc_adapter_tensor_info for its shape), so that
 * an optimizer of the host's can train them in place. Valid while the adapter lives; not to be
 * written while a call uses the adapter. E_NOT_FOUND. Since 0.1. */
lorasc_status lorasc_adapter_tensor_data(lorasc_adapter *adapter, const char *name,
                                         float **values);

/* Writes the merged view of every changed matrix over the host's own memory, rounded once to its
 * element type. Afterwards the host's model computes what the adapted one did, and the adapter,
 * its trainers and layers refuse every call with E_STATE. E_NONFINITE: nothing was written.
 * Since 0.1. */
lorasc_status lorasc_adapter_merge_into_host(lorasc_model *model, lorasc_adapter *adapter);

/* One adapted linear module of a trainer. Of the host's model, or of any other. */
typedef struct lorasc_layer lorasc_layer;

/* E_NOT_FOUND where the module has no adapter, E_UNSUPPORTED for an embedding. The layer keeps
 * the trainer alive. Since 0.1. */
lorasc_status lorasc_layer_create(lorasc_trainer *trainer, const char *module,
                                  lorasc_layer **layer);
void lorasc_layer_free(lorasc_layer *layer);

/* float32 activations (batch, tokens, features), the host's. */
typedef struct lorasc_activations {
  uint32_t struct_size;
  uint32_t reserved;
  float *values;
  size_t batch;         /* 0 counts as 1                                             */
  size_t tokens;
  size_t token_stride;  /* elements from one token to the next; 0: no gaps           */
  size_t batch_stride;  /* between members of the batch; 0: no gaps                  */
} lorasc_activations;

typedef enum lorasc_layer_weights {
  LORASC_WEIGHTS_TRAINING = 0, /* with noise, and the current expert in full */
  LORASC_WEIGHTS_MERGED = 1,   /* as a merge would write them                */
  LORASC_WEIGHTS_FAST = 2      /* W + the current expert in full             */
} lorasc_layer_weights;

typedef struct lorasc_layer_call {
  uint32_t struct_size;
  uint32_t weights; /* lorasc_layer_weights                                               */
  uint32_t share;   /* not 0: only what the adapter changes, X (W - W0)^T without bias,
                       added to Y (dX): the host has its own product with W0 there. Sums of
                       low-rank terms are added as such; noise, DoRA and persistent noise
                       cost a product of the layer's size                                 */
  uint32_t reserved;
  uint64_t key;     /* tells lora_dropout's masks of calls apart: a backward needs its
                       forward's                                                          */
} lorasc_layer_call;

/* Y = X W^T + b, X (batch, tokens, in), Y (batch, tokens, out), which may not overlap. `call`
 * may be NULL: all 0. Nothing is kept for the backward: a layer may run any number of times
 * before it, and stand in several places. The first call in a cascade makes its noise. One call
 * on a trainer's layers at a time, else E_BUSY. E_SHAPE, E_ARGUMENT, E_MEMORY. Since 0.1. */
lorasc_status lorasc_layer_forward(lorasc_layer *layer, const lorasc_activations *x,
                                   const lorasc_activations *y, const lorasc_layer_call *call);

/* Where a backward adds gradients instead of to the trainer's. */
typedef struct lorasc_layer_gradients {
  uint32_t struct_size;
  uint32_t reserved;
  float *a;         /* (r, in); NULL where A is frozen    */
  float *b;         /* (out, r)                           */
  float *magnitude; /* (out), with DoRA                   */
} lorasc_layer_gradients;

/* From X as the forward had it and dY = d loss / d Y: dX (written; with `share` added to; NULL:
 * not needed), which may not overlap them, and the gradients of A, B and DoRA's magnitude, added
 * to `gradients`, or where NULL to the trainer's for lorasc_trainer_apply. Training weights only.
 * Since 0.1. */
lorasc_status lorasc_layer_backward(lorasc_layer *layer, const lorasc_activations *x,
                                    const lorasc_activations *dy, const lorasc_activations *dx,
                                    const lorasc_layer_call *call,
                                    const lorasc_layer_gradients *gradients);

/* W~ (out, in), float32: the weight beside which training calls see the current expert, W with this
 * step's noise. capacity and *need count elements. Since 0.1. */
lorasc_status lorasc_layer_weight(lorasc_layer *layer, float *buffer, size_t capacity,
                                  size_t *need);

/* Tells that an optimizer of the host's, not lorasc_trainer_apply, has made a step on the factors:
 * what goes by steps goes on, noise_lifetime=per_step and the position that is saved. E_STATE where
 * gradients are accumulated. Since 0.1. */
lorasc_status lorasc_trainer_count_step(lorasc_trainer *trainer);

/* ---- Functions bound to handles --------------------------------------------- */

typedef void (*lorasc_signal_fn)(int signal_number);

/* Makes a plain function that interrupts this trainer, for slots that carry no user
 * data: signal(SIGINT, fn). Async-signal-safe. It may outlive the trainer (then it does
 * nothing). E_UNSUPPORTED where executable memory is denied. Give it back with
 * lorasc_unbind, when nothing can call it any more. */
lorasc_status lorasc_bind_interrupt(lorasc_trainer *trainer, lorasc_signal_fn *function);

/* The functions below are of a module's merged weight as it is when they are bound: a copy, which
 * later training doesn't change and which outlives the handles. Any number of threads may call them
 * at once; they compute on the calling thread alone. Binding: E_UNSUPPORTED where executable memory
 * is denied, E_NOT_FOUND, E_MEMORY. */

/* Y = X W^T + b: x (rows, in), y (rows, out), both without gaps. On an error (NULL, too many rows,
 * in a forked child) y is NaN where it isn't NULL, and lorasc_last_error tells why. */
typedef void (*lorasc_forward_fn)(const float *x, float *y, size_t rows);

/* Of a layer's module, or of an adapter's. Since 0.1. */
lorasc_status lorasc_bind_forward(lorasc_layer *layer, lorasc_forward_fn *function);
lorasc_status lorasc_bind_module(lorasc_adapter *adapter, const char *module,
                                 lorasc_forward_fn *function);

/* w x + b of a module of one output and n inputs, summed in float64; in the form of SciPy's
 * LowLevelCallable. On an error (NULL, n that isn't the module's, in a forked child) the value is
 * NaN, and lorasc_last_error tells why. */
typedef double (*lorasc_scalar_fn)(int n, double *x);

/* E_SHAPE where the module has more outputs than one. Since 0.1. */
lorasc_status lorasc_bind_scalar(lorasc_layer *layer, lorasc_scalar_fn *function);

/* A bound function of any type as lorasc_unbind takes it. */
#define LORASC_BOUND(function) ((lorasc_signal_fn)(void (*)(void))(function))
/* Gives a bound function back; nothing may be calling it: lorasc_unbind(LORASC_BOUND(forward)).
 * E_HANDLE where `function` did not come from a bind. */
lorasc_status lorasc_unbind(lorasc_signal_fn function);

#ifdef __cplusplus
}
#endif
#endif
