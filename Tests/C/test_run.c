/* lorasc_trainer_run: events, learning, callbacks, interrupts, save and resume. */
#define _POSIX_C_SOURCE 200809L
#include "fixture.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 24 rows, 8 a batch, 4 epochs: 12 steps, 4 cascades. */
#define RUN "method=lorasc epochs=4 learning_rate=0.01 seed=3 "
enum { STEPS = 12, EPOCHS = 4 };

typedef struct watcher {
  fixture *f;
  int events[8];
  uint64_t stop_at; /* a step; 0: never */
  uint64_t last_step;
  double first_loss, last_loss;
  int32_t answer;
  void (*at_stop)(struct watcher *watcher);
  lorasc_signal_fn function;
} watcher;

static int32_t watch(const lorasc_progress *progress, void *user) {
  watcher *w = user;
  CHECK(progress->struct_size == sizeof *progress);
  CHECK(progress->event >= LORASC_EVENT_STEP && progress->event <= LORASC_EVENT_END);
  w->events[progress->event % 8]++;
  CHECK(w->events[LORASC_EVENT_END] == (progress->event == LORASC_EVENT_END));
  CHECK(progress->total_steps == STEPS && progress->total_epochs == EPOCHS);
  CHECK(progress->epoch >= 1 && progress->epoch <= EPOCHS);
  CHECK(progress->total_cascades == EPOCHS);
  CHECK(progress->cascade >= 1 && progress->cascade <= progress->total_cascades);
  CHECK(progress->seconds >= progress->train_seconds && progress->train_seconds >= 0);
  CHECK(progress->seconds_left >= 0);
  bool evaluated =
      progress->event == LORASC_EVENT_EVALUATION || progress->event == LORASC_EVENT_CASCADE;
  CHECK(evaluated || isnan(progress->eval_loss));
  CHECK(progress->event == LORASC_EVENT_CASCADE || isnan(progress->fast_loss));
  if (progress->event != LORASC_EVENT_STEP) return 0;
  CHECK(progress->step == w->last_step + 1);
  CHECK(progress->loss > 0 && progress->tokens > 0 && progress->gradient_norm >= 0);
  w->last_step = progress->step;
  if (progress->step == 1) w->first_loss = progress->loss;
  w->last_loss = progress->loss;
  if (progress->step != w->stop_at) return 0;
  if (w->at_stop) w->at_stop(w);
  return w->answer;
}

static lorasc_status run(fixture *f, watcher *w) {
  w->f = f;
  return lorasc_trainer_run(f->trainer, f->dataset, f->dataset, watch, w);
}

void run_events(void) {
  fixture f;
  watcher w = {0};
  lorasc_evaluation before = {.struct_size = sizeof before}, after = before;
  lorasc_trainer_description info = {.struct_size = sizeof info};
  if (fixture_open(&f, RUN)) {
    CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &before));
    CHECK_OK(run(&f, &w));
    CHECK(w.events[LORASC_EVENT_STEP] == STEPS);
    CHECK(w.events[LORASC_EVENT_END] == 1);
    CHECK(w.events[LORASC_EVENT_EVALUATION] + w.events[LORASC_EVENT_CASCADE] >= EPOCHS);
    CHECK(w.events[LORASC_EVENT_CASCADE] == EPOCHS);
    CHECK(w.events[LORASC_EVENT_EVALUATING] > 0);
    CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &after));
    CHECK(after.loss < before.loss);
    CHECK_OK(lorasc_trainer_info(f.trainer, &info));
    CHECK(info.step == STEPS && info.total_steps == STEPS && info.cascade == EPOCHS);
  }
  fixture_close(&f);
}

void run_without_callback(void) {
  fixture silent, watched;
  watcher w = {0};
  if (fixture_open(&silent, RUN) && fixture_open(&watched, RUN)) {
    CHECK_OK(lorasc_trainer_run(silent.trainer, silent.dataset, NULL, NULL, NULL));
    CHECK_OK(run(&watched, &w));
    CHECK(same_values(silent.adapter, watched.adapter)); /* watching changes nothing */
  }
  fixture_close(&silent);
  fixture_close(&watched);
}

