/* SPDX-License-Identifier: Apache-2.0
 * Training that goes on when a rank is lost.
 *
 *   survive [ranks [victim [step]]]     defaults: 4 ranks, rank 1 is killed (kill -9) in step 30
 *
 * Each rank is a process that fits y = w * x by gradient descent on its share of the samples; an AllReduce adds the
 * gradients. The parent plays the part of a launcher: it kills the victim, notices that a process has ended, and tells
 * the others which. They shrink the communicator to those that are left, agree on the last step that all of them have
 * completed, go back to it, divide the samples anew and train on: the result is the same as without the loss.
 *
 * Going back takes one old copy of the weights: no rank completes step s + 1 before all have completed step s. */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <tutti/tutti.h>
#include <unistd.h>

enum { WEIGHTS = 64, SAMPLES = 512, STEPS = 200, MOST_RANKS = 64 };

/* What a launcher tells its ranks; here a page that all share. */
typedef struct {
  tuttiUniqueId id;
  atomic_int id_ready;
  atomic_int dead[MOST_RANKS];
  atomic_int at_step[MOST_RANKS];
} Board;

typedef struct {
  int step; /* completed so far */
  double weights[WEIGHTS];
} Model;

static void pause_ms(long ms) {
  const struct timespec time = {0, ms * 1000000L};
  nanosleep(&time, NULL);
}

static double pseudo_random(unsigned* state) {
  *state = *state * 1664525u + 1013904223u;
  return (double)(*state >> 8) / (1 << 24) - 0.5;
}
static double true_weight(int i) { return (i % 7) - 3; }

/* The gradient of this rank's samples: those whose number leaves its rank when divided by n. */
static void gradient_of(const Model* model, int rank, int n, double* gradient) {
  memset(gradient, 0, WEIGHTS * sizeof *gradient);
  for (int s = rank; s < SAMPLES; s += n) {
    double x[WEIGHTS], error = 0;
    unsigned state = (unsigned)s * 2654435761u + 1;
    for (int i = 0; i < WEIGHTS; ++i) {
      x[i] = pseudo_random(&state);
      error += x[i] * (model->weights[i] - true_weight(i));
    }
    for (int i = 0; i < WEIGHTS; ++i) gradient[i] += error * x[i];
  }
}

static tuttiResult_t train_one_step(tuttiComm_t comm, Model* now, Model* before) {
  double gradient[WEIGHTS];
  int rank = 0, n = 0;
  tuttiCommRank(comm, &rank);
  tuttiCommCount(comm, &n);
  gradient_of(now, rank, n, gradient);
  const tuttiResult_t result = tuttiAllReduce(gradient, gradient, WEIGHTS, TUTTI_FLOAT64, TUTTI_SUM, comm, NULL);
  if (result != TUTTI_SUCCESS) return result;
  *before = *now;
  for (int i = 0; i < WEIGHTS; ++i) now->weights[i] -= 8.0 / SAMPLES * gradient[i];
  ++now->step;
  return TUTTI_SUCCESS;
}

/* Goes on with the ranks that the launcher does not know to be dead. `places`: world ranks by rank in *comm. */
static int recover(tuttiComm_t* comm, Board* board, int* places, int* n, int me, Model* now, Model* before) {
  tuttiComm_t rest = NULL;
  for (int attempt = 0;; ++attempt) {
    int excluded[MOST_RANKS], count = 0;
    for (int r = 0; r < *n; ++r)
      if (atomic_load(&board->dead[places[r]])) excluded[count++] = r;
    if (count > 0 && tuttiCommShrink(*comm, excluded, count, &rest, NULL, TUTTI_SHRINK_ABORT) == TUTTI_SUCCESS) {
      int left = 0;
      for (int r = 0; r < *n; ++r) {
        int lost = 0;
        for (int i = 0; i < count; ++i) lost |= excluded[i] == r;
        if (!lost) places[left++] = places[r];
      }
      *n = left;
      break;
    }
    if (attempt == 1000) {
      fprintf(stderr, "rank %d: nobody is known to be lost, or: %s\n", me, tuttiGetLastError(NULL));
      return -1;
    }
    pause_ms(20); /* the launcher's word is on its way, or another rank has been lost */
  }
  tuttiCommDestroy(*comm);
  *comm = rest;
  int32_t last = now->step;
  if (tuttiAllReduce(&last, &last, 1, TUTTI_INT32, TUTTI_MIN, rest, NULL) != TUTTI_SUCCESS)
    return recover(comm, board, places, n, me, now, before);
  if (last < now->step) *now = *before;
  if (last != now->step) return -1; /* cannot be: the ranks are at most one step apart */
  printf("rank %d: %d ranks resume from step %d\n", me, *n, last);
  fflush(stdout);
  return 0;
}

