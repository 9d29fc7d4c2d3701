/* Datasets whose rows a callback gives: the same runs as from memory, refusals, cancels. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#define RUN "method=lorasc epochs=2 learning_rate=0.01 seed=3 "
/* Parts of a step: a batch has more tokens than fit. */
#define PARTS RUN "max_batch_tokens=40 "
enum { EPOCHS = 2 };

typedef enum trouble {
  NONE,
  NO_BATCH,
  NO_TOKENS,
  SHORT_STRUCT,
  TOO_FEW,
  TOO_MANY,
  FALLING_OFFSETS,
  FIRST_OFFSET,
  BAD_TOKEN,
  BAD_LABEL,
  NO_LABELS,
  BAD_WEIGHT,
  CANCEL
} trouble;

/* A source that does something else at one of its requests. */
typedef struct source {
  row_source rows;
  trouble trouble;
  size_t at; /* from 1 */
  fixture *f;
  void (*use)(fixture *f);
  float weights[SOURCE_ROWS];
} source;

static int32_t read_source(lorasc_rows *rows, void *user) {
  source *s = user;
  int32_t status = read_rows(rows, &s->rows);
  lorasc_batch *batch = &s->rows.batch;
  if (s->use) s->use(s->f);
  if (status != 0 || s->rows.requests != s->at) return status;
  switch (s->trouble) {
    case NONE: break;
    case NO_BATCH: rows->batch = NULL; break;
    case NO_TOKENS: batch->tokens = NULL; break;
    case SHORT_STRUCT: batch->struct_size = 4; break;
    case TOO_FEW: batch->rows--; break;
    case TOO_MANY:
      s->rows.offsets[batch->rows + 1] = s->rows.offsets[batch->rows] + 1;
      batch->rows++;
      break;
    case FALLING_OFFSETS: s->rows.offsets[1] = s->rows.offsets[2] + 1; break;
    case FIRST_OFFSET: s->rows.offsets[0] = 1; break;
    case BAD_TOKEN: s->rows.tokens[2] = TINY_VOCABULARY; break;
    case BAD_LABEL: s->rows.labels[1] = TINY_LABELS; break;
    case NO_LABELS: batch->labels = NULL; break;
    case BAD_WEIGHT: s->weights[0] = -1; batch->row_weights = s->weights; break;
    case CANCEL: return 7;
  }
  return status;
}

static bool source_open(fixture *f, source *s, lorasc_dataset **dataset) {
  memset(s, 0, sizeof *s);
  s->rows.rows = &f->rows;
  s->f = f;
  return CHECK_OK(lorasc_dataset_from_callback(FIXTURE_ROWS, read_source, s, dataset));
}

static void same_run(const char *settings) {
  fixture memory, asked;
  static source s;
  lorasc_dataset *dataset = NULL;
  lorasc_evaluation evaluations[2] = {{.struct_size = sizeof *evaluations},
                                      {.struct_size = sizeof *evaluations}};
  check_about(settings);
  if (fixture_open(&memory, settings) && fixture_open(&asked, settings) &&
      source_open(&asked, &s, &dataset)) {
    CHECK(lorasc_dataset_rows(dataset) == FIXTURE_ROWS);
    CHECK_OK(lorasc_trainer_run(memory.trainer, memory.dataset, NULL, NULL, NULL));
    CHECK_OK(lorasc_trainer_run(asked.trainer, dataset, NULL, NULL, NULL));
    CHECK(s.rows.asked == EPOCHS * FIXTURE_ROWS); /* each row once an epoch */
    CHECK(same_values(memory.adapter, asked.adapter));
    CHECK_OK(lorasc_trainer_evaluate(memory.trainer, memory.dataset, 0, &evaluations[0]));
    CHECK_OK(lorasc_trainer_evaluate(asked.trainer, dataset, 0, &evaluations[1]));
    CHECK(memcmp(&evaluations[0].loss, &evaluations[1].loss, sizeof(double)) == 0);
    CHECK(evaluations[0].accuracy == evaluations[1].accuracy);
    CHECK(evaluations[1].rows == FIXTURE_ROWS);
  }
  lorasc_dataset_free(dataset);
  fixture_close(&memory);
  fixture_close(&asked);
  check_about(NULL);
}

void data_callback_same_bits(void) {
  same_run(RUN);
  same_run(PARTS);
  same_run(PARTS "shuffle=false");
}

static int32_t stop_at_4(const lorasc_progress *progress, void *user) {
  (void)user;
  return progress->step == 4;
}

/* Stopped and resumed elsewhere, with one dataset for training and evaluations. */
void data_callback_resumed(void) {
  fixture whole, first, second;
  static source s;
  lorasc_dataset *dataset = NULL;
  const char *state = in_folder("data-state");
  if (fixture_open(&whole, PARTS) && fixture_open(&first, PARTS) &&
      fixture_open(&second, PARTS) && source_open(&first, &s, &dataset)) {
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
    CHECK_STATUS(lorasc_trainer_run(first.trainer, dataset, dataset, stop_at_4, NULL),
                 LORASC_E_CANCELLED);
    CHECK_OK(lorasc_trainer_save(first.trainer, state));
    CHECK_OK(lorasc_trainer_resume(second.trainer, state));
    CHECK_OK(lorasc_trainer_run(second.trainer, dataset, dataset, NULL, NULL));
    CHECK(same_values(whole.adapter, second.adapter));
  }
  lorasc_dataset_free(dataset);
  fixture_close(&whole);
  fixture_close(&first);
  fixture_close(&second);
}