/* Stopped by `how` at step 5 (in the second cascade), then run to its end: the same bits
 * as without the stop. */
static void stopped(void (*how)(watcher *), int32_t answer, lorasc_status expected) {
  fixture whole, cut;
  if (fixture_open(&whole, RUN) && fixture_open(&cut, RUN)) {
    watcher w = {.stop_at = 5, .at_stop = how, .answer = answer};
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
    CHECK_STATUS(run(&cut, &w), expected);
    CHECK(w.last_step == 5 && w.events[LORASC_EVENT_END] == 0);
    w.stop_at = 0;
    CHECK_OK(run(&cut, &w));
    CHECK(w.last_step == STEPS && w.events[LORASC_EVENT_END] == 1);
    CHECK(same_values(whole.adapter, cut.adapter));
  }
  fixture_close(&whole);
  fixture_close(&cut);
}

void run_cancelled(void) {
  stopped(NULL, 1, LORASC_E_CANCELLED);
  stopped(NULL, -5, LORASC_E_CANCELLED);
}

static void interrupt_from_callback(watcher *w) {
  CHECK_OK(lorasc_trainer_interrupt(w->f->trainer));
}
static void *interrupt_thread(void *trainer) {
  CHECK_OK(lorasc_trainer_interrupt(trainer));
  return NULL;
}
static void interrupt_from_thread(watcher *w) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, interrupt_thread, w->f->trainer) == 0);
  pthread_join(thread, NULL);
}
static void interrupt_by_signal(watcher *w) {
  (void)w;
  raise(SIGUSR1);
}

void run_interrupted(void) {
  stopped(interrupt_from_callback, 0, LORASC_E_INTERRUPTED);
  stopped(interrupt_from_thread, 0, LORASC_E_INTERRUPTED);
}

void run_interrupted_before_and_after(void) {
  fixture f;
  watcher w = {0};
  if (fixture_open(&f, RUN)) {
    CHECK_OK(lorasc_trainer_interrupt(f.trainer));
    CHECK_OK(lorasc_trainer_interrupt(f.trainer)); /* twice counts once */
    CHECK_STATUS(run(&f, &w), LORASC_E_INTERRUPTED);
    CHECK(w.last_step == 0);
    CHECK_OK(run(&f, &w));
    CHECK_OK(lorasc_trainer_interrupt(f.trainer));
    CHECK_STATUS(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL),
                 LORASC_E_INTERRUPTED);
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL));
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
    CHECK_OK(lorasc_trainer_interrupt(f.trainer));
    lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
    CHECK_STATUS(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation),
                 LORASC_E_INTERRUPTED);
    CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation));
    CHECK_OK(lorasc_trainer_interrupt(f.trainer));
    lorasc_trainer_free(f.trainer);
    CHECK_STATUS(lorasc_trainer_interrupt(f.trainer), LORASC_E_HANDLE);
  }
  fixture_close(&f);
}

static void not_a_bound_function(int number) { (void)number; }

void run_interrupted_by_signal(void) {
  fixture f;
  lorasc_signal_fn function = NULL, second = NULL;
  if (fixture_open(&f, RUN)) {
    watcher w = {.stop_at = 5, .at_stop = interrupt_by_signal};
    struct sigaction action, old;
    REQUIRE(CHECK_OK(lorasc_bind_interrupt(f.trainer, &function)));
    CHECK_OK(lorasc_bind_interrupt(f.trainer, &second));
    CHECK(function != NULL && function != second);
    memset(&action, 0, sizeof action);
    action.sa_handler = function;
    sigaction(SIGUSR1, &action, &old);
    CHECK_STATUS(run(&f, &w), LORASC_E_INTERRUPTED);
    CHECK(w.last_step == 5);
    w.stop_at = 0;
    CHECK_OK(run(&f, &w));
    lorasc_trainer_free(f.trainer);
    raise(SIGUSR1); /* outlives the trainer, and does nothing */
    sigaction(SIGUSR1, &old, NULL);
    CHECK_OK(lorasc_unbind(function));
    CHECK_STATUS(lorasc_unbind(function), LORASC_E_HANDLE);
    CHECK_STATUS(lorasc_unbind(not_a_bound_function), LORASC_E_HANDLE);
    CHECK_OK(lorasc_unbind(second));
  }
  fixture_close(&f);
}

