/* Several threads, several trainers, forks, and the host's own settings. */
#define _GNU_SOURCE
#include "fixture.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN "method=lorasc epochs=3 learning_rate=0.01 hidden_dropout=0.1 "

static void *use_options(void *user) {
  lorasc_options *options;
  char key[32];
  snprintf(key, sizeof key, "unknown_%d", *(int *)user);
  CHECK(lorasc_last_error()->status == LORASC_OK); /* a new thread has none */
  if (!options_make(&options, "")) return NULL;
  for (int i = 0; i < 2000; i++) {
    CHECK_STATUS(lorasc_options_set(options, key, "1"), LORASC_E_OPTION);
    if (!CHECK_TEXT(lorasc_last_error()->subject, key)) break;
  }
  lorasc_options_free(options);
  return NULL;
}

void threads_last_error(void) {
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    REQUIRE(CHECK(pthread_create(&threads[i], NULL, use_options, &numbers[i]) == 0));
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

/* OpenBLAS comes with the library; the program itself doesn't link it. */
static int (*blas_threads)(void);
static void (*set_blas_threads)(int);

static bool find_blas(void) {
  *(void **)&blas_threads = dlsym(RTLD_DEFAULT, "openblas_get_num_threads");
  *(void **)&set_blas_threads = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  return CHECK(blas_threads && set_blas_threads);
}

static void *train(void *user) {
  fixture *f = user;
  CHECK_OK(lorasc_trainer_run(f->trainer, f->dataset, f->dataset, NULL, NULL));
  return NULL;
}

void threads_two_trainers(void) {
  fixture alone[2], together[2];
  pthread_t threads[2];
  REQUIRE(find_blas());
  set_blas_threads(2);
  for (int i = 0; i < 2; i++) {
    const char *settings = i ? RUN "seed=2 threads=2" : RUN "seed=1";
    REQUIRE(fixture_open(&alone[i], settings) && fixture_open(&together[i], settings));
    train(&alone[i]);
    CHECK(blas_threads() == 2);
  }
  for (int i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, train, &together[i]) == 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  CHECK(blas_threads() == 2);
  for (int i = 0; i < 2; i++) {
    CHECK(same_values(alone[i].adapter, together[i].adapter));
    fixture_close(&alone[i]);
    fixture_close(&together[i]);
  }
}

void threads_same_bits(void) {
  static const char *others[] = {"threads=2", "threads=4", "threads=2 thread_pool=openmp"};
  fixture first, next;
  char settings[256];
  REQUIRE(CHECK(dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL)));
  if (fixture_open(&first, RUN "threads=1")) {
    train(&first);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
      snprintf(settings, sizeof settings, RUN "%s", others[i]);
      check_about(settings);
      if (fixture_open(&next, settings)) {
        train(&next);
        CHECK(same_values(first.adapter, next.adapter));
      }
      fixture_close(&next);
    }
  }
  fixture_close(&first);
}

void threads_of_nobody(void) {
  lorasc_options *options;
  lorasc_model *model = NULL;
  REQUIRE(CHECK(dlsym(RTLD_DEFAULT, "GOMP_parallel") == NULL)); /* until threads_same_bits */
  REQUIRE(options_make(&options, "thread_pool=openmp"));
  CHECK_STATUS(lorasc_model_open(tiny_model_path(), options, &model), LORASC_E_UNSUPPORTED);
  CHECK_TEXT(lorasc_last_error()->subject, "thread_pool");
  lorasc_options_free(options);
}

void threads_host_settings(void) {
  fixture f;
  size_t need;
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  REQUIRE(find_blas());
  for (int count = 1; count <= 2; count++) {
    set_blas_threads(count);
    if (fixture_open(&f, RUN "schedule=constant threads=2")) {
      CHECK(blas_threads() == count);
      CHECK(step(&f));
      CHECK(blas_threads() == count);
      CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation));
      float embedding[FIXTURE_ROWS * TINY_HIDDEN];
      CHECK_OK(lorasc_predict(f.model, f.adapter, &f.rows.batch, LORASC_PREDICT_EMBEDDING,
                              embedding, FIXTURE_ROWS * TINY_HIDDEN, &need));
      CHECK_OK(lorasc_adapter_merge(f.model, f.adapter, in_folder("host"), NULL));
      CHECK(blas_threads() == count);
    }
    fixture_close(&f);
    CHECK(blas_threads() == count);
  }
}

