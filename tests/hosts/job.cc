// SPDX-License-Identifier: Apache-2.0
#include "hosts/job.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>

namespace hosts {
namespace {

constexpr unsigned kLookUs = 1000;

void enter(const std::string& host) {
  const int fd = ::open(("/run/netns/" + host).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) {
    std::perror(host.c_str());
    std::_Exit(90);
  }
  ::close(fd);
}

int main_of_rank(int rank, int ranks, Board& board, const Job::Body& body) {
  tuttiComm_t comm = nullptr;
  tuttiResult_t code = TUTTI_SUCCESS;
  if (rank == 0) {
    code = tuttiGetUniqueId(&board.id);
    board.id_ready.store(1);
  }
  while (board.id_ready.load() == 0) ::usleep(kLookUs);
  if (code == TUTTI_SUCCESS) code = tuttiCommInitRank(&comm, ranks, board.id, rank);
  if (code != TUTTI_SUCCESS) {
    std::snprintf(board.rank[rank].text, sizeof board.rank[rank].text, "%s", tuttiGetLastError(nullptr));
    std::fprintf(stderr, "rank %d: %s\n", rank, board.rank[rank].text);
    return 90;
  }
  board.ready.fetch_add(1);
  const int status = body(rank, comm, board);
  board.rank[rank].ended_us.store(now_us());
  return status;
}

}  // namespace

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::vector<std::string> names() {
  std::vector<std::string> list;
  std::istringstream words(std::getenv("HOSTS") != nullptr ? std::getenv("HOSTS") : "");
  for (std::string name; words >> name;) list.push_back(name);
  return list;
}

int run_on(const std::string& host, const std::string& command) {
  const int state = std::system(("ip netns exec " + host + " " + command).c_str());
  return WIFEXITED(state) ? WEXITSTATUS(state) : 255;
}

Job::Job(const std::vector<std::string>& hosts, int per_host, std::vector<std::string> variables, Body body) {
  void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  board_ = new (memory) Board;
  const int ranks = static_cast<int>(hosts.size()) * per_host;
  std::fflush(nullptr);  // or each child says again what waits in the buffers
  const pid_t parent = ::getpid();
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) std::_Exit(90);
      for (std::string& variable : variables) ::putenv(variable.data());
      enter(hosts[static_cast<size_t>(rank / per_host)]);
      const int status = main_of_rank(rank, ranks, *board_, body);
      std::fflush(nullptr);
      std::_Exit(status);
    }
    children_.push_back(child);
  }
}

Job::~Job() {
  for (const pid_t child : children_)
    if (child > 0) ::kill(child, SIGKILL);
  for (const pid_t child : children_)
    if (child > 0) ::waitpid(child, nullptr, 0);
  ::munmap(board_, sizeof(Board));
}

bool Job::wait_ready(int limit_ms) {
  const int64_t until = now_us() + int64_t{limit_ms} * 1000;
  while (board_->ready.load() < ranks() && now_us() < until) ::usleep(kLookUs);
  return board_->ready.load() == ranks();
}

std::vector<int> Job::wait_all(int limit_ms) {
  const int64_t until = now_us() + int64_t{limit_ms} * 1000;
  std::vector<int> statuses(children_.size(), -1);
  for (size_t left = children_.size(); left > 0 && now_us() < until; ::usleep(kLookUs)) {
    for (size_t rank = 0; rank < children_.size(); ++rank) {
      int state = 0;
      if (children_[rank] <= 0 || ::waitpid(children_[rank], &state, WNOHANG) != children_[rank]) continue;
      children_[rank] = 0;
      --left;
      statuses[rank] = WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
    }
  }
  return statuses;
}

}  // namespace hosts