/* What a callback may and may not do. */
static void use_library(watcher *w) {
  static float matrix[TINY_HIDDEN * TINY_HIDDEN];
  fixture *f = w->f;
  size_t need;
  double rate;
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  CHECK_OK(lorasc_trainer_save(f->trainer, in_folder("from-callback")));
  CHECK_OK(lorasc_trainer_merged(f->trainer, "encoder.layer.1.attention.self.value.weight",
                                 matrix, TINY_HIDDEN * TINY_HIDDEN, &need));
  CHECK_OK(lorasc_trainer_get_learning_rate(f->trainer, &rate));
  CHECK_OK(lorasc_trainer_set_learning_rate(f->trainer, rate));
  CHECK_STATUS(lorasc_trainer_accumulate(f->trainer, &f->rows.batch, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_apply(f->trainer, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_cascade(f->trainer, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_evaluate(f->trainer, f->dataset, 0, &evaluation), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_run(f->trainer, f->dataset, NULL, NULL, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_resume(f->trainer, in_folder("from-callback")), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_adapter_copy_out(f->adapter, "x", matrix, 1, &need), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_adapter_merge(f->model, f->adapter, in_folder("unmade"), NULL),
               LORASC_E_BUSY);
  CHECK_STATUS(lorasc_predict(f->model, f->adapter, &f->rows.batch, 0, matrix,
                              TINY_HIDDEN * TINY_HIDDEN, &need), LORASC_E_BUSY);
  /* The model and the dataset are everybody's. */
  CHECK_OK(lorasc_predict(f->model, NULL, &f->rows.batch, LORASC_PREDICT_EMBEDDING, matrix,
                          TINY_HIDDEN * TINY_HIDDEN, &need));
  CHECK(lorasc_dataset_rows(f->dataset) == FIXTURE_ROWS);
}

void run_callback_uses_library(void) {
  fixture whole, used;
  if (fixture_open(&whole, RUN) && fixture_open(&used, RUN)) {
    watcher w = {.stop_at = 5, .at_stop = use_library};
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
    CHECK_OK(run(&used, &w));
    CHECK(same_values(whole.adapter, used.adapter));
  }
  fixture_close(&whole);
  fixture_close(&used);
}

static void free_trainer(watcher *w) { lorasc_trainer_free(w->f->trainer); }

/* Freed in the middle of its run: the run ends in some status, the handle is gone. */
void run_callback_frees(void) {
  fixture f;
  if (fixture_open(&f, RUN)) {
    watcher w = {.stop_at = 5, .at_stop = free_trainer};
    (void)run(&f, &w);
    CHECK_STATUS(lorasc_trainer_apply(f.trainer, NULL), LORASC_E_HANDLE);
    CHECK_OK(lorasc_trainer_create(f.model, f.adapter, f.options, &f.trainer));
  }
  fixture_close(&f);
}

/* ---- Save and resume ------------------------------------------------------------- */

static void saved_at(uint64_t step, const char *settings) {
  fixture whole, first, second;
  char state[1024];
  snprintf(state, sizeof state, "%s", in_folder("state"));
  if (fixture_open(&whole, settings) && fixture_open(&first, settings) &&
      fixture_open(&second, settings)) {
    watcher w = {.stop_at = step, .answer = 1};
    CHECK_OK(lorasc_trainer_run(whole.trainer, whole.dataset, NULL, NULL, NULL));
    CHECK_STATUS(run(&first, &w), LORASC_E_CANCELLED);
    CHECK_OK(lorasc_trainer_save(first.trainer, state));
    CHECK_OK(lorasc_trainer_resume(second.trainer, state));
    CHECK(same_values(first.adapter, second.adapter));
    w.stop_at = 0;
    CHECK_OK(run(&second, &w));
    CHECK(same_values(whole.adapter, second.adapter));
  }
  fixture_close(&whole);
  fixture_close(&first);
  fixture_close(&second);
  remove_tree(state);
}

void state_resumed(void) {
  for (uint64_t step = 1; step < STEPS; step += 2) saved_at(step, RUN);
  saved_at(5, RUN "slow_rule=ema reinit=same_a slow_head=true");
  saved_at(6, RUN "slow_rule=ema_factors reinit=same_a");
  saved_at(4, RUN "noise_lifetime=persist noise_form=gaussian");
  saved_at(7, RUN "boundary_optimizer=keep hidden_dropout=0.1 attention_dropout=0.1");
  saved_at(8, RUN "optimizer=sgd schedule=cosine warmup_steps=2 gradient_accumulation_steps=1");
}

void state_refused(void) {
  fixture f, other;
  char state[1024], bad[1024];
  size_t count = 0;
  snprintf(state, sizeof state, "%s", in_folder("state"));
  snprintf(bad, sizeof bad, "%s", in_folder("bad-state"));
  if (fixture_open(&f, RUN)) {
    watcher w = {.stop_at = 5, .answer = 1};
    CHECK_STATUS(run(&f, &w), LORASC_E_CANCELLED);
    CHECK_OK(lorasc_trainer_save(f.trainer, state));
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL));
    CHECK_STATUS(lorasc_trainer_save(f.trainer, state), LORASC_E_STATE);
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
    CHECK(lorasc_trainer_save(f.trainer, in_folder("no-folder/state")) != LORASC_OK);
    CHECK(lorasc_trainer_save(f.trainer, tiny_model_path()) != LORASC_OK);

    if (fixture_open(&other, RUN "r=3")) {
      CHECK_STATUS(lorasc_trainer_resume(other.trainer, state), LORASC_E_MISMATCH);
      CHECK(lorasc_last_error()->subject[0] != '\0');
      CHECK_STATUS(lorasc_trainer_resume(other.trainer, in_folder("nowhere")),
                   LORASC_E_NOT_FOUND);
      CHECK(lorasc_trainer_resume(other.trainer, tiny_model_path()) != LORASC_OK);
    }
    fixture_close(&other);

    /* Cut anywhere, or with a bit turned over: refused, and the trainer is what it was. */
    unsigned char *bytes = read_file(state, &count);
    float *before = NULL, *after = NULL;
    size_t values = 0;
    if (CHECK(bytes && count > 1000) && fixture_open(&other, RUN)) {
      before = adapter_values(other.adapter, &values);
      for (int i = 0; i < 40; i++) {
        size_t length = i < 20 ? (size_t)i : (size_t)(i - 20) * (count / 20);
        CHECK(write_file(bad, bytes, length));
        CHECK_STATUS(lorasc_trainer_resume(other.trainer, bad), LORASC_E_FORMAT);
      }
      for (int i = 0; i < 64; i++) {
        size_t place = i < 32 ? (size_t)i : (size_t)(i - 32) * (count / 32);
        bytes[place] ^= 0x10;
        CHECK(write_file(bad, bytes, count));
        CHECK(lorasc_trainer_resume(other.trainer, bad) != LORASC_OK);
        bytes[place] ^= 0x10;
      }
      after = adapter_values(other.adapter, &values);
      CHECK(same_bits(before, after, values));
      CHECK_OK(lorasc_trainer_resume(other.trainer, state));
      CHECK(same_values(f.adapter, other.adapter));
      fixture_close(&other);
    }
    free(before);
    free(after);
    free(bytes);
  }
  fixture_close(&f);
}