static int run_rank(Board* board, int me, int n) {
  tuttiComm_t comm = NULL;
  Model now = {0, {0}}, before = {0, {0}};
  int places[MOST_RANKS];
  for (int r = 0; r < n; ++r) places[r] = r;
  if (me == 0) {
    if (tuttiGetUniqueId(&board->id) != TUTTI_SUCCESS) return 1;
    atomic_store(&board->id_ready, 1);
  }
  while (!atomic_load(&board->id_ready)) pause_ms(1);
  if (tuttiCommInitRank(&comm, n, board->id, me) != TUTTI_SUCCESS) {
    fprintf(stderr, "rank %d: %s\n", me, tuttiGetLastError(NULL));
    return 1;
  }
  while (now.step < STEPS) {
    atomic_store(&board->at_step[me], now.step);
    if (train_one_step(comm, &now, &before) == TUTTI_SUCCESS) continue;
    printf("rank %d: step %d failed: %s\n", me, now.step + 1, tuttiGetLastError(comm));
    if (recover(&comm, board, places, &n, me, &now, &before) != 0) return 1;
  }
  double worst = 0;
  for (int i = 0; i < WEIGHTS; ++i) worst = fmax(worst, fabs(now.weights[i] - true_weight(i)));
  printf("rank %d: %d steps done by %d ranks, weights are right within %.1e\n", me, now.step, n, worst);
  tuttiCommFinalize(comm);
  tuttiCommDestroy(comm);
  return worst < 1e-2 ? 0 : 1;
}

int main(int argc, char** argv) {
  const int n = argc > 1 ? atoi(argv[1]) : 4, victim = argc > 2 ? atoi(argv[2]) : 1;
  const int step = argc > 3 ? atoi(argv[3]) : 30;
  pid_t ranks[MOST_RANKS];
  if (n < 2 || n > MOST_RANKS || victim < 0 || victim >= n || step < 0 || step >= STEPS) {
    fprintf(stderr, "usage: survive [ranks 2..%d [victim [step 0..%d]]]\n", MOST_RANKS, STEPS - 1);
    return 2;
  }
  Board* board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (board == MAP_FAILED) return 1;
  for (int r = 0; r < n; ++r) atomic_init(&board->at_step[r], -1); /* not joined yet */
  for (int r = 0; r < n; ++r) {
    ranks[r] = fork();
    if (ranks[r] < 0) return 1;
    if (ranks[r] == 0) _exit(run_rank(board, r, n));
  }
  while (atomic_load(&board->at_step[victim]) < step) pause_ms(1);
  kill(ranks[victim], SIGKILL);
  int wrong = 0;
  for (int left = n; left > 0; --left) {
    int status = 0;
    const pid_t ended = wait(&status);
    for (int r = 0; r < n; ++r) {
      if (ranks[r] != ended) continue;
      if (status != 0) atomic_store(&board->dead[r], 1);
      if (r != victim && status != 0) wrong = 1;
    }
  }
  puts(wrong ? "survive: failed" : "survive: the survivors have finished the training");
  return wrong;
}