static void *intrude(void *user) {
  fixture *f = user;
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  size_t need;
  CHECK_STATUS(lorasc_trainer_apply(f->trainer, NULL), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_save(f->trainer, in_folder("unmade")), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_trainer_evaluate(f->trainer, f->dataset, 0, &evaluation), LORASC_E_BUSY);
  CHECK_STATUS(lorasc_adapter_copy_out(f->adapter, "x", NULL, 0, &need), LORASC_E_BUSY);
  float logits[FIXTURE_ROWS * TINY_LABELS];
  CHECK_STATUS(lorasc_predict(f->model, f->adapter, &f->rows.batch, 0, logits,
                              FIXTURE_ROWS * TINY_LABELS, &need), LORASC_E_BUSY);
  return NULL;
}

static int32_t let_intrude(const lorasc_progress *progress, void *user) {
  pthread_t thread;
  if (progress->event != LORASC_EVENT_STEP || progress->step != 2) return 0;
  CHECK(pthread_create(&thread, NULL, intrude, user) == 0);
  pthread_join(thread, NULL);
  return 0;
}

void threads_busy(void) {
  fixture f;
  if (fixture_open(&f, RUN))
    CHECK_OK(lorasc_trainer_run(f.trainer, f.dataset, NULL, let_intrude, &f));
  fixture_close(&f);
}

static void *free_it(void *user) {
  fixture *f = user;
  lorasc_trainer_free(f->trainer);
  lorasc_adapter_free(f->adapter);
  lorasc_model_free(f->model);
  lorasc_dataset_free(f->dataset);
  return NULL;
}

static int32_t let_free(const lorasc_progress *progress, void *user) {
  pthread_t thread;
  if (progress->event != LORASC_EVENT_STEP || progress->step != 2) return 0;
  CHECK(pthread_create(&thread, NULL, free_it, user) == 0);
  pthread_join(thread, NULL);
  return 0;
}

/* Freed by another thread while it trains: no crash, and gone for the next call. */
void threads_free_while_training(void) {
  fixture f;
  if (fixture_open(&f, RUN)) {
    (void)lorasc_trainer_run(f.trainer, f.dataset, NULL, let_free, &f);
    CHECK_STATUS(lorasc_trainer_apply(f.trainer, NULL), LORASC_E_HANDLE);
    CHECK(lorasc_dataset_rows(f.dataset) == 0);
  }
  fixture_close(&f);
}

/* ---- Forks ----------------------------------------------------------------------- */

static int in_child(fixture *f) {
  lorasc_options *options = NULL;
  lorasc_model *model = NULL;
  lorasc_model_description info = {.struct_size = sizeof info};
  size_t need;
  double rate;
  int wrong = 0;
#define EXPECT_STATE(call) \
  if ((call) != LORASC_E_STATE) { \
    wrong++; \
    fprintf(stderr, "in a forked child: %s\n", #call); \
  }
  EXPECT_STATE(lorasc_options_create(&options))
  EXPECT_STATE(lorasc_options_set(f->options, "r", "4"))
  EXPECT_STATE(lorasc_options_get(f->options, "r", NULL, 0, &need))
  EXPECT_STATE(lorasc_model_open(tiny_model_path(), NULL, &model))
  EXPECT_STATE(lorasc_model_info(f->model, &info))
  EXPECT_STATE(lorasc_predict(f->model, NULL, &f->rows.batch, 1, NULL, 0, &need))
  EXPECT_STATE(lorasc_adapter_copy_out(f->adapter, "x", NULL, 0, &need))
  EXPECT_STATE(lorasc_trainer_accumulate(f->trainer, &f->rows.batch, NULL))
  EXPECT_STATE(lorasc_trainer_apply(f->trainer, NULL))
  EXPECT_STATE(lorasc_trainer_run(f->trainer, f->dataset, NULL, NULL, NULL))
  EXPECT_STATE(lorasc_trainer_get_learning_rate(f->trainer, &rate))
  EXPECT_STATE(lorasc_trainer_interrupt(f->trainer))
  if (lorasc_last_error()->status != LORASC_E_STATE || !lorasc_last_error()->message[0]) wrong++;
  if (strcmp(lorasc_version(), LORASC_VERSION) != 0) wrong++;
  lorasc_trainer_free(f->trainer);
  lorasc_adapter_free(f->adapter);
  lorasc_dataset_free(f->dataset);
  lorasc_model_free(f->model);
  lorasc_options_free(f->options);
  return wrong;
}

void forked_child(void) {
  fixture f;
  int status = -1;
  if (fixture_open(&f, RUN "schedule=constant threads=2")) {
    CHECK(step(&f)); /* with threads at work before */
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      _exit(in_child(&f) ? 1 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(step(&f)); /* the parent goes on */
  }
  fixture_close(&f);
}