/* Each trouble stops a run with its status after the last whole step; without it the run goes on
 * to the bits of one that never had any. */
void data_callback_refused(void) {
  static const struct {
    trouble trouble;
    lorasc_status status;
  } troubles[] = {
      {NO_BATCH, LORASC_E_ARGUMENT},    {NO_TOKENS, LORASC_E_ARGUMENT},
      {SHORT_STRUCT, LORASC_E_ARGUMENT}, {TOO_FEW, LORASC_E_SHAPE},
      {TOO_MANY, LORASC_E_SHAPE},       {FALLING_OFFSETS, LORASC_E_SHAPE},
      {FIRST_OFFSET, LORASC_E_SHAPE},   {BAD_TOKEN, LORASC_E_TOKEN},
      {BAD_LABEL, LORASC_E_LABEL},      {NO_LABELS, LORASC_E_LABEL},
      {BAD_WEIGHT, LORASC_E_NONFINITE}, {CANCEL, LORASC_E_CANCELLED},
  };
  static source s;
  fixture whole;
  if (fixture_open(&whole, RUN))
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
  for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
    fixture f;
    lorasc_dataset *dataset = NULL;
    lorasc_trainer_description info = {.struct_size = sizeof info};
    lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
    char about[32];
    snprintf(about, sizeof about, "trouble %d", (int)troubles[i].trouble);
    check_about(about);
    if (fixture_open(&f, RUN) && source_open(&f, &s, &dataset)) {
      s.trouble = troubles[i].trouble;
      s.at = 1;
      CHECK_STATUS(lorasc_trainer_evaluate(f.trainer, dataset, 0, &evaluation),
                   troubles[i].status);
      s.at = s.rows.requests + 5; /* the second step of the second epoch */
      CHECK_STATUS(lorasc_trainer_run(f.trainer, dataset, NULL, NULL, NULL), troubles[i].status);
      CHECK_OK(lorasc_trainer_info(f.trainer, &info));
      CHECK(info.step == 4);
      CHECK_OK(lorasc_trainer_run(f.trainer, dataset, NULL, NULL, NULL));
      CHECK(same_values(whole.adapter, f.adapter));
    }
    lorasc_dataset_free(dataset);
    fixture_close(&f);
  }
  check_about(NULL);
  fixture_close(&whole);
}

void data_callback_arguments(void) {
  static row_source rows;
  lorasc_dataset *dataset = NULL;
  CHECK_STATUS(lorasc_dataset_from_callback(4, NULL, &rows, &dataset), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_dataset_from_callback(4, read_rows, &rows, NULL), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_dataset_from_callback(0, read_rows, &rows, &dataset), LORASC_E_SHAPE);
  CHECK_STATUS(lorasc_dataset_from_callback((size_t)1 << 31, read_rows, &rows, &dataset),
               LORASC_E_SHAPE);
  CHECK_STATUS(lorasc_dataset_from_callback(SIZE_MAX, read_rows, &rows, &dataset),
               LORASC_E_SHAPE);
  CHECK(dataset == NULL);
}

static void use_library(fixture *f) {
  float logits[FIXTURE_ROWS * TINY_LABELS];
  size_t need;
  double rate;
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  CHECK_STATUS(lorasc_trainer_accumulate(f->trainer, &f->rows.batch, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_run(f->trainer, f->dataset, NULL, NULL, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_evaluate(f->trainer, f->dataset, 0, &evaluation), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_save(f->trainer, in_folder("unmade")), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_set_loss(f->trainer, cross_entropy, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_get_learning_rate(f->trainer, &rate), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_predict(f->model, f->adapter, &f->rows.batch, 0, logits,
                              FIXTURE_ROWS * TINY_LABELS, &need), LORASC_E_BUSY);
  CHECK_OK(lorasc_predict(f->model, NULL, &f->rows.batch, LORASC_PREDICT_EMBEDDING, NULL, 0,
                          &need));
}

static void interrupt(fixture *f) { CHECK_OK(lorasc_trainer_interrupt(f->trainer)); }
static void free_trainer(fixture *f) { lorasc_trainer_free(f->trainer); }

void data_callback_uses_library(void) {
  fixture f;
  static source s;
  lorasc_dataset *dataset = NULL;
  if (fixture_open(&f, RUN) && source_open(&f, &s, &dataset)) {
    s.use = use_library;
    CHECK_OK(lorasc_trainer_run(f.trainer, dataset, dataset, NULL, NULL));
  }
  lorasc_dataset_free(dataset);
  fixture_close(&f);
  if (fixture_open(&f, RUN) && source_open(&f, &s, &dataset)) {
    s.use = interrupt;
    CHECK_STATUS(lorasc_trainer_run(f.trainer, dataset, NULL, NULL, NULL), LORASC_E_INTERRUPTED);
    s.use = free_trainer; /* in the middle of its run: some status, and the handle is gone */
    (void)lorasc_trainer_run(f.trainer, dataset, NULL, NULL, NULL);
    CHECK_STATUS(lorasc_trainer_apply(f.trainer, NULL), LORASC_E_HANDLE);
  }
  lorasc_dataset_free(dataset);
  fixture_close(&f);
}
