// SPDX-License-Identifier: Apache-2.0
#include "faults/job.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace faults {

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

void nap_us(int64_t us) {
  timespec rest{us / 1'000'000, us % 1'000'000 * 1000};
  while (nanosleep(&rest, &rest) != 0) {
  }
}

void Report::set(int32_t result, const char* why) {
  if (code.load() >= 0) return;
  at_ms = now_ms();
  std::snprintf(text, sizeof text, "%s", why);
  code.store(result);
}

tuttiUniqueId Page::meet(int which, int rank) {
  if (rank == 0) {
    if (tuttiGetUniqueId(&ids[which]) != TUTTI_SUCCESS) std::abort();
    id_ready[which].store(1);
  }
  while (id_ready[which].load() == 0) nap_us(100);
  return ids[which];
}

void Page::gather(int which, int ranks) {
  arrived[which].fetch_add(1);
  while (arrived[which].load() < ranks) nap_us(100);
}

Job::Job(int ranks, const Environment& environment, const std::function<int(int rank, Page& page)>& body) {
  void* const memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  page_ = new (memory) Page;
  const pid_t parent = getpid();
  for (int rank = 0; rank < ranks; ++rank) {
    std::fflush(nullptr);
    const pid_t pid = fork();
    if (pid < 0) std::abort();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
      const int status = body(rank, *page_);
      std::fflush(nullptr);
      _exit(status);
    }
    pids_.push_back(pid);
  }
}

Ending Job::wait(int64_t limit_ms) {
  Ending ending;
  ending.status.resize(pids_.size());
  const int64_t limit = now_ms() + limit_ms;
  for (size_t left = pids_.size(); left > 0;) {
    const bool late = now_ms() > limit;
    if (late) ending.in_time = false;
    for (size_t rank = 0; rank < pids_.size(); ++rank) {
      if (pids_[rank] <= 0) continue;
      if (late) kill(pids_[rank], SIGKILL);
      if (waitpid(pids_[rank], &ending.status[rank], late ? 0 : WNOHANG) == 0) continue;
      pids_[rank] = 0;
      --left;
    }
    if (left > 0) nap_us(500);
  }
  return ending;
}

Job::~Job() {
  for (const pid_t pid : pids_) {
    if (pid > 0) kill(pid, SIGKILL);
  }
  for (const pid_t pid : pids_) {
    if (pid > 0) waitpid(pid, nullptr, 0);
  }
  munmap(page_, sizeof(Page));
}

}  // namespace faults
