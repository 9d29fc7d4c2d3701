/* Losses of the host's: the built-in one written as a callback, refusals, saved states. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUN "method=lorasc epochs=2 learning_rate=0.01 seed=3 max_batch_tokens=60 "

typedef enum trouble { NONE, NAN_LOSS, BAD_WEIGHT, NAN_GRADIENT, NO_WEIGHT, CANCEL } trouble;

typedef struct watched {
  trouble trouble;
  size_t calls, trained, items;
  fixture *f;
  void (*use)(fixture *f);
} watched;

/* The built-in loss, with something wrong, and a look at what is told. */
static int32_t watched_loss(lorasc_outputs *outputs, void *user) {
  watched *w = user;
  CHECK(outputs->struct_size == sizeof *outputs);
  CHECK(outputs->count > 0 && outputs->loss == 0 && outputs->loss_weight > 0);
  w->calls++;
  w->items += outputs->count;
  w->trained += outputs->gradient != NULL;
  for (size_t i = 0; i < outputs->count; i++) {
    size_t row = outputs->rows[i];
    if (!CHECK(row < FIXTURE_ROWS)) return 1;
    int64_t start = w->f->rows.offsets[row];
    if (outputs->places == NULL)
      CHECK(outputs->labels[i] == w->f->rows.labels[row]);
    else
      CHECK(outputs->labels[i] == w->f->rows.tokens[start + (int64_t)outputs->places[i]]);
  }
  for (size_t i = 0; outputs->gradient && i < outputs->count * outputs->width; i++)
    if (!CHECK(outputs->gradient[i] == 0)) break;
  if (w->use) w->use(w->f);
  int32_t answer = cross_entropy(outputs, NULL);
  switch (w->trouble) {
    case NONE: break;
    case NAN_LOSS: outputs->loss = NAN; break;
    case BAD_WEIGHT: outputs->loss_weight = -1; break;
    case NAN_GRADIENT: if (outputs->gradient) outputs->gradient[1] = NAN; break;
    case NO_WEIGHT: outputs->loss_weight = 0; break;
    case CANCEL: return -1;
  }
  return answer;
}

/* Over all trainable tensors, before apply, by each tensor's largest gradient. */
static double gradient_difference(const fixture *a, const fixture *b) {
  double worst = 0;
  for (size_t i = 0; i < lorasc_adapter_tensor_count(a->adapter); i++) {
    lorasc_tensor_info info = {.struct_size = sizeof info};
    if (!CHECK_OK(lorasc_adapter_tensor_info(a->adapter, i, &info))) return INFINITY;
    size_t count = info.elements, need;
    float *of_a = malloc(count * sizeof *of_a), *of_b = malloc(count * sizeof *of_b);
    float *zero = calloc(count, sizeof *zero);
    if (CHECK(of_a && of_b && zero) &&
        CHECK_OK(lorasc_trainer_gradient(a->trainer, info.name, of_a, count, &need)) &&
        CHECK_OK(lorasc_trainer_gradient(b->trainer, info.name, of_b, count, &need)))
      worst = fmax(worst, largest_difference(of_a, of_b, count) /
                              (largest_difference(of_a, zero, count) + 1e-12));
    free(of_a);
    free(of_b);
    free(zero);
  }
  return worst;
}

void loss_callback_same_bits(void) {
  fixture plain, own;
  watched w = {.f = &own};
  lorasc_evaluation evaluations[2] = {{.struct_size = sizeof *evaluations},
                                      {.struct_size = sizeof *evaluations}};
  if (fixture_open(&plain, RUN) && fixture_open(&own, RUN)) {
    CHECK_OK(lorasc_trainer_set_loss(own.trainer, watched_loss, &w));
    CHECK_OK(lorasc_trainer_run(plain.trainer, plain.dataset, plain.dataset, NULL, NULL));
    CHECK_OK(lorasc_trainer_run(own.trainer, own.dataset, own.dataset, NULL, NULL));
    CHECK(same_values(plain.adapter, own.adapter));
    CHECK(w.trained > 6 && w.trained < w.calls); /* batches in parts; evaluations */
    CHECK_OK(lorasc_trainer_evaluate(plain.trainer, plain.dataset, 0, &evaluations[0]));
    CHECK_OK(lorasc_trainer_evaluate(own.trainer, own.dataset, 0, &evaluations[1]));
    CHECK(memcmp(&evaluations[0].loss, &evaluations[1].loss, sizeof(double)) == 0);
    CHECK(evaluations[0].accuracy == evaluations[1].accuracy);
    size_t calls = w.calls;
    CHECK_OK(lorasc_trainer_set_loss(own.trainer, NULL, NULL));
    CHECK_OK(lorasc_trainer_evaluate(own.trainer, own.dataset, 0, &evaluations[1]));
    CHECK(evaluations[0].loss == evaluations[1].loss && w.calls == calls);
  }
  fixture_close(&plain);
  fixture_close(&own);
}

