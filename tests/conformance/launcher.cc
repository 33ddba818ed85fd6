// SPDX-License-Identifier: Apache-2.0
#include "launcher.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace launcher {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string ending(int index, int status) {
  const std::string who = "process " + std::to_string(index);
  if (WIFSIGNALED(status))
    return who + " was killed by signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
  return who + " ended with status " + std::to_string(WEXITSTATUS(status));
}

uint64_t movement(const Page& page) {
  uint64_t sum = 0;
  for (const Page::Member& member : page.member) sum += member.at.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace

tuttiUniqueId Page::await() const {
  while (id_ready.load(std::memory_order_acquire) == 0) usleep(200);
  return id;
}

SharedPage::SharedPage() {
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(2);
  }
  page_ = new (memory) Page;
}
SharedPage::~SharedPage() { munmap(page_, sizeof(Page)); }

Outcome run(int processes, Page& page, double stall_seconds, const std::function<int(int index)>& body,
            const std::function<void()>& on_stall, double grace_seconds) {
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t parent = getpid();
  std::vector<pid_t> children;
  Outcome outcome;
  for (int index = 0; index < processes; ++index) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(2);
      const int status = body(index);
      std::fflush(stdout);
      std::fflush(stderr);
      std::exit(status);
    }
    if (child < 0) {
      outcome.text = std::string("fork: ") + strerror(errno);
      break;
    }
    children.push_back(child);
  }
  const auto kill_all = [&] {
    for (const pid_t child : children)
      if (child > 0) kill(child, SIGKILL);
  };
  if (!outcome.text.empty()) kill_all();

  size_t alive = children.size();
  uint64_t seen = movement(page);
  Clock::time_point moved = Clock::now(), failed_at{};
  bool killed = !outcome.text.empty();
  unsigned pause_us = 100;
  while (alive > 0) {
    bool ended = false;
    for (size_t index = 0; index < children.size(); ++index) {
      int status = 0;
      if (children[index] <= 0 || waitpid(children[index], &status, WNOHANG) != children[index]) continue;
      children[index] = 0, --alive, ended = true;
      if (status == 0 || killed) continue;
      if (outcome.failed < 0) {
        outcome.failed = static_cast<int>(index), failed_at = Clock::now();
        outcome.text = ending(static_cast<int>(index), status);
      }
    }
    if (const uint64_t now = movement(page); now != seen || ended) seen = now, moved = Clock::now();
    if (!killed && outcome.failed >= 0 && seconds_since(failed_at) > grace_seconds) kill_all(), killed = true;
    if (!killed && seconds_since(moved) > stall_seconds) {
      if (on_stall) on_stall();
      outcome.stalled = true;
      if (outcome.text.empty())
        outcome.text = "nothing moved for " + std::to_string(static_cast<int>(stall_seconds)) + " s";
      kill_all(), killed = true;
    }
    if (alive > 0) usleep(pause_us);
    if (pause_us < 5000) pause_us += 100;
  }
  outcome.ok = outcome.text.empty();
  return outcome;
}

}  // namespace launcher