/* Tokens of a language model, whose built-in loss is in float32; with the output layer trained
 * too, which asks twice. */
void loss_callback_language(void) {
  static const char *const settings[] = {
      "head=lm schedule=constant num_labels=0",
      "head=lm schedule=constant num_labels=0 target_modules=q_proj,lm_head",
  };
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    fixture plain, own;
    watched w = {.f = &own};
    lorasc_evaluation evaluations[2] = {{.struct_size = sizeof *evaluations},
                                        {.struct_size = sizeof *evaluations}};
    check_about(settings[i]);
    if (fixture_open_on(&plain, tiny_decoder_path(), settings[i]) &&
        fixture_open_on(&own, tiny_decoder_path(), settings[i])) {
      CHECK_OK(lorasc_trainer_set_loss(own.trainer, watched_loss, &w));
      CHECK(step(&plain) && step(&own)); /* B is no longer 0 */
      CHECK_OK(lorasc_trainer_accumulate(plain.trainer, &plain.rows.batch, NULL));
      CHECK_OK(lorasc_trainer_accumulate(own.trainer, &own.rows.batch, NULL));
      CHECK(w.calls == (i == 0 ? w.trained : 2 * w.trained));
      CHECK_NEAR(gradient_difference(&plain, &own), 0, 1e-5);
      /* Met after parts of the output layer's gradient are added, if it has one. */
      w.trouble = NAN_GRADIENT;
      CHECK_STATUS(lorasc_trainer_accumulate(own.trainer, &own.rows.batch, NULL),
                   LORASC_E_NONFINITE);
      CHECK_STATUS(lorasc_trainer_apply(own.trainer, NULL), i == 0 ? LORASC_OK : LORASC_E_STATE);
      if (i == 1) { /* the same step, since nothing of the first attempts is left */
        w.trouble = NONE;
        CHECK_OK(lorasc_trainer_accumulate(own.trainer, &own.rows.batch, NULL));
        CHECK_NEAR(gradient_difference(&plain, &own), 0, 1e-5);
        CHECK_OK(lorasc_trainer_apply(own.trainer, NULL));
      }
      CHECK_OK(lorasc_trainer_apply(plain.trainer, NULL));
      w.trouble = NONE;
      CHECK_OK(lorasc_trainer_evaluate(plain.trainer, plain.dataset, 0, &evaluations[0]));
      CHECK_OK(lorasc_trainer_evaluate(own.trainer, own.dataset, 0, &evaluations[1]));
      CHECK_NEAR(evaluations[0].loss, evaluations[1].loss, 1e-4);
      CHECK(evaluations[0].rows == evaluations[1].rows);
      CHECK(evaluations[0].perplexity > 1 && isnan(evaluations[1].perplexity));
    }
    fixture_close(&plain);
    fixture_close(&own);
  }
  check_about(NULL);
}

/* On a failure nothing is added: the step that follows is that of the good call alone. */
void loss_callback_refused(void) {
  static const struct {
    trouble trouble;
    lorasc_status status;
    const char *subject;
  } troubles[] = {
      {NAN_LOSS, LORASC_E_NONFINITE, "loss"},
      {BAD_WEIGHT, LORASC_E_NONFINITE, "loss_weight"},
      {NAN_GRADIENT, LORASC_E_NONFINITE, "gradient"},
      {NO_WEIGHT, LORASC_E_NO_LOSS, "labels"},
      {CANCEL, LORASC_E_CANCELLED, ""},
  };
  fixture plain, own;
  watched w = {.f = &own};
  lorasc_stats stats = {.struct_size = sizeof stats};
  if (fixture_open(&plain, "schedule=constant") && fixture_open(&own, "schedule=constant")) {
    CHECK_OK(lorasc_trainer_set_loss(own.trainer, watched_loss, &w));
    CHECK_OK(lorasc_trainer_accumulate(own.trainer, &own.rows.batch, NULL));
    CHECK_STATUS(lorasc_trainer_set_loss(own.trainer, NULL, NULL), LORASC_E_STATE);
    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
      w.trouble = troubles[i].trouble;
      CHECK_STATUS(lorasc_trainer_accumulate(own.trainer, &own.rows.batch, &stats),
                   troubles[i].status);
      CHECK_TEXT(lorasc_last_error()->subject, troubles[i].subject);
    }
    w.trouble = NONE;
    CHECK_OK(lorasc_trainer_apply(own.trainer, &stats));
    CHECK(stats.rows == FIXTURE_ROWS && stats.loss > 0);
    CHECK(step(&plain));
    CHECK(same_values(plain.adapter, own.adapter));
    CHECK_STATUS(lorasc_trainer_set_loss(NULL, watched_loss, &w), LORASC_E_HANDLE);
  }
  fixture_close(&plain);
  fixture_close(&own);
  if (fixture_open(&own, "label_smoothing=0.1")) {
    CHECK_STATUS(lorasc_trainer_set_loss(own.trainer, watched_loss, &w), LORASC_E_OPTION);
    CHECK_TEXT(lorasc_last_error()->subject, "label_smoothing");
  }
  fixture_close(&own);
}

static void use_library(fixture *f) {
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  CHECK_STATUS(lorasc_trainer_accumulate(f->trainer, &f->rows.batch, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_evaluate(f->trainer, f->dataset, 0, &evaluation), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_set_loss(f->trainer, NULL, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_adapter_set_scale(f->adapter, 1), LORASC_E_BUSY);
}
static void interrupt(fixture *f) { CHECK_OK(lorasc_trainer_interrupt(f->trainer)); }

void loss_callback_uses_library(void) {
  fixture f;
  watched w = {.f = &f};
  if (fixture_open(&f, RUN)) {
    CHECK_OK(lorasc_trainer_set_loss(f.trainer, watched_loss, &w));
    w.use = use_library;
    CHECK_OK(lorasc_trainer_run(f.trainer, f.dataset, f.dataset, NULL, NULL));
    w.use = interrupt;
    CHECK_STATUS(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL), LORASC_E_LIMIT);
  }
  fixture_close(&f);
  if (fixture_open(&f, RUN)) {
    CHECK_OK(lorasc_trainer_set_loss(f.trainer, watched_loss, &w));
    CHECK_STATUS(lorasc_trainer_run(f.trainer, f.dataset, NULL, NULL, NULL),
                 LORASC_E_INTERRUPTED);
  }
  fixture_close(&f);
}

static int32_t stop_at_4(const lorasc_progress *progress, void *user) {
  (void)user;
  return progress->step == 4;
}

/* A state says that a loss of the host's made it, and goes on to the same bits with it. */
void loss_callback_states(void) {
  fixture whole, first, second;
  watched w = {.f = &first};
  const char *state = in_folder("loss-state");
  if (fixture_open(&whole, RUN) && fixture_open(&first, RUN) && fixture_open(&second, RUN)) {
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
    CHECK_OK(lorasc_trainer_set_loss(first.trainer, watched_loss, &w));
    CHECK_STATUS(lorasc_trainer_run(first.trainer, first.dataset, NULL, stop_at_4, NULL),
                 LORASC_E_CANCELLED);
    CHECK_OK(lorasc_trainer_save(first.trainer, state));
    CHECK_STATUS(lorasc_trainer_resume(second.trainer, state), LORASC_E_MISMATCH);
    CHECK_TEXT(lorasc_last_error()->subject, "loss");
    CHECK_OK(lorasc_trainer_set_loss(second.trainer, watched_loss, &w));
    CHECK_OK(lorasc_trainer_resume(second.trainer, state));
    CHECK_OK(lorasc_trainer_run(second.trainer, second.dataset, NULL, NULL, NULL));
    CHECK(same_values(whole.adapter, second.adapter));
    CHECK_OK(lorasc_trainer_save(whole.trainer, state));
    CHECK_STATUS(lorasc_trainer_resume(second.trainer, state), LORASC_E_MISMATCH);
  }
  fixture_close(&whole);
  fixture_close(&first);
  fixture_close(&second);
}
